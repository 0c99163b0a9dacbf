"""Task balancing that is blind to the scale of the losses."""

from torch import Tensor

from mtl_plugins.registry import TASK_UTILS
from mtl_plugins.task_balancing.loss_balancing import LossBalancing, sum_where


@TASK_UTILS.register_module()
class GeometricMean(LossBalancing):
    """Geometric loss strategy, GLS (Chennupati et al., arXiv 1904.08492): total = ``(loss_1 * ... * loss_T) ** (1 / T)``.

    The weight of a task is the derivative, ``total / (T * loss)``. Losses should be positive.

    Args:
        tasks: Names of the tasks that are trained.
    """

    def weigh(self, losses: Tensor, present: Tensor) -> tuple[Tensor, float]:
        number = present.sum().clamp(min=1)
        mean = (sum_where(present, losses.log()) / number).exp()
        return mean / (number * losses), 0.0
