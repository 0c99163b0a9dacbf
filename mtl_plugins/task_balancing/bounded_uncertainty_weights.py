"""Task balancing by homoscedastic uncertainty with a bounded regulariser."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from mtl_plugins.registry import TASK_UTILS
from mtl_plugins.task_balancing.loss_balancing import LossBalancing, sum_where


@TASK_UTILS.register_module()
class BoundedUncertaintyWeights(LossBalancing):
    """Learned noise whose regulariser is never negative (Liebel and Körner, arXiv 1805.06334).

    Total = sum of ``loss / (2 c ** 2) + log(1 + c ** 2)`` with the learned ``c``, which starts at 1.

    Args:
        tasks: Names of the tasks that are trained.
        lr_mult: The factor of the learning rate of ``c``.
    """

    def __init__(self, *, tasks: Iterable[str], lr_mult: float = 1.0) -> None:
        super().__init__(tasks=tasks)
        self.lr_mult = lr_mult
        self.scale = nn.Parameter(torch.ones(len(self.tasks)))

    def weigh(self, losses: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        square = self.scale**2
        return 0.5 / square, sum_where(present, square.log1p())
