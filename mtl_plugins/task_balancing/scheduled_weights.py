"""Task balancing by weights that follow a plan."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from mtl_plugins.errors import ArgumentError
from mtl_plugins.registry import TASK_UTILS
from mtl_plugins.task_balancing.loss_balancing import LossBalancing


@TASK_UTILS.register_module()
class ScheduledWeights(LossBalancing):
    """Weights by iteration: those of ``schedule``, straight lines in between, the first and last ones before and after.

    Args:
        tasks: Names of the tasks that are trained.
        schedule: ``dict(iteration=0, weights=dict(semseg=1.0, depth=0.0))`` and so on, by iteration.

    Raises:
        ArgumentError: If there is no entry, iterations do not ascend, or weights name other tasks or are negative.
    """

    def __init__(self, *, tasks: Iterable[str], schedule: Sequence[dict]) -> None:
        super().__init__(tasks=tasks)
        iterations = [entry['iteration'] for entry in schedule]
        if not schedule or any(first >= second for first, second in pairwise(iterations)):
            raise ArgumentError(f'`schedule` should have entries whose `iteration` ascends. Found {iterations}.')
        for entry in schedule:
            if set(entry['weights']) != set(self.tasks) or any(weight < 0 for weight in entry['weights'].values()):
                raise ArgumentError(
                    f'`weights` should have one entry >= 0 for each task of {self.tasks}. Found {dict(entry["weights"])}.'
                )
        self.schedule = [(entry['iteration'], [float(entry['weights'][task]) for task in self.tasks]) for entry in schedule]

    def weights_at(self, iteration: int) -> list[float]:
        """The weights in the order of the tasks."""
        for (first, start), (second, end) in pairwise(self.schedule):
            if first <= iteration < second:
                part = (iteration - first) / (second - first)
                return [a + part * (b - a) for a, b in zip(start, end, strict=True)]
        return self.schedule[0 if iteration < self.schedule[0][0] else -1][1]

    def weigh(self, losses: Tensor, present: Tensor) -> tuple[Tensor, float]:
        return torch.tensor(self.weights_at(self._iteration), dtype=losses.dtype).to(losses.device, non_blocking=True), 0.0
