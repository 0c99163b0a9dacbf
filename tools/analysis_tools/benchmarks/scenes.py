"""Inputs of the benchmarks: generated street scenes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from mtl_plugins.evaluation.functional.scorer import IGNORE_LABEL
from mtl_plugins.labels.cityscapes_classes import CLASSES
from mtl_plugins.labels.depth_codec import DEPTH_MAX
from mtl_plugins.synthetic.streets.miniscapes_writer import write_miniscapes
from mtl_plugins.synthetic.streets.street_scenes import render_sample

NUM_CLASSES = len(CLASSES)
# Of our models' predictions before they are upsampled.
OUTPUT_STRIDE = 4


@dataclass(frozen=True)
class SceneArrays:
    """``images (N, H, W, 3)`` uint8, ``labels (N, H, W)`` uint8, 255 = ignored, ``depths (N, H, W)`` float32, 0 = invalid."""

    images: np.ndarray
    labels: np.ndarray
    depths: np.ndarray


def render_arrays(count: int, size: tuple[int, int], seed: int) -> SceneArrays:
    """The first scenes of a seed, as a data set would give them: no depth in the sky."""
    renderings = [render_sample(seed, 'train', index, size) for index in range(count)]
    depths = np.stack([rendering.depth for rendering in renderings])
    return SceneArrays(
        images=np.stack([rendering.image for rendering in renderings]),
        labels=np.stack([rendering.label for rendering in renderings]),
        depths=np.where(depths <= DEPTH_MAX, depths, 0).astype(np.float32),
    )


def imitate_predictions(scenes: SceneArrays) -> tuple[np.ndarray, np.ndarray]:
    """Labels and metres ``(N, H, W)`` as a model gives them: class shares and log depth on a grid of stride 4, upsampled.

    So objects are rounded, poles may vanish, and every pixel has a class and a depth.
    """
    labels, metres = [], []
    for label, depth in zip(scenes.labels, scenes.depths, strict=True):
        classes = torch.from_numpy(np.where(label == IGNORE_LABEL, 0, label)).long()
        log_depth = torch.from_numpy(np.where(depth > 0, depth, DEPTH_MAX)).log()
        shares = F.one_hot(classes, NUM_CLASSES).permute(2, 0, 1)[None].float()
        labels.append(_through_grid(shares)[0].max(0).indices.to(torch.uint8))
        metres.append(_through_grid(log_depth[None, None]).exp()[0, 0])
    return torch.stack(labels).numpy(), torch.stack(metres).numpy()


def _through_grid(maps: torch.Tensor) -> torch.Tensor:
    coarse = F.avg_pool2d(maps, OUTPUT_STRIDE)
    return F.interpolate(coarse, scale_factor=OUTPUT_STRIDE, mode='bilinear', align_corners=False)


def write_scenes(root: Path, count: int, size: tuple[int, int], seed: int, workers: int) -> Path:
    """A data root whose training split holds ``count`` scenes."""
    return write_miniscapes(root, count, 0, 0, size=size, seed=seed, workers=workers)
