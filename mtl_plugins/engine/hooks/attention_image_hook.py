"""Where each class looks, in the log backends after every validation."""

from collections.abc import Mapping

import numpy as np
from mmengine.dist import master_only

from mtl_plugins.engine.hooks.prediction_image_hook import PredictionImageHook
from mtl_plugins.labels.label_kind import LabelKind
from mtl_plugins.registry import HOOKS
from mtl_plugins.visualization.attention_maps import crop_attention, render_attention_grid


@HOOKS.register_module()
class AttentionImageHook(PredictionImageHook):
    """Draw the first validation images with labels, predictions and the attention of each class.

    For :class:`ClassConditionalSegmentor`. The maps are computed for the drawn images only.

    Args:
        num_images: Rows of the picture.
        interval: Draw at every so many validations.
    """

    picture_name = 'attention'

    @master_only
    def after_val_iter(self, runner, batch_idx: int, data_batch: dict | None = None, outputs: list | None = None) -> None:
        known = len(self._rows)
        super().after_val_iter(runner, batch_idx, data_batch, outputs)
        added = self._rows[known:]
        if not added:
            return
        model = getattr(runner.model, 'module', runner.model)
        inputs = model.data_preprocessor(dict(inputs=data_batch['inputs'][: len(added)]))['inputs']
        for row, attention in zip(added, model.attend(inputs).cpu().numpy(), strict=True):
            row['attention'] = crop_attention(attention, tuple(inputs.shape[-2:]), row['image'].shape[:2])

    def render(self, labels: Mapping[str, LabelKind]) -> np.ndarray:
        return render_attention_grid(self._rows, labels)
