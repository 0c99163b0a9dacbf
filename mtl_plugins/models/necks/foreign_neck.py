"""Necks of this package and of other libraries."""

import inspect
from collections.abc import Sequence

from torch import nn

from mtl_plugins.models.utils.build import build_part
from mtl_plugins.registry import MODELS


def build_neck(neck: dict, in_channels: Sequence[int | None]) -> nn.Module:
    """The neck of a config, which may leave out ``in_channels``, and ``num_outs`` if the class insists on it.

    Args:
        neck: Config. A class with the attribute ``reads_pyramid`` gets the widths of all five maps, any other those of the maps
            that there are.
        in_channels: Widths of the five maps.
    """
    kind = MODELS.get(neck['type'])
    if kind is None or getattr(kind, 'reads_pyramid', False):
        return build_part(neck, in_channels=tuple(in_channels))
    widths = [width for width in in_channels if width is not None]
    parameters = inspect.signature(kind).parameters
    defaults = {'in_channels': widths} if 'in_channels' in parameters else {}
    if 'num_outs' in parameters and parameters['num_outs'].default is inspect.Parameter.empty:
        defaults['num_outs'] = len(widths)
    return build_part(neck, **defaults)
