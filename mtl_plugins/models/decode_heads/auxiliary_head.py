"""A further head that is charged in training only."""

from collections.abc import Sequence

from mtl_plugins.errors import ArgumentError
from mtl_plugins.models.decode_heads.joint_head import JointHead
from mtl_plugins.models.decode_heads.map_head import is_map_head


class AuxiliaryHead(JointHead):
    """A head for one map, of this package or of mmseg, that predicts some of the tasks from an earlier map of the pyramid.

    Args:
        config: The head's config and, with it, ``tasks`` and ``loss_weight``, see :class:`MultiTaskSegmentor`.
        in_channels: Widths of the feature pyramid.
        out_channels: Channels of each task's prediction.

    Raises:
        ArgumentError: If ``tasks`` names one that there is not, ``loss_weight`` is not positive, or the head is of another kind.
    """

    def __init__(self, config: dict, in_channels: Sequence[int | None], out_channels: dict[str, int]) -> None:
        head = dict(config)
        tasks, loss_weight = head.pop('tasks', list(out_channels)), head.pop('loss_weight', 0.4)
        tasks = [tasks] if isinstance(tasks, str) else list(tasks)
        unknown = [task for task in tasks if task not in out_channels]
        if unknown or not tasks:
            raise ArgumentError(f'`tasks` of an auxiliary head should be among {list(out_channels)}. Found {tasks}.')
        if not loss_weight > 0:
            raise ArgumentError(f'`loss_weight` of an auxiliary head should be positive. Found {loss_weight}.')
        if not is_map_head(head):
            raise ArgumentError(f'`auxiliary_head` should be a head for one map, as mmseg.FCNHead. Found {head["type"]}.')
        super().__init__(head=head, in_channels=in_channels, out_channels={task: out_channels[task] for task in tasks})
        self.loss_weight = loss_weight
