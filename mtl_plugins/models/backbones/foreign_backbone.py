"""Backbones and necks of mmseg, mmdetection and the like behind this package's interface.

They do not say which maps they give: a black image is passed through a copy on the meta device, once, before training.
"""

import copy
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from mtl_plugins.errors import ArgumentError
from mtl_plugins.models.utils.build import build_part
from mtl_plugins.registry import MODELS

LEVELS = 5


def _without_memory(module: nn.Module) -> nn.Module:
    """Copy to the meta device; the weights themselves are never copied."""

    def bare(tensor: Tensor) -> Tensor:
        meta = tensor.detach().to('meta')
        return nn.Parameter(meta, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else meta

    return copy.deepcopy(module, {id(tensor): bare(tensor) for tensor in chain(module.parameters(), module.buffers())})


@torch.no_grad()
def try_out(module: nn.Module, call: Callable[[nn.Module, torch.device], Any], training: bool = False) -> Any:
    """Return ``call(module, device)`` for a copy on the meta device, or, where that fails, for one that computes."""
    try:
        twin = _without_memory(module)
        twin.train(training)  # returns None in some libraries
        return call(twin, torch.device('meta'))
    except Exception:
        tensor = next(chain(module.parameters(), module.buffers()), None)
        if tensor is not None and tensor.is_meta:
            raise
        with torch.random.fork_rng(devices=[]):
            twin = copy.deepcopy(module)
            twin.train(training)
            return call(twin, torch.device('cpu') if tensor is None else tensor.device)


class PyramidOrder:
    """The maps of a network at their places in a pyramid of five, None where there is none.

    Index i has the stride ``2 ** (i + 1)``. From fine to coarse, each map takes the place of its stride, or the next one if that
    is taken; if the coarsest do not find room, those before them move to finer places. The coarsest of several always has the
    last place, where heads look for it: a ResNet dilated to output stride 8 has the strides ``(None, 4, 8, 8, 8)``, as
    :class:`DilatedResNet`. A single map stays at the place of its stride, for a neck such as :class:`PlainViTPyramid`.
    ``widths`` and ``strides`` are those of the network's maps, in its order; ``out_channels`` the widths of the places.
    """

    def __init__(self, widths: Sequence[int], strides: Sequence[float]) -> None:
        if not 1 <= len(widths) <= LEVELS:
            raise ArgumentError(
                f'A feature pyramid should be made of 1 to {LEVELS} maps. Found {len(widths)}; see `out_indices`.'
            )
        order = sorted(range(len(widths)), key=lambda index: strides[index])
        self.levels = [0] * len(widths)
        previous = -1
        for rank, index in enumerate(order):
            wanted = max(round(math.log2(strides[index])) - 1, previous + 1)
            previous = self.levels[index] = min(wanted, LEVELS - len(order) + rank)
        if len(order) > 1:
            self.levels[order[-1]] = LEVELS - 1
        self.strides = tuple(strides)
        self.out_channels = self._place(widths)

    def _place(self, values: Sequence[Any]) -> tuple[Any, ...]:
        placed = dict(zip(self.levels, values, strict=True))
        return tuple(placed.get(level) for level in range(LEVELS))

    def __call__(self, maps: Any) -> tuple[Tensor | None, ...]:
        return self._place(maps_of(maps))


def maps_of(output: Any) -> list[Tensor]:
    """Return the maps ``(B, C, H, W)`` in the output of a network: one, a sequence or a mapping of them."""
    if isinstance(output, Tensor):
        output = [output]
    maps = list(output.values() if isinstance(output, Mapping) else output)
    for entry in maps:
        if not isinstance(entry, Tensor) or entry.ndim != 4:
            found = f'a tensor of {entry.ndim} axes' if isinstance(entry, Tensor) else type(entry).__name__
            raise ArgumentError(f'A backbone should give feature maps (B, C, H, W). Found {found}.')
    return maps


def gives_pyramid(module: nn.Module) -> bool:
    """Return True if a backbone or a neck states the widths of its five maps by ``out_channels``."""
    widths = getattr(module, 'out_channels', None)
    return isinstance(widths, (tuple, list)) and len(widths) == LEVELS


def find_pyramid(backbone: nn.Module, neck: nn.Module | None = None, order: PyramidOrder | None = None) -> PyramidOrder:
    """Find the places of the maps of a backbone, or of a neck on it, without data.

    ``order`` are the places of the backbone's own maps, None if it gives a pyramid itself. An ArgumentError if the network cannot
    be run, gives other things than maps, or not the same in training and in prediction.
    """
    network = nn.ModuleList([backbone] if neck is None else [backbone, neck])
    name = type(network[-1]).__name__

    def measure(copy: nn.ModuleList, device: torch.device) -> list[tuple[int, float]]:
        dtype = next((parameter.dtype for parameter in copy.parameters()), torch.float32)
        features = copy[0](torch.zeros(2, 3, side, side, device=device, dtype=dtype))
        if neck is not None:
            features = order(features) if order else features
            features = copy[1]([feature for feature in features if feature is not None])
        return [(feature.shape[1], side / feature.shape[2]) for feature in maps_of(features)]

    reason = None
    own = getattr(backbone, 'img_size', None)  # of networks that are bound to one
    own = own[0] if isinstance(own, (tuple, list)) else own
    for side in dict.fromkeys((256, 224, *([own] if isinstance(own, int) else []))):  # noqa: B007  # read by `measure`
        try:
            measured, trained = try_out(network, measure), try_out(network, measure, training=True)
        except Exception as error:
            reason = reason or error
            continue
        if [width for width, _ in measured] != [width for width, _ in trained]:
            raise ArgumentError(
                f'A backbone should give the same maps in training and in prediction. Found {name}, which gives {len(trained)} '
                f'and {len(measured)}: it goes with its own head only, in a whole config of its library.'
            )
        return PyramidOrder(*zip(*measured, strict=True))
    if isinstance(reason, ArgumentError):
        raise reason
    raise ArgumentError(
        f'`out_channels` of {name} should state the widths of its five maps, None where there is none, if the network cannot be '
        f'tried on an image. Found {type(reason).__name__}: {str(reason).splitlines()[0] if str(reason) else ""}.'
    ) from reason


def build_neck(neck: dict, in_channels: Sequence[int | None]) -> nn.Module:
    """Build the neck of a config, which may leave out ``in_channels``, and ``num_outs`` if the class insists on it.

    A class with the attribute ``reads_pyramid`` gets the widths of all five maps, any other those of the maps that there are.
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
