"""Distributed data parallel for task balancing by gradients."""

from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from torch import Tensor

from mtl_plugins.registry import MODEL_WRAPPERS


@MODEL_WRAPPERS.register_module()
class BalancedDataParallel(MMDistributedDataParallel):
    """mmengine's ``MMDistributedDataParallel``, with the same arguments, for all models of this package.

    A task balancing by gradients averages the gradients of each task over the processes itself: then the training step is that of
    the model alone.
    """

    def train_step(self, data: dict, optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        if getattr(self.module, 'balances_gradients', False):
            return self.module.train_step(data, optim_wrapper)
        return super().train_step(data, optim_wrapper)
