"""Task balancing that puts hard tasks first."""

from collections.abc import Iterable

import torch
from torch import Tensor

from mtl_plugins.errors import ArgumentError
from mtl_plugins.registry import TASK_UTILS
from mtl_plugins.task_balancing.loss_balancing import LossBalancing


@TASK_UTILS.register_module()
class DynamicTaskPriority(LossBalancing):
    """DTP (Guo et al., "Dynamic task prioritization for multitask learning", ECCV 2018): weight = ``-(1 - k) ** gamma * log(k)``.

    ``k`` is a moving average of how well a task does, from 0 to 1. The paper takes its metric; here it is ``exp(-loss)``, which
    is known in every iteration: for a cross-entropy, the geometric mean of the probabilities of the right classes.

    Args:
        tasks: Names of the tasks that are trained.
        gamma: How strongly tasks that do well are put back.
        momentum: The share of the newest value in the average.

    Raises:
        ArgumentError: If ``gamma`` is negative or ``momentum`` is not above 0 and at most 1.
    """

    def __init__(self, *, tasks: Iterable[str], gamma: float = 1.0, momentum: float = 0.1) -> None:
        super().__init__(tasks=tasks)
        if gamma < 0 or not 0 < momentum <= 1:
            raise ArgumentError(f'`gamma` should be 0 or more and `momentum` in (0, 1]. Found {gamma} and {momentum}.')
        self.gamma, self.momentum = gamma, momentum
        # -1 before the first loss.
        self.register_buffer('progress', torch.full((len(self.tasks),), -1.0))

    def weigh(self, losses: Tensor, present: Tensor) -> tuple[Tensor, float]:
        now = (-losses).exp()
        progress = torch.where(self.progress < 0, now, self.progress + self.momentum * (now - self.progress))
        progress = torch.where(present, progress, self.progress)
        if self.training:
            self.progress.copy_(progress)
        # Away from 0 and 1, where the weight is infinite and 0 for good.
        progress = progress.clamp(1e-6, 1 - 1e-6)
        return -((1 - progress) ** self.gamma) * progress.log(), 0.0
