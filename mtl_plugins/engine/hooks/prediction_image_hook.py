"""Example predictions in the log backends after every validation."""

from collections.abc import Iterable, Mapping

import numpy as np
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmseg.structures import SegDataSample

from mtl_plugins.evaluation.metrics.streaming_metric import to_values
from mtl_plugins.labels.label_kind import LabelKind, sample_field
from mtl_plugins.labels.presets import build_labels
from mtl_plugins.registry import HOOKS
from mtl_plugins.visualization.prediction_grid import render_prediction_grid


@HOOKS.register_module()
class PredictionImageHook(Hook):
    """Draw the first validation images with labels, predictions and errors, and hand the picture to every log backend.

    Args:
        num_images: Rows of the picture.
        interval: Draw at every so many validations.
    """

    priority = 'LOW'
    picture_name = 'predictions'

    def __init__(self, num_images: int = 4, interval: int = 1) -> None:
        if num_images < 1 or interval < 1:
            raise ValueError(f'`num_images` and `interval` should be at least 1. Found {num_images} and {interval}.')
        self.num_images = num_images
        self.interval = interval
        self._rows: list[dict] = []
        self._validations = 0

    @master_only
    def after_val_iter(self, runner, batch_idx: int, data_batch: dict | None = None, outputs: list | None = None) -> None:
        if self._validations % self.interval:
            return
        wanted = outputs[: self.num_images - len(self._rows)]
        if wanted:
            names = list(runner.val_dataloader.dataset.metainfo['labels'])
            images = zip(data_batch['inputs'], wanted, strict=False)
            self._rows += [sample_arrays(image.numpy(), sample, names) for image, sample in images]

    @master_only
    def after_val_epoch(self, runner, metrics: dict[str, float] | None = None) -> None:
        self._validations += 1
        if self._rows:
            step = 0 if runner._train_loop is None or isinstance(runner._train_loop, dict) else runner.iter
            labels = build_labels(runner.val_dataloader.dataset.metainfo['labels'])
            runner.visualizer.add_image(self.picture_name, self.render(labels), step=step)
            self._rows = []

    def render(self, labels: Mapping[str, LabelKind]) -> np.ndarray:
        """The picture ``(H, W, 3)`` of the collected images, with the kinds of the data set's labels."""
        return render_prediction_grid(self._rows, labels)


def sample_arrays(image: np.ndarray, sample: SegDataSample, names: Iterable[str]) -> dict:
    """What :func:`render_prediction_grid` draws, from an image ``(H, W, 3)`` (padding included) and its data sample.

    ``names`` are those of the labels.
    """
    height, width = sample.ori_shape[:2]
    row = {'image': image[:height, :width], 'labels': {}, 'predictions': {}}
    for part, prefix in (('labels', 'gt'), ('predictions', 'pred')):
        for name in names:
            field = f'{prefix}_{sample_field(name)}'
            if field in sample:
                row[part][name] = to_values(sample.get(field).data)
    return row
