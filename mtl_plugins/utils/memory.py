"""Memory of this process."""

import ctypes
import os
import resource
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h
_CHOICES = ('MALLOC_MMAP_MAX_', 'MALLOC_MMAP_THRESHOLD_', 'MALLOC_TRIM_THRESHOLD_', 'MALLOC_TOP_PAD_')
# The largest number that mallopt takes.
_KEPT_BYTES = 2**31 - 1


def keep_freed_memory() -> None:
    """Let glibc keep up to 2 GiB of freed memory at hand, for as long as this process lives. Call it before torch is imported.

    By default it gives large blocks back to the system, which hands them out again page by page, and cleared. The activations
    of a network are large blocks, freed and allocated in every step: on a CPU this takes up to a tenth of a training step, and a
    third of the prediction of a batch. Torch asks for huge pages as well, with which blocks of many sizes take no more memory
    than before. Variables of the environment by which the user has chosen (such as ``MALLOC_TRIM_THRESHOLD_``) are respected.
    """
    if any(os.environ.get(name) for name in _CHOICES) or 'glibc.malloc' in os.environ.get('GLIBC_TUNABLES', ''):
        return
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt is not None and mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES):
        os.environ.setdefault('THP_MEM_ALLOC_ENABLE', '1')  # which torch reads once


def peak_memory() -> int:
    """Return the most bytes that this process had resident."""
    # In bytes on macOS, else in KiB.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == 'darwin' else 1024)
