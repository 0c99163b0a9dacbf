"""What the number that a network predicts for a pixel says about its depth."""

import math

import torch
from torch import Tensor

from mtl_plugins.models.layers.clamp import clamp_with_way_back

REPRESENTATIONS = ('exp', 'metres', 'normalised', 'log', 'inverse')
LINEAR = ('metres', 'normalised')


class DepthRepresentation:
    """Maps network outputs to metres and back; float32 whatever comes in.

    ``'exp'``: depth = exp(x). ``'metres'``: x, for heads that predict metres. ``'normalised'``: x * std + mean. ``'log'``:
    exp(x * std + mean). ``'inverse'``: 1 / (x * std + mean). All are clamped to ``depth_range``, before the exponential or the
    reciprocal, so that neither overflows, and the clamp lets a gradient pass that leads back into the range.

    Args:
        name: One of the five.
        depth_range: Least and largest depth in metres.
        statistics: ``dict(mean=..., std=...)`` of the represented quantity over the training split. Normalised metres default to
            MiniScapes'; ``'log'`` and ``'inverse'`` need it (log of metres, 1/metres); ``'exp'`` and ``'metres'`` have none.

    Raises:
        ValueError: If an argument is none of the above.
    """

    def __init__(self, name: str, depth_range: tuple[float, float], statistics: dict[str, float] | None) -> None:
        if name not in REPRESENTATIONS:
            raise ValueError(f'`representation` should be one of {list(REPRESENTATIONS)}. Found {name!r}.')
        if len(depth_range) != 2 or not 0 < depth_range[0] < depth_range[1] < math.inf:
            raise ValueError(f'`depth_range` should be two ascending positive numbers. Found {depth_range}.')
        if name == 'normalised' and statistics is None:
            statistics = dict(mean=27.0727, std=29.1264)
        if name in ('exp', 'metres'):
            if statistics is not None:
                raise ValueError(f'`statistics` should be None for the representation {name!r}. Found {statistics}.')
            statistics = dict(mean=0.0, std=1.0)
        if statistics is None or set(statistics) != {'mean', 'std'} or statistics['std'] <= 0:
            raise ValueError(f'`statistics` of {name!r} should be dict(mean=..., std=...) with std > 0. Found {statistics}.')
        self.name = name
        self.mean, self.std = statistics['mean'], statistics['std']
        limits = [self._from_metres(limit) for limit in depth_range]
        self.limits = (min(limits), max(limits))

    def _from_metres(self, depth: float) -> float:
        quantity = {**dict.fromkeys(LINEAR, depth), 'inverse': 1 / depth}.get(self.name, math.log(depth))
        return (quantity - self.mean) / self.std

    def to_metres(self, output: Tensor) -> Tensor:
        quantity = clamp_with_way_back(output.float(), *self.limits) * self.std + self.mean
        if self.name in LINEAR:
            return quantity
        return quantity.reciprocal() if self.name == 'inverse' else quantity.exp()

    def from_metres(self, depth: Tensor) -> Tensor:
        """Of depths > 0; other pixels become finite but meaningless numbers."""
        depth = depth.float().clamp(min=torch.finfo(torch.float32).eps)
        if self.name in LINEAR:
            quantity = depth
        else:
            quantity = depth.reciprocal() if self.name == 'inverse' else depth.log()
        return (quantity - self.mean) / self.std
