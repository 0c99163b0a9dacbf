"""Monocular depth: metres per pixel."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mtl_plugins.models.losses.foreign_loss import DepthLoss, build_losses
from mtl_plugins.models.tasks.dense_task import DenseTask
from mtl_plugins.models.tasks.depth_representation import DepthRepresentation
from mtl_plugins.registry import MODELS


@MODELS.register_module()
class DepthTask(DenseTask):
    """One channel, upsampled to the label's size, then turned into metres. Labels that are not > 0 do not count.

    Test-time views are merged by the mean of their logarithms (``'log'``: the geometric mean) or of their ``'metres'``.

    Args:
        representation: ``'exp'``, ``'metres'``, ``'normalised'``, ``'log'`` or ``'inverse'``; see :class:`DepthRepresentation`.
        depth_range: Least and largest metres that are predicted.
        statistics: ``dict(mean=..., std=...)`` of the represented quantity, where the representation needs it.
        loss: Config of a loss with the attribute ``space``: ``'metres'`` or ``'representation'`` says what it compares.
            :class:`SILogLoss` by default. Or of a loss of torch or mmseg, as ``dict(type='torch.SmoothL1Loss', beta=0.1)``, see
            :class:`DepthLoss`; or of several, which are added.
        label: As in :class:`DenseTask`.
        init_cfg: As in every mmengine module.

    Raises:
        ValueError: If representation, range or statistics do not fit together.
    """

    out_channels = 1
    mergings = ('log', 'metres')

    def __init__(
        self,
        *,
        representation: str = 'exp',
        depth_range: Sequence[float] = (0.1, 300.0),
        statistics: dict[str, float] | None = None,
        loss: dict | Sequence[dict] | None = None,
        label: str | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(label=label, init_cfg=init_cfg)
        self.representation = DepthRepresentation(representation, tuple(depth_range), statistics)
        self.depth_range = tuple(depth_range)
        self.criteria = build_losses(loss or dict(type='SILogLoss'), DepthLoss)
        self.loss_name = self.loss_names()[0]

    def check_head(self, head: nn.Module) -> None:
        """Refuse a head that says what its output is, if this task reads it as something else.

        Raises:
            ValueError: If it does.
        """
        for module in head.modules():
            given = getattr(module, 'depth_representation', self.representation.name)
            if given != self.representation.name:
                raise ValueError(
                    f'`representation` of DepthTask should be {given!r}, which is what {type(module).__name__} predicts. '
                    f'Found {self.representation.name!r}.'
                )

    def loss_names(self) -> list[str]:
        return [f'loss_{criterion.name}' for criterion in self.criteria]

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

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return sum(self.loss_terms(prediction, target).values())

    def valid_mask(self, target: Tensor) -> Tensor:
        return target > 0

    def distributions(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Label and prediction in metres and as they are represented."""
        output = self.upsample(prediction.float(), target.shape[-2:]).squeeze(1)
        return dict(
            label_metres=target,
            label_represented=self.representation.from_metres(target),
            prediction_metres=self.representation.to_metres(output),
            prediction_represented=output,
        )

    def predict(self, prediction: Tensor, size: tuple[int, int]) -> Tensor:
        """float32 metres."""
        with torch.autocast(prediction.device.type, enabled=False):
            return self.representation.to_metres(self.upsample(prediction.float(), size).squeeze(1))

    def view_values(self, output: Tensor, merging: str, zoom: float) -> Tensor:
        """Metres ``(H, W)``, times the zoom, or their logarithm."""
        metres = self.representation.to_metres(output.squeeze(0)) * zoom
        return metres.log() if merging == 'log' else metres

    def merged_view(self, total: Tensor, num_views: int, merging: str) -> Tensor:
        """float32 metres within the range, which a zoom may leave."""
        mean = total / num_views
        return (mean.exp() if merging == 'log' else mean).clamp(*self.depth_range)
