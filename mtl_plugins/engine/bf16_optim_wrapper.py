"""Mixed precision that needs no gradient scaler and works on CPU."""

import contextlib
from collections.abc import Iterator

import torch

from mtl_plugins.engine.optim_wrapper import OptimWrapper
from mtl_plugins.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class Bf16OptimWrapper(OptimWrapper):
    """The :class:`OptimWrapper` whose forward pass runs under bfloat16 autocast, on a GPU or a CPU.

    bfloat16 has the range of float32, so that gradients need no scaling. mmengine's ``AmpOptimWrapper`` refuses CPUs.
    """

    @contextlib.contextmanager
    def optim_context(self, model: torch.nn.Module) -> Iterator[None]:
        device_type = next(model.parameters()).device.type
        with super().optim_context(model), torch.autocast(device_type, dtype=torch.bfloat16):
            yield
