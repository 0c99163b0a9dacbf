"""Task balancing by constant weights."""

from collections.abc import Iterable

from torch import Tensor, nn

from mtl_plugins.errors import ArgumentError
from mtl_plugins.registry import TASK_UTILS


@TASK_UTILS.register_module()
class FixedWeights(nn.Module):
    """Total loss = weighted sum of the task losses.

    Args:
        tasks: Names of the tasks that are trained.
        weights: Weight >= 0 of each; equal weights that sum to 1 by default.

    Raises:
        ArgumentError: If the weights name other tasks than ``tasks``, or one is negative.
    """

    def __init__(self, *, tasks: Iterable[str], weights: dict[str, float] | None = None) -> None:
        super().__init__()
        tasks = list(tasks)
        if weights is None:
            weights = dict.fromkeys(tasks, 1 / len(tasks))
        if set(weights) != set(tasks):
            raise ArgumentError(f'`weights` should have one entry for each task of {tasks}. Found {dict(weights)}.')
        if any(weight < 0 for weight in weights.values()):
            raise ArgumentError(f'`weights` should not be negative. Found {dict(weights)}.')
        self.weights = dict(weights)

    def forward(self, task_losses: dict[str, Tensor]) -> Tensor:
        """The total of the losses, one scalar per task."""
        return sum(self.weights[task] * loss for task, loss in task_losses.items())
