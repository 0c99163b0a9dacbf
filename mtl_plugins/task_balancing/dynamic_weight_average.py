"""Task balancing by the rate at which losses fall."""

from collections.abc import Iterable

import torch
from torch import Tensor

from mtl_plugins.errors import ArgumentError
from mtl_plugins.registry import TASK_UTILS
from mtl_plugins.task_balancing.loss_balancing import LossBalancing


@TASK_UTILS.register_module()
class DynamicWeightAverage(LossBalancing):
    """DWA (Liu et al., arXiv 1803.10704): a task whose loss falls slowly gets more weight.

    With the mean losses of the last two whole periods, ``r = last / one before``: weight = ``T * softmax(r / temperature)`` over
    the ``T`` tasks. It is 1 in the first two periods, and for a task that had no labels in one of the last two ``r`` is 1.

    Args:
        tasks: Names of the tasks that are trained.
        temperature: Larger ones make the weights more equal; 2 in the paper.
        interval: Iterations of a period; an epoch in the paper.

    Attributes:
        logged: Besides the weights ``balance/ratio/<task>``, the ``r`` that they follow from.

    Raises:
        ArgumentError: If ``temperature`` or ``interval`` is not positive.
    """

    def __init__(self, *, tasks: Iterable[str], temperature: float = 2.0, interval: int = 100) -> None:
        super().__init__(tasks=tasks)
        if temperature <= 0 or interval < 1:
            raise ArgumentError(f'`temperature` and `interval` should be positive. Found {temperature} and {interval}.')
        self.temperature, self.interval = temperature, interval
        # Rows: the one before, the last; 0 where there was no loss.
        self.register_buffer('means', torch.zeros(2, len(self.tasks)))
        # Rows: the sum and the number of the losses of this period.
        self.register_buffer('period', torch.zeros(2, len(self.tasks)))

    def weigh(self, losses: Tensor, present: Tensor) -> tuple[Tensor, float]:
        before, last = self.means
        ratios = torch.where((before > 0) & (last > 0), last / before, 1.0)
        weights = len(self.tasks) * (ratios / self.temperature).softmax(0)
        if self.training:
            self.period += torch.stack([torch.where(present, losses, 0.0), present.to(losses.dtype)])
            if (self._iteration + 1) % self.interval == 0:
                self.means.copy_(torch.stack([last, self.period[0] / self.period[1].clamp(min=1)]))
                self.period.zero_()
        self.ratios = ratios
        return weights, 0.0

    def forward(self, task_losses: dict[str, Tensor]) -> Tensor:
        total = super().forward(task_losses)
        if self.training:
            self.logged |= {f'balance/ratio/{task}': ratio for task, ratio in zip(self.tasks, self.ratios, strict=True)}
        return total
