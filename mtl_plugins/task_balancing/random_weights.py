"""Task balancing by chance."""

from collections.abc import Iterable

import torch
from torch import Tensor

from mtl_plugins.registry import TASK_UTILS
from mtl_plugins.task_balancing.loss_balancing import LossBalancing


@TASK_UTILS.register_module()
class RandomWeights(LossBalancing):
    """Random loss weighting, RLW (Lin et al., arXiv 2111.10603): weights = softmax of normal numbers, new in every iteration.

    They are a function of seed and iteration, the same in all processes. In evaluation the weights are equal.

    Args:
        tasks: Names of the tasks that are trained.
        seed: Of the numbers.
    """

    def __init__(self, *, tasks: Iterable[str], seed: int = 0) -> None:
        super().__init__(tasks=tasks)
        self.seed = seed

    def weigh(self, losses: Tensor, present: Tensor) -> tuple[Tensor, float]:
        numbers = torch.zeros(len(self.tasks))
        if self.training:
            # Mixed so that neighbouring seeds share no stream.
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self._iteration)
            numbers.normal_(generator=generator)
        numbers = torch.where(present, numbers.to(losses.device, non_blocking=True), -torch.inf)
        return numbers.softmax(0), 0.0
