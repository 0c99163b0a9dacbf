"""A label and a task outside the package: zones of distance by ordinal regression."""

import numpy as np
import torch
import torch.nn.functional as F

from mtl_plugins.evaluation.functional.scorer import IGNORE_LABEL
from mtl_plugins.labels.class_map import ClassMap
from mtl_plugins.labels.depth_codec import DECODE_TABLE
from mtl_plugins.models.tasks.dense_task import DenseTask
from mtl_plugins.registry import LABELS, MODELS

LIMITS = (10.0, 30.0)


@LABELS.register_module()
class DistanceZones(ClassMap):
    """Depth codes read as zones of distance: up to 10 m, up to 30 m, beyond."""

    def __init__(self, *, path='{split}/depth/{stem}.png', **arguments):
        zone_of = {code: int(np.searchsorted(LIMITS, DECODE_TABLE[code])) for code in range(1, 256)}
        super().__init__(path=path, mapping=zone_of, **arguments)


@MODELS.register_module()
class OrdinalTask(DenseTask):
    """Ordered classes: channel k says whether a pixel is farther than zone k (arXiv 1806.02446)."""

    loss_name = 'loss_ordinal'
    mergings = ('mean',)

    def __init__(self, *, num_classes: int, label: str | None = None) -> None:
        super().__init__(label=label)
        self.out_channels = num_classes - 1

    def valid_mask(self, target):
        return target != IGNORE_LABEL

    def loss(self, prediction, target):
        logits = self.upsample(prediction.float(), target.shape[-2:])
        farther = torch.stack([target > zone for zone in range(self.out_channels)], dim=1).float()
        valid = self.valid_mask(target)[:, None].expand_as(logits).float()
        return F.binary_cross_entropy_with_logits(logits, farther, weight=valid, reduction='sum') / valid.sum().clamp(min=1)

    def predict(self, prediction, size):
        return (self.upsample(prediction.float(), size) > 0).sum(1).to(torch.uint8)

    def view_values(self, output, merging, zoom):
        return output.sigmoid()

    def merged_view(self, total, num_views, merging):
        return (total / num_views > 0.5).sum(0).to(torch.uint8)
