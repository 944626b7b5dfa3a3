"""Lets a process keep the memory it frees, for the next clip.

A spectrogram needs a dozen arrays of a few MB. glibc asks the system for each and hands each back, and the
system clears every page of it again: 2 700 page faults a clip, a third of what the filterbank costs.
"""

from __future__ import annotations

import ctypes
from functools import cache

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""glibc's numbers of these settings (malloc.h)."""

_KEPT_BYTES = 64 * 2**20
_LARGE_BYTES = 16 * 2**20


@cache
def keep_freed_memory() -> None:
    """Keeps up to 64 MiB of freed memory at hand; blocks from 16 MiB on still go back at once.

    Does nothing where the C library is not glibc. Once a process is enough.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    mallopt(_MMAP_THRESHOLD, _LARGE_BYTES)
    mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
