"""All tasks from one head that shares everything but the last 1x1."""

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor

from mtl_plugins.models.decode_heads.map_head import build_head
from mtl_plugins.registry import MODELS


@MODELS.register_module()
class JointHead(BaseModule):
    """One head predicts the channels of all tasks; they are handed out in the order of ``out_channels``.

    Args:
        head: Config of a head for one prediction map, without ``in_channels`` and ``out_channels``.
        in_channels: Widths of the feature pyramid.
        out_channels: Channels of each task's prediction. One task is a single-task model.
        init_cfg: As in every mmengine module.
    """

    def __init__(
        self, *, head: dict, in_channels: Sequence[int], out_channels: dict[str, int], init_cfg: dict | None = None
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.out_channels = dict(out_channels)
        self.head = build_head(head, in_channels, sum(self.out_channels.values()))

    def forward(self, features: Sequence[Tensor]) -> dict[str, list[Tensor]]:
        predictions = self.head(features).split(list(self.out_channels.values()), dim=1)
        return {task: [prediction] for task, prediction in zip(self.out_channels, predictions, strict=True)}
