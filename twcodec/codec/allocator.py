"""glibc's malloc, told to keep what it is given back.

It returns large pieces to the system at once and gets them again for the next tensor, page by page, each page cleared:
a fifth of the time of encoding 15 megapixels (docs/decisions.md). The setting is the whole process's, so it is for the
owner of the process to choose: the command line does.
"""

from __future__ import annotations

import ctypes
import os
import sys

_TRIM, _MMAP = -1, -3
"""M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h."""

_KEPT = 256 << 20
"""Bytes at the top of the heap that are not given back."""

_LARGEST = (64 << 20, 32 << 20)
"""Pieces up to this size come from the heap; older versions take no more than the second."""


def keep_freed_memory() -> bool:
    """Whether it was done: not where there is another malloc, nor where the user has set this one."""
    if sys.platform != "linux" or any(name in os.environ for name in ("MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return any(mallopt(_MMAP, size) for size in _LARGEST) and bool(mallopt(_TRIM, _KEPT))


def give_back_freed_memory() -> None:
    """Return to the system what malloc keeps for later, where it is glibc's."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
