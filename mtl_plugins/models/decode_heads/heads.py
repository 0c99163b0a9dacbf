"""The head for one prediction map, and the heads of all tasks that are made of such heads."""

import sys
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseModule, ModuleDict
from torch import Tensor, nn

from mtl_plugins.errors import ArgumentError
from mtl_plugins.models.utils.build import QuietInit
from mtl_plugins.registry import MODELS
from mtl_plugins.utils.config_classes import accepted_arguments


class MapHead(QuietInit, BaseModule):
    """Features of the pyramid -> context (coarse) -> embedding (fine) -> predictor.

    Other heads build on the embedding of such a head: they exchange it between tasks, or compare it with bins or classes. Its
    constructor takes ``in_channels``, the widths of the five maps of the pyramid, and ``out_channels`` of the prediction; it sets
    the widths of context and embedding, and the predictor.
    """

    context_channels: int
    channels: int
    predictor: nn.Module

    @abstractmethod
    def embed(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Context ``(B, context_channels, h, w)`` and embedding ``(B, channels, H, W)``."""

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        return self.predictor(self.embed(features)[1])


def width_of(in_channels: Sequence[int | None], index: int) -> int:
    """Return the width of one map of the pyramid, or raise ArgumentError if the backbone does not give that map."""
    if not -len(in_channels) <= index < len(in_channels) or in_channels[index] is None:
        hint = ' A backbone gives the map at stride 2 if `with_stem=True`.' if index == 0 else ''
        raise ArgumentError(
            f'Map {index} of the feature pyramid should exist, as the head reads it. '
            f'Found a backbone with the widths {tuple(in_channels)}.{hint}'
        )
    return in_channels[index]


def is_map_head(head: dict) -> bool:
    """Return True for the config of a :class:`MapHead`, or of a decode head of mmseg, which becomes one."""
    kind = MODELS.get(head['type'])
    return kind is not None and (issubclass(kind, MapHead) or _is_of_mmseg(kind))


def _is_of_mmseg(kind: type) -> bool:
    # Whatever derives from it has imported it; importing all models of mmseg costs other runs seconds.
    module = sys.modules.get('mmseg.models.decode_heads.decode_head')
    return module is not None and issubclass(kind, module.BaseDecodeHead)


def check_reads_pyramid(head: dict) -> None:
    """Raise ArgumentError if the class of a head takes no ``in_channels`` and ``out_channels``."""
    kind = MODELS.get(head['type'])
    names = accepted_arguments(kind)
    if names is not None and not {'in_channels', 'out_channels'} <= names:
        raise ArgumentError(
            f'A head should take `in_channels` and `out_channels`, or be one of mmseg that classifies each pixel. '
            f'Found {head["type"]}.'
        )


def build_head(head: dict, in_channels: Sequence[int | None], out_channels: int) -> nn.Module:
    """Build a head for one map, of this package or of mmseg, from a config without ``in_channels`` and ``out_channels``."""
    if is_map_head(head) and _is_of_mmseg(MODELS.get(head['type'])):
        return MODELS.build(dict(type='MMSegHead', head=head, in_channels=in_channels, out_channels=out_channels))
    check_reads_pyramid(head)
    return MODELS.build({**head, 'in_channels': in_channels, 'out_channels': out_channels})


def build_map_head(head: dict, in_channels: Sequence[int | None], out_channels: int) -> MapHead:
    """Build as :func:`build_head` does; refuse a head without an embedding."""
    if MODELS.get(head['type']) is not None and not is_map_head(head):
        raise ArgumentError(f'`head` should be a map head with an embedding, as DeepLabV3PlusHead. Found {head["type"]}.')
    return build_head(head, in_channels, out_channels)


@MODELS.register_module()
class JointHead(QuietInit, BaseModule):
    """One head that predicts the channels of all tasks; they share everything but the last 1x1.

    Gives each task a list with one prediction ``(B, C, h, w)``, from the maps of the pyramid.

    Args:
        head: Config of a head for one prediction map, without ``in_channels`` and ``out_channels``.
        out_channels: Channels of each task's prediction, in this order. One task is a single-task model.
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


@MODELS.register_module()
class AttentiveHead(JointHead):
    """A :class:`JointHead` that passes each image once per task, with squeeze-and-excitations of the task's own.

    As in attentive single-tasking (arXiv 1904.08918), without its residual adapters and adversarial loss. The encoder,
    ``DilatedResNet(squeeze_excitation=16, num_tasks=2)``, gives the features of all tasks, ``(tasks * B, C, H, W)``.

    Args are those of :class:`JointHead`; ``head`` is a DeepLabV3PlusHead.
    """

    def __init__(self, *, head: dict, out_channels: dict[str, int], **kwargs: Any) -> None:
        super().__init__(head={**head, 'num_tasks': len(out_channels)}, out_channels=out_channels, **kwargs)
        self.num_tasks = len(out_channels)

    def forward(self, features: Sequence[Tensor]) -> dict[str, list[Tensor]]:
        predictions = super().forward(features).items()
        return {task: [both.chunk(self.num_tasks)[number]] for number, (task, (both,)) in enumerate(predictions)}


class AuxiliaryHead(JointHead):
    """A map head that predicts some tasks in training only; for its config see :class:`MultiTaskSegmentor`."""

    def __init__(self, config: dict, in_channels: Sequence[int | None], out_channels: dict[str, int]) -> None:
        head = dict(config)
        tasks, loss_weight = head.pop('tasks', list(out_channels)), head.pop('loss_weight', 0.4)
        tasks = [tasks] if isinstance(tasks, str) else list(tasks)
        if not tasks or not set(tasks) <= set(out_channels):
            raise ArgumentError(f'`tasks` of an auxiliary head should be among {list(out_channels)}. Found {tasks}.')
        if not loss_weight > 0:
            raise ArgumentError(f'`loss_weight` of an auxiliary head should be positive. Found {loss_weight}.')
        if not is_map_head(head):
            raise ArgumentError(f'`auxiliary_head` should be a head for one map, as mmseg.FCNHead. Found {head["type"]}.')
        super().__init__(head=head, in_channels=in_channels, out_channels={task: out_channels[task] for task in tasks})
        self.loss_weight = loss_weight


@MODELS.register_module()
class BranchedHead(QuietInit, BaseModule):
    """Independent heads of one kind, or of a kind per task, on the same features.

    Gives each task a list with one prediction ``(B, C, h, w)``, from the maps of the pyramid.

    Args:
        head: Config of a head for one prediction map, without ``in_channels`` and ``out_channels``.
        out_channels: Channels of each task's prediction. One task is a single-task model.
        task_heads: Configs that replace ``head`` for the tasks they name.
    """

    build_head = staticmethod(build_head)

    def __init__(
        self,
        *,
        head: dict,
        in_channels: Sequence[int | None],
        out_channels: dict[str, int],
        task_heads: dict[str, dict] | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        configs = {**dict.fromkeys(out_channels, head), **(task_heads or {})}  # `|` of mmengine merges the heads, too
        unknown = [task for task in configs if task not in out_channels]
        if unknown:
            raise ArgumentError(f'`task_heads` should name tasks out of {list(out_channels)}. Found {unknown}.')
        self.out_channels = dict(out_channels)
        self.heads = ModuleDict({task: self.build_head(configs[task], in_channels, out_channels[task]) for task in out_channels})

    def forward(self, features: Sequence[Tensor]) -> dict[str, list[Tensor]]:
        return {task: [head(features)] for task, head in self.heads.items()}
