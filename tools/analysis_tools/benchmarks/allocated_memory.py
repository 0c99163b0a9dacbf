"""Peak memory of tensors, by the same definition on CPU and GPU."""

import os
from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.autograd import DeviceType
from torch.autograd.profiler import profile

# The profiler tells the terminal when it starts and stops, and that there is no GPU. Read at its first use.
os.environ.setdefault('KINETO_LOG_LEVEL', '99')


def peak_mib(function: Callable[[], object], device: str) -> float:
    """Most MiB that torch had allocated at any moment of a call, above what it had before.

    On a GPU from the allocator's statistics (``max_memory_allocated``), on a CPU from the profiler's record of every
    allocation. Both see tensors and the workspaces of torch's own kernels; neither sees what oneDNN or cuDNN allocate by
    themselves, nor what the allocator keeps in reserve. Unlike resident memory, it is the same in every run.
    """
    if device.startswith('cuda'):
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        function()
        torch.cuda.synchronize(device)
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    with profile(use_device=None, profile_memory=True) as record:
        function()
    events = [event for event in record.kineto_results.events() if event.name() == '[memory]']
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        if event.device_type() == DeviceType.CPU:
            held += event.nbytes()
            peak = max(peak, held)
    return peak / 2**20


def held_mib(tensors: Iterable[Tensor]) -> float:
    """MiB of the distinct storages of tensors."""
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values()) / 2**20
