"""Monocular depth: metres per pixel."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mtl_plugins.errors import ArgumentError, check_choice
from mtl_plugins.models.layers.functional import clamp_with_way_back
from mtl_plugins.models.losses.library_losses import DepthLoss
from mtl_plugins.models.tasks.dense_task import DenseTask
from mtl_plugins.registry import MODELS

REPRESENTATIONS = ('exp', 'metres', 'normalised', 'log', 'inverse')
LINEAR = ('metres', 'normalised')


class DepthRepresentation:
    """Network outputs as metres and back, in float32.

    ``'exp'``: depth = exp(x). ``'metres'``: x, for heads that predict metres. ``'normalised'``: x * std + mean. ``'log'``:
    exp(x * std + mean). ``'inverse'``: 1 / (x * std + mean). All are clamped to ``depth_range``, before the exponential or the
    reciprocal, so that neither overflows, and the clamp lets a gradient pass that leads back into the range.

    Args:
        name: One of the five.
        statistics: ``dict(mean=..., std=...)`` of the represented quantity over the training split. Normalised metres default to
            MiniScapes'; ``'log'`` and ``'inverse'`` need it (log of metres, 1/metres); ``'exp'`` and ``'metres'`` have none.
    """

    def __init__(self, name: str, depth_range: tuple[float, float], statistics: dict[str, float] | None) -> None:
        check_choice('representation', name, REPRESENTATIONS)
        if len(depth_range) != 2 or not 0 < depth_range[0] < depth_range[1] < math.inf:
            raise ArgumentError(f'`depth_range` should be two ascending positive numbers. Found {depth_range}.')
        if name == 'normalised' and statistics is None:
            statistics = dict(mean=27.0727, std=29.1264)
        if name in ('exp', 'metres'):
            if statistics is not None:
                raise ArgumentError(f'`statistics` should be None for the representation {name!r}. Found {statistics}.')
            statistics = dict(mean=0.0, std=1.0)
        if statistics is None or set(statistics) != {'mean', 'std'} or statistics['std'] <= 0:
            raise ArgumentError(f'`statistics` of {name!r} should be dict(mean=..., std=...) with std > 0. Found {statistics}.')
        self.name = name
        self.mean, self.std = statistics['mean'], statistics['std']
        limits = [self._from_metres(limit) for limit in depth_range]
        self.limits = (min(limits), max(limits))

    def _from_metres(self, depth: float) -> float:
        quantity = {**dict.fromkeys(LINEAR, depth), 'inverse': 1 / depth}.get(self.name, math.log(depth))
        return (quantity - self.mean) / self.std

    def to_metres(self, output: Tensor) -> Tensor:
        """Return the metres, float32, of a prediction of any shape."""
        quantity = clamp_with_way_back(output.float(), *self.limits) * self.std + self.mean
        if self.name in LINEAR:
            return quantity
        return quantity.reciprocal() if self.name == 'inverse' else quantity.exp()

    def from_metres(self, depth: Tensor) -> Tensor:
        """Return the representation of metres > 0, of the same shape; other pixels become finite but meaningless numbers."""
        depth = depth.float().clamp(min=torch.finfo(torch.float32).eps)
        if self.name in LINEAR:
            quantity = depth
        else:
            quantity = depth.reciprocal() if self.name == 'inverse' else depth.log()
        return (quantity - self.mean) / self.std


@MODELS.register_module()
class DepthTask(DenseTask):
    """One channel, upsampled to the label's size, then turned into metres. Labels that are not > 0 do not count.

    Test-time views are merged by the mean of their logarithms (``'log'``: the geometric mean) or of their ``'metres'``.

    Args:
        representation: ``'exp'``, ``'metres'``, ``'normalised'``, ``'log'`` or ``'inverse'``; see :class:`DepthRepresentation`.
        depth_range: Least and largest metres that are predicted.
        statistics: ``dict(mean=..., std=...)`` of the represented quantity, where the representation needs it.
        **kwargs: ``label``, and ``loss``: a loss whose attribute ``space`` is ``'metres'`` or ``'representation'``,
            :class:`SILogLoss` by default; one of torch or mmseg, see :class:`DepthLoss`; or several, which are added.
    """

    out_channels = 1
    default_loss = 'SILogLoss'
    mergings = ('log', 'metres', 'max', 'median')

    def __init__(
        self,
        *,
        representation: str = 'exp',
        depth_range: Sequence[float] = (0.1, 300.0),
        statistics: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.representation = DepthRepresentation(representation, tuple(depth_range), statistics)
        self.depth_range = tuple(depth_range)

    def check_head(self, head: nn.Module) -> None:
        for module in head.modules():
            given = getattr(module, 'depth_representation', self.representation.name)
            if given != self.representation.name:
                raise ArgumentError(
                    f'`representation` of DepthTask should be {given!r}, which is what {type(module).__name__} predicts. '
                    f'Found {self.representation.name!r}.'
                )

    def build_library_loss(self, config: dict) -> DepthLoss:
        return DepthLoss(config)

    def loss_terms(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        valid, terms = target > 0, {}
        with torch.autocast(prediction.device.type, enabled=False):
            output = self.upsample(prediction.float(), target.shape[-2:]).squeeze(1)
            for criterion in self.criteria:
                if criterion.space == 'metres':
                    loss = criterion(self.representation.to_metres(output), target, valid)
                else:
                    loss = criterion(output, self.representation.from_metres(target), valid)
                terms[f'loss_{criterion.name}'] = loss
        return terms

    def valid_mask(self, target: Tensor) -> Tensor:
        return target > 0

    def distributions(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        output = self.upsample(prediction.float(), target.shape[-2:]).squeeze(1)
        return dict(
            label_metres=target,
            label_represented=self.representation.from_metres(target),
            prediction_metres=self.representation.to_metres(output),
            prediction_represented=output,
        )

    def predict(self, prediction: Tensor, size: tuple[int, int]) -> Tensor:
        with torch.autocast(prediction.device.type, enabled=False):
            return self.representation.to_metres(self.upsample(prediction.float(), size).squeeze(1))

    def view_values(self, output: Tensor, merging: str, zoom: float) -> Tensor:
        metres = self.representation.to_metres(output if merging == 'median' else output.squeeze(0)) * zoom
        return metres.log() if merging == 'log' else metres

    def merged_view(self, total: Tensor, num_views: int, merging: str) -> Tensor:
        if merging == 'median':
            # Of an even number, the mean of the middle two.
            ordered = total.sort(0).values
            merged = (ordered[(num_views - 1) // 2] + ordered[num_views // 2]) / 2
        else:
            merged = total if merging == 'max' else total / num_views
        return (merged.exp() if merging == 'log' else merged).clamp(*self.depth_range)
