"""Time and peak memory of calls."""

import os
import time
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor
from torch.autograd import DeviceType
from torch.autograd.profiler import profile

# The profiler tells the terminal when it starts and stops, and that there is no GPU. Read at its first use.
os.environ.setdefault('KINETO_LOG_LEVEL', '99')


def interleave(
    contenders: Mapping[str, Callable[[], object]],
    repeats: int,
    *,
    warmup: int = 2,
    settle: int = 0,
    device: str = 'cpu',
    scale: Mapping[str, float] | float = 1e3,
    processor_time: bool = False,
) -> dict[str, list[float]]:
    """Time contenders in turns, so that a busy neighbour hits all of them alike; one number per round and contender.

    Each of ``repeats`` rounds, after ``warmup`` others, calls every contender once, starting with another one each time;
    ``settle`` calls of it come right before. They outlast what another contender leaves behind: threads that still spin, and
    its weights in the caches. ``scale`` is a factor on seconds, for all or for each, e.g. 1000 / images per call.
    ``processor_time`` counts the processor seconds of this process: neighbours then hardly matter, but no work on a GPU counts.
    """
    names = list(contenders)
    clock = time.process_time if processor_time else time.perf_counter
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(warmup + repeats):
        # A contender that always follows the same one would always meet the same caches.
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            for _ in range(settle):
                contenders[name]()
            _synchronise(device)
            start = clock()
            contenders[name]()
            _synchronise(device)
            seconds = clock() - start
            if turn >= warmup:
                times[name].append(seconds * (scale if isinstance(scale, (int, float)) else scale[name]))
    return times


def time_calls(call: Callable[[], object], rounds: int, device: str, seconds: float = 1.0) -> list[float]:
    """Return seconds per call, one number per round of up to 50 calls; about ``seconds`` in all, or a call per round if 0."""

    def clock(calls: int) -> float:
        _synchronise(device)
        start = time.perf_counter()
        for _ in range(calls):
            call()
        _synchronise(device)
        return (time.perf_counter() - start) / calls

    clock(3)
    calls = max(1, min(50, round(seconds / rounds / clock(1))))
    return [clock(calls) for _ in range(rounds)]


def _synchronise(device: str) -> None:
    if device.startswith('cuda'):
        torch.cuda.synchronize(device)


def peak_mib(function: Callable[[], object], device: str) -> float:
    """Return the most MiB that torch had allocated at any moment of a call, above what it had before.

    On a GPU from the allocator's statistics, on a CPU from the profiler's record of every allocation. Neither sees what oneDNN
    or cuDNN allocate by themselves, nor what the allocator keeps in reserve.
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
    """Return the MiB of the distinct storages of tensors."""
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values()) / 2**20
