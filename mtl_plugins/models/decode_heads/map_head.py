"""What all heads for one prediction map share."""

import inspect
import sys
from abc import abstractmethod
from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor, nn

from mtl_plugins.errors import ArgumentError
from mtl_plugins.registry import MODELS


class MapHead(BaseModule):
    """Features of the pyramid -> context (coarse) -> embedding (fine) -> 1x1 predictor.

    Other heads build on the embedding of such a head: they exchange it between tasks, or compare it with bins or classes.

    Attributes:
        context_channels: Width of the context.
        channels: Width of the embedding.
        predictor: From the embedding to the prediction.
    """

    context_channels: int
    channels: int
    predictor: nn.Module

    @abstractmethod
    def embed(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Context ``(B, context_channels, h, w)`` and embedding ``(B, channels, H, W)``."""

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        return self.predictor(self.embed(features)[1])


def is_map_head(head: dict) -> bool:
    """Whether a config is that of a :class:`MapHead`, or of a decode head of mmseg, which becomes one."""
    kind = MODELS.get(head['type'])
    return kind is not None and (issubclass(kind, MapHead) or _is_of_mmseg(kind))


def _is_of_mmseg(kind: type) -> bool:
    # Whatever derives from it has imported it; importing all models of mmseg costs other runs seconds.
    module = sys.modules.get('mmseg.models.decode_heads.decode_head')
    return module is not None and issubclass(kind, module.BaseDecodeHead)


def check_is_map_head(head: dict) -> None:
    """Refuse the config of a head without an embedding, on which another head cannot build.

    Raises:
        ArgumentError: If its type is neither a :class:`MapHead` nor a decode head of mmseg.
    """
    if MODELS.get(head['type']) is not None and not is_map_head(head):
        raise ArgumentError(f'`head` should be a map head with an embedding, as DeepLabV3PlusHead. Found {head["type"]}.')


def build_head(head: dict, in_channels: Sequence[int | None], out_channels: int) -> nn.Module:
    """The head for one map of a config without ``in_channels`` and ``out_channels``, of this package or of mmseg.

    Raises:
        ArgumentError: If it is another kind of head.
    """
    if is_map_head(head) and _is_of_mmseg(MODELS.get(head['type'])):
        return MODELS.build(dict(type='MMSegHead', head=head, in_channels=in_channels, out_channels=out_channels))
    check_reads_pyramid(head)
    return MODELS.build({**head, 'in_channels': in_channels, 'out_channels': out_channels})


def check_reads_pyramid(head: dict) -> None:
    """Refuse the config of a head that learns neither the pyramid's widths nor the channels it owes.

    Raises:
        ArgumentError: If its class does not take ``in_channels`` and ``out_channels``.
    """
    kind = MODELS.get(head['type'])
    if kind is not None and not {'in_channels', 'out_channels'} <= inspect.signature(kind).parameters.keys():
        raise ArgumentError(
            f'A head should take `in_channels` and `out_channels`, or be one of mmseg that classifies each pixel. '
            f'Found {head["type"]}.'
        )


def build_map_head(head: dict, in_channels: Sequence[int | None], out_channels: int) -> MapHead:
    """The map head of a config without ``in_channels`` and ``out_channels``.

    Raises:
        ArgumentError: If it is another kind of head.
    """
    check_is_map_head(head)
    return build_head(head, in_channels, out_channels)


def width_of(in_channels: Sequence[int | None], index: int) -> int:
    """Width of one map of the pyramid.

    Raises:
        ArgumentError: If the backbone does not give that map.
    """
    if not -len(in_channels) <= index < len(in_channels) or in_channels[index] is None:
        hint = ' A backbone gives the map at stride 2 if `with_stem=True`.' if index == 0 else ''
        raise ArgumentError(
            f'Map {index} of the feature pyramid should exist, as the head reads it. '
            f'Found a backbone with the widths {tuple(in_channels)}.{hint}'
        )
    return in_channels[index]
