"""Interleaved timing."""

import time
from collections.abc import Callable, Mapping

import torch


def interleave(
    contenders: Mapping[str, Callable[[], object]],
    repeats: int,
    *,
    warmup: int = 2,
    settle: int = 0,
    device: str = 'cpu',
    scale: Mapping[str, float] | float = 1e3,
    prepare: Callable[[], object] | None = None,
    processor_time: bool = False,
) -> dict[str, list[float]]:
    """Time contenders in turns, so that a busy neighbour hits all of them alike.

    Args:
        contenders: What to call, by name.
        repeats: Rounds that count; each calls every contender once, starting with another one each time.
        warmup: Rounds before that.
        settle: Calls of each contender right before its timed one. They outlast what another contender leaves behind: threads
            that still spin, and its weights in the caches.
        device: Calls end when its queue is empty.
        scale: Factor on seconds, for all contenders or for each, e.g. 1000 / images per call.
        prepare: Called before each contender, outside the time.
        processor_time: Count the processor seconds of all threads of this process instead of wall time: what others do on the
            machine then hardly matters, but work that runs elsewhere, as on a GPU, does not count.

    Returns:
        One number per round and contender.
    """
    names = list(contenders)
    clock = time.process_time if processor_time else time.perf_counter
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(warmup + repeats):
        # A contender that always follows the same one would always meet the same caches.
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            if prepare is not None:
                prepare()
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


def _synchronise(device: str) -> None:
    if device.startswith('cuda'):
        torch.cuda.synchronize(device)
