"""Task balancing that learns to scale every loss alike."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from mtl_plugins.registry import TASK_UTILS
from mtl_plugins.task_balancing.loss_balancing import LossBalancing, sum_where


@TASK_UTILS.register_module()
class IMTLLossWeights(LossBalancing):
    """IMTL-L (Liu et al., "Towards impartial multi-task learning", ICLR 2021): all scaled losses come to be 1.

    Total = sum of ``loss * exp(s) - s`` with the learned ``s``, which starts at 0.

    Args:
        tasks: Names of the tasks that are trained.
        lr_mult: The factor of the learning rate of ``s``.
    """

    def __init__(self, *, tasks: Iterable[str], lr_mult: float = 1.0) -> None:
        super().__init__(tasks=tasks)
        self.lr_mult = lr_mult
        self.log_scale = nn.Parameter(torch.zeros(len(self.tasks)))

    def weigh(self, losses: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        return self.log_scale.exp(), -sum_where(present, self.log_scale)
