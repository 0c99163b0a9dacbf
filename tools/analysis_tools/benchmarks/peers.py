"""The other packages, set up as their users would."""

import contextlib
import functools
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtl_plugins.labels.cityscapes_classes import CLASSES, PALETTE
from mtl_plugins.models.losses import silog_loss

MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)
DEPTH_RANGE = (0.1, 300.0)
NUM_CLASSES = len(CLASSES)


@functools.cache
def _statistics(device: torch.device) -> tuple[Tensor, ...]:
    return tuple(torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (MEAN, STD))


def normalise(images: Tensor) -> Tensor:
    """Normalise uint8 images ``(B, H, W, 3)`` to ``(B, 3, H, W)``."""
    mean, std = _statistics(images.device)
    return (images.permute(0, 3, 1, 2).float() - mean) / std


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the import messages and result tables of other packages off the terminal."""
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logging.disable(logging.NOTSET)


def build_smp_model() -> nn.Module:
    """Build segmentation-models-pytorch's DeepLabV3+ with 20 outputs at the input size: 19 logits and log depth."""
    with quiet():
        import segmentation_models_pytorch as smp
    return smp.DeepLabV3Plus('resnet18', encoder_weights=None, classes=NUM_CLASSES + 1, encoder_output_stride=16)


def smp_loss(output: Tensor, labels: Tensor, depths: Tensor) -> Tensor:
    """The losses of our joint configs at full resolution, in the plain way: ``output (B, 20, H, W)``, ``labels`` int64."""
    output = output.float()
    metres = output[:, NUM_CLASSES].clamp(*np.log(DEPTH_RANGE)).exp()
    cross_entropy = F.cross_entropy(output[:, :NUM_CLASSES], labels, ignore_index=255)
    return 0.5 * cross_entropy + 0.5 * silog_loss(metres, depths, depths > 0)


def smp_predictions(output: Tensor) -> tuple[Tensor, Tensor]:
    """uint8 labels and metres. Not by ``argmax``, which is up to ten times slower on CPU: the peer gets the trick too."""
    output = output.float()
    return output[:, :NUM_CLASSES].max(1).indices.to(torch.uint8), output[:, NUM_CLASSES].clamp(*np.log(DEPTH_RANGE)).exp()


def build_mmseg_model() -> nn.Module:
    """mmseg's EncoderDecoder with the stock DeepLabV3+ head, 256 channels, no auxiliary head; labels only, no depth."""
    with quiet():
        import mmseg.models  # noqa: F401
        from mmengine.config import ConfigDict
        from mmseg.registry import MODELS

        norm = dict(type='mmseg.BN', requires_grad=True)
        return MODELS.build(
            dict(
                type='mmseg.EncoderDecoder',
                backbone=dict(
                    type='mmseg.ResNet',
                    depth=18,
                    strides=(1, 2, 2, 1),
                    dilations=(1, 1, 1, 2),
                    norm_cfg=norm,
                    contract_dilation=True,
                ),
                decode_head=dict(
                    type='mmseg.DepthwiseSeparableASPPHead',
                    in_channels=512,
                    in_index=3,
                    channels=256,
                    dilations=(1, 6, 12, 18),
                    c1_in_channels=64,
                    c1_channels=48,
                    dropout_ratio=0.1,
                    num_classes=NUM_CLASSES,
                    norm_cfg=norm,
                    align_corners=False,
                    loss_decode=dict(type='mmseg.CrossEntropyLoss', use_sigmoid=False),
                ),
                train_cfg=dict(),
                # Read by attributes.
                test_cfg=ConfigDict(mode='whole'),
            )
        )


def build_mmseg_samples(labels: Tensor) -> list:
    """A data sample per label map of ``(B, H, W)``, as mmseg's heads want them."""
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    samples = []
    for label in labels:
        sample = SegDataSample(metainfo=dict(img_shape=tuple(label.shape)))
        sample.gt_sem_seg = PixelData(data=label[None])
        samples.append(sample)
    return samples


def build_mmseg_dataset(root: Path, crop_size: int, indices: Sequence[int]) -> torch.utils.data.Dataset:
    """mmseg's pipeline on a MiniScapes training split: load, crop, flip, pack. Depth stays the stored code."""
    with quiet():
        import mmseg.datasets.transforms  # noqa: F401
        from mmseg.datasets import BaseSegDataset

    class _Files(BaseSegDataset):
        def load_data_list(self) -> list[dict]:
            # The stock listing knows no depth files.
            infos = super().load_data_list()
            return [{**info, 'depth_map_path': info['seg_map_path'].replace('/semseg/', '/depth/')} for info in infos]

    steps = (
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations'),
        dict(type='LoadDepthAnnotation'),
        dict(type='RandomCrop', crop_size=(crop_size, crop_size)),
        dict(type='RandomFlip', prob=0.5),
        dict(type='PackSegInputs'),
    )
    return _Files(
        data_root=str(root),
        data_prefix=dict(img_path='train/rgb', seg_map_path='train/semseg'),
        img_suffix='.jpg',
        seg_map_suffix='.png',
        metainfo=dict(classes=CLASSES, palette=PALETTE),
        indices=indices,
        pipeline=[dict(step, _scope_='mmseg') for step in steps],
    )


def build_mmseg_preprocessor(crop_size: int) -> nn.Module:
    """Its data preprocessor: stacks, swaps channels and normalises."""
    with quiet():
        from mmseg.models.data_preprocessor import SegDataPreProcessor

    return SegDataPreProcessor(mean=MEAN, std=STD, bgr_to_rgb=True, pad_val=0, seg_pad_val=255, size=(crop_size, crop_size))


def build_mmseg_metrics() -> Callable[[list[dict]], None]:
    """Evaluates data samples with IoUMetric and DepthMetric; the latter with its defaults, as its argument raises."""
    with quiet():
        from mmseg.evaluation import DepthMetric, IoUMetric

    def evaluate(samples: list[dict]) -> None:
        with quiet():
            for metric in (IoUMetric(), DepthMetric()):
                metric.dataset_meta = dict(classes=CLASSES)
                for sample in samples:
                    metric.process({}, [sample])
                metric.evaluate(len(samples))

    return evaluate
