"""Example predictions in the log backends after every validation."""

from collections.abc import Sequence

import numpy as np
from mmengine.dist import master_only
from mmengine.hooks import Hook

from mtl_plugins.registry import HOOKS
from mtl_plugins.visualization.prediction_grid import render_prediction_grid

_FIELDS = {'semseg': 'gt_sem_seg', 'pred_semseg': 'pred_sem_seg', 'depth': 'gt_depth_map', 'pred_depth': 'pred_depth_map'}


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
        self._rows: list[dict[str, np.ndarray]] = []
        self._validations = 0

    @master_only
    def after_val_iter(self, runner, batch_idx: int, data_batch: dict | None = None, outputs: list | None = None) -> None:
        if self._validations % self.interval:
            return
        for index, sample in enumerate(outputs[: self.num_images - len(self._rows)]):
            self._rows.append(sample_arrays(data_batch['inputs'][index].numpy(), sample))

    @master_only
    def after_val_epoch(self, runner, metrics: dict[str, float] | None = None) -> None:
        self._validations += 1
        if self._rows:
            step = 0 if runner._train_loop is None or isinstance(runner._train_loop, dict) else runner.iter
            meta = runner.val_dataloader.dataset.metainfo
            runner.visualizer.add_image(self.picture_name, self.render(meta['classes'], meta['palette']), step=step)
            self._rows = []

    def render(self, classes: Sequence[str], palette: Sequence[Sequence[int]]) -> np.ndarray:
        """The picture ``(H, W, 3)`` of the collected images, with the names and colours of the data set."""
        return render_prediction_grid(self._rows, classes=classes, palette=palette)


def sample_arrays(image: np.ndarray, sample) -> dict[str, np.ndarray]:
    """What :func:`render_prediction_grid` draws, from an image ``(H, W, 3)`` (padding included) and its data sample."""
    height, width = sample.ori_shape[:2]
    row = {'image': image[:height, :width]}
    for name, field in _FIELDS.items():
        if field in sample:
            row[name] = sample.get(field).data[0].float().cpu().numpy()
            if 'semseg' in name:
                row[name] = row[name].astype(np.uint8)
    return row
