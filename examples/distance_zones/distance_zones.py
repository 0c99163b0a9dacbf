"""A plug-in outside the package: a data set and a task of its own, zones of distance by ordinal regression."""

import torch
import torch.nn.functional as F

from mtl_plugins.datasets.multitask.multitask_dataset import MultiTaskDataset
from mtl_plugins.labels.depth_codec import DECODE_TABLE
from mtl_plugins.models.tasks.dense_task import DenseTask
from mtl_plugins.registry import DATASETS, MODELS

ZONES = {'near': 10.0, 'middle': 30.0, 'far': float('inf')}


@DATASETS.register_module()
class ZonesDataset(MultiTaskDataset):
    """A MiniScapes folder whose depth codes are read as zones of distance: up to 10 m, up to 30 m, beyond."""

    @classmethod
    def offered_labels(cls, config):
        limits = list(ZONES.values())
        zone_of = {code: next(zone for zone, limit in enumerate(limits) if DECODE_TABLE[code] <= limit) for code in range(1, 256)}
        colours = [[255, 220, 80], [220, 80, 90], [70, 40, 110]]
        zones = dict(type='ClassMap', classes=list(ZONES), palette=colours, path='{split}/depth/{stem}.png', mapping=zone_of)
        return dict(zones=zones)


@MODELS.register_module()
class OrdinalTask(DenseTask):
    """Ordered classes: channel k says whether a pixel is farther than zone k (arXiv 1806.02446). Label 255 does not count."""

    loss_name = 'loss_ordinal'
    mergings = ('mean',)

    def __init__(self, *, num_classes: int, label: str | None = None, init_cfg: dict | None = None) -> None:
        super().__init__(label=label, init_cfg=init_cfg)
        self.out_channels = num_classes - 1

    def valid_mask(self, target):
        return target != 255

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
