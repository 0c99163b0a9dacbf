"""Inputs of the benchmarks: generated street scenes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mtl_plugins.datasets.depth_codec import DEPTH_MAX
from mtl_plugins.datasets.synthetic.miniscapes_writer import write_miniscapes
from mtl_plugins.datasets.synthetic.street_scenes import render_sample

IGNORED_LABEL = 255


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
    """Labels and metres as an imperfect model gives them: everywhere, a few pixels off, depth up to 20 % wrong."""
    labels = np.roll(scenes.labels, 3, axis=2)
    labels = np.where(labels == IGNORED_LABEL, 0, labels).astype(np.uint8)
    columns = np.linspace(0, 6 * np.pi, scenes.labels.shape[2], dtype=np.float32)
    metres = np.where(scenes.depths > 0, scenes.depths, DEPTH_MAX)
    return labels, (np.roll(metres, 3, axis=2) * (1 + 0.2 * np.sin(columns))).astype(np.float32)


def write_scenes(root: Path, count: int, size: tuple[int, int], seed: int, workers: int) -> Path:
    """A data root whose training split holds ``count`` scenes."""
    return write_miniscapes(root, count, 0, 0, size=size, seed=seed, workers=workers, progress=False)
