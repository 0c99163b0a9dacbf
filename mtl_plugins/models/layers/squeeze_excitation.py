"""Squeeze-and-excitation (arXiv 1709.01507), one for all tasks or one for each."""

import torch
from torch import Tensor, nn

from mtl_plugins.errors import ArgumentError


class PerTask(nn.ModuleList):
    """A module per task for features of all tasks, ``(tasks * B, C, H, W)``: the batch of the first task, of the second, ..."""

    def forward(self, features: Tensor) -> Tensor:
        shares = features.chunk(len(self))
        return torch.cat([module(share) for module, share in zip(self, shares, strict=True)])


def squeeze_excitation(channels: int, factor: int | None, num_tasks: int = 1, name: str = 'squeeze_excitation') -> nn.Module:
    """Build a squeeze-and-excitation narrowed by ``factor``, :class:`PerTask` for several; None is the identity."""
    if factor is None:
        return nn.Identity()
    if factor < 1:
        raise ArgumentError(f'`{name}` should be at least 1 or None. Found {factor}.')
    from torchvision.ops import SqueezeExcitation

    modules = [SqueezeExcitation(channels, max(1, channels // factor)) for _ in range(num_tasks)]
    return modules[0] if num_tasks == 1 else PerTask(modules)
