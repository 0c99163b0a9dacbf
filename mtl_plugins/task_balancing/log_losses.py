"""Task balancing by the logarithms of the losses."""

from torch import Tensor

from mtl_plugins.registry import TASK_UTILS
from mtl_plugins.task_balancing.loss_balancing import LossBalancing, sum_where


@TASK_UTILS.register_module()
class LogLosses(LossBalancing):
    """Total = sum of ``log(loss)``, as the loss balancing of DB-MTL (Lin et al., arXiv 2308.12029).

    The weight of a task is the derivative, ``1 / loss``. Losses should be positive.

    Args:
        tasks: Names of the tasks that are trained.
    """

    def weigh(self, losses: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        return 1 / losses, sum_where(present, losses.log() - 1)
