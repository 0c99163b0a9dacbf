"""Running a module without data, to see what it gives."""

import copy
from collections.abc import Callable
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn


def without_memory(module: nn.Module) -> nn.Module:
    """A copy on the meta device; the weights are not copied."""
    tensors = chain(module.parameters(), module.buffers())
    return copy.deepcopy(module, {id(tensor): _without_memory(tensor) for tensor in tensors})


def _without_memory(tensor: Tensor) -> Tensor:
    bare = tensor.detach().to('meta')
    return nn.Parameter(bare, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else bare


@torch.no_grad()
def try_out(module: nn.Module, call: Callable[[nn.Module, torch.device], Any], training: bool = False) -> Any:
    """What ``call(module, device)`` returns for a copy on the meta device, or, where that fails, for one that computes.

    The module, its mode and torch's generator stay as they are.

    Args:
        module: The module.
        call: Makes inputs on the device and passes them through the module that it is given.
        training: The mode of the copy.

    Raises:
        Exception: Whatever the module raises, of any kind, if it cannot run on either.
    """
    try:
        twin = without_memory(module)
        twin.train(training)  # returns None in some libraries
        return call(twin, torch.device('meta'))
    except Exception:
        tensor = next(chain(module.parameters(), module.buffers()), None)
        if tensor is not None and tensor.is_meta:
            raise
        with torch.random.fork_rng(devices=[]):
            twin = copy.deepcopy(module)
            twin.train(training)
            return call(twin, torch.device('cpu') if tensor is None else tensor.device)
