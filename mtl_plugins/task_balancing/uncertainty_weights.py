"""Task balancing by homoscedastic uncertainty."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from mtl_plugins.errors import ArgumentError
from mtl_plugins.registry import TASK_UTILS
from mtl_plugins.task_balancing.loss_balancing import LossBalancing, sum_where


@TASK_UTILS.register_module()
class UncertaintyWeights(LossBalancing):
    """Learned noise of each task (Kendall et al., arXiv 1705.07115).

    Total = sum of ``loss * exp(-s) / 2 + s / 2`` with the learned ``s = log(sigma ** 2)``, which starts at 0; the loss of a task
    of classes is not halved, as in the paper. The weight has no bound: it grows as the loss comes near 0.

    Args:
        tasks: Names of the tasks that are trained.
        classification: Those whose loss is a cross-entropy.
        lr_mult: The factor of the learning rate of ``s``.

    Raises:
        ArgumentError: If ``classification`` names no task.
    """

    def __init__(self, *, tasks: Iterable[str], classification: Sequence[str] = (), lr_mult: float = 1.0) -> None:
        super().__init__(tasks=tasks)
        if not set(classification) <= set(self.tasks):
            raise ArgumentError(f'`classification` should name tasks out of {self.tasks}. Found {list(classification)}.')
        self.lr_mult = lr_mult
        self.log_variance = nn.Parameter(torch.zeros(len(self.tasks)))
        factors = torch.tensor([1.0 if task in classification else 0.5 for task in self.tasks])
        self.register_buffer('factors', factors, persistent=False)

    def weigh(self, losses: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        return self.factors * (-self.log_variance).exp(), sum_where(present, self.log_variance / 2)
