"""A head per task over a shared encoder."""

from collections.abc import Sequence

from mmengine.model import BaseModule, ModuleDict
from torch import Tensor

from mtl_plugins.errors import ArgumentError
from mtl_plugins.models.decode_heads.map_head import build_head
from mtl_plugins.registry import MODELS


@MODELS.register_module()
class BranchedHead(BaseModule):
    """Independent heads of one kind, or of a kind per task, on the same features.

    Args:
        head: Config of a head for one prediction map, without ``in_channels`` and ``out_channels``.
        in_channels: Widths of the feature pyramid.
        out_channels: Channels of each task's prediction. One task is a single-task model.
        task_heads: Configs that replace ``head`` for the tasks they name.
        init_cfg: As in every mmengine module.

    Raises:
        ArgumentError: If ``task_heads`` names a task that ``out_channels`` lacks.
    """

    def __init__(
        self,
        *,
        head: dict,
        in_channels: Sequence[int],
        out_channels: dict[str, int],
        task_heads: dict[str, dict] | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        task_heads = task_heads or {}
        unknown = [task for task in task_heads if task not in out_channels]
        if unknown:
            raise ArgumentError(f'`task_heads` should name tasks out of {list(out_channels)}. Found {unknown}.')
        self.out_channels = dict(out_channels)
        self.heads = ModuleDict(
            {task: build_head(task_heads.get(task, head), in_channels, channels) for task, channels in out_channels.items()}
        )

    def forward(self, features: Sequence[Tensor]) -> dict[str, list[Tensor]]:
        return {task: [head(features)] for task, head in self.heads.items()}
