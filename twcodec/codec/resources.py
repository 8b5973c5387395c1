"""How much of the machine this process may use: processors and memory.

A container, a batch system or a shell limits both without a word to the libraries, which then start 64 threads for one
and a half processors, or take memory until the process is killed. What cannot be read limits nothing. `root` is where
`proc` and `sys` are: tests make their own.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator

from twcodec.codec import control_groups
from twcodec.codec.control_groups import number, read
from twcodec.errors import LimitError, UsageError

MIN_MEMORY = 64 << 20
"""Nothing runs in less; whoever asks for it has forgotten the unit."""

SHARE = 0.8
"""Of what is available, when nobody says how much: the rest is for others, and for what an estimate leaves out."""

_UNKNOWN = 4 << 30
"""The budget where nothing can be read: what 100 megapixels are promised to go through in."""

_TO_LOAD = {"the machine": 128 << 20, "ulimit -v": 640 << 20, "ulimit -d": 256 << 20}
"""Bytes, by what must leave them, for torch and a model before there is any picture. Measured: 180, 680 and 230 MB;
`ulimit -v` counts addresses that nobody uses, and a little less is possible."""


def processors(root: str = "") -> int:
    """Processors that this process may keep busy: by its affinity and the quotas of its control groups, rounded up."""
    return min([_affinity(), *(math.ceil(quota / period) for quota, period in control_groups.quotas(root))])


def has_gpu() -> bool:
    """Whether it is worth asking torch for CUDA devices, which takes a second."""
    return sys.platform == "win32" or os.path.exists("/dev/nvidiactl")  # noqa: PTH110


def threads(own: int, root: str = "") -> int:
    """Threads to compute with when nobody says how many. own: torch's count in the calling thread.

    Never more than that, since a user may have called `torch.set_num_threads`; and just that where OMP_NUM_THREADS is
    set, which torch's count follows.
    """
    return own if _chosen_by_environment() else min(own, processors(root))


def available_memory(root: str = "") -> int | None:
    """Bytes that this process may still take without harm to itself or others. None: nothing tells."""
    told = [*_free_in_memory(root), *(left for _, left in _free_in_limits(root))]
    return max(0, min(told)) if told else None


def resident(root: str = "") -> int:
    """Bytes of physical memory that this process has; the most it ever had where that is all there is, or 0."""
    if pages := _statm(root):
        return pages[1] * _page()
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def budget(max_memory: int | None, root: str = "") -> int:
    """Bytes that this process may use in all, those that it has now included. max_memory: a user's word for it."""
    if max_memory is not None:
        return max_memory
    available = available_memory(root)
    return _UNKNOWN if available is None else resident(root) + int(SHARE * available)


def check_room_to_load(root: str = "") -> None:
    """LimitError where torch and a model do not fit: loading them would crash, hang, or have the process killed.

    Nothing is checked once torch is there.
    """
    if "torch" in sys.modules:
        return
    for who, left in (*(("the machine", left) for left in _free_in_memory(root)), *_free_in_limits(root)):
        if left < _TO_LOAD[who]:
            raise LimitError(
                f"not enough memory to begin: {who} leaves {at_most(max(0, left))}, "
                f"torch and a model need {at_least(_TO_LOAD[who])}"
            )


def at_least(size: int) -> str:
    """Bytes as `--max-memory` takes them, rounded up, to 4M, for runs differ a little: what is printed is enough."""
    return f"{-(-size >> 22) * 4}M" if size < _IN_G else f"{-(-size * 10 >> 30) / 10:g}G"


def at_most(size: int) -> str:
    """As `at_least`, rounded down."""
    return f"{size >> 20}M" if size < _IN_G else f"{(size * 10 >> 30) / 10:g}G"


_IN_G = 10 << 30
"""Bytes from which on a tenth of a gigabyte is exact enough."""


def check_max_memory(max_memory: int | None) -> None:
    """UsageError unless `budget` takes it."""
    if max_memory is None:
        return
    if not isinstance(max_memory, int):
        raise UsageError(f"max_memory is a whole number of bytes, not {max_memory!r}")
    if max_memory < MIN_MEMORY:
        raise UsageError(f"{max_memory} bytes of memory; at least {MIN_MEMORY >> 20}M are needed")


def _chosen_by_environment() -> bool:
    """Whether OMP_NUM_THREADS holds a count, or a list of them for nested regions; OpenMP ignores anything else."""
    return (number(os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]) or 0) > 0


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _free_in_memory(root: str) -> Iterator[int]:
    """What the machine and the control groups leave of physical memory."""
    yield from control_groups.free_memory(resident(root), root)
    words = read(f"{root}/proc/meminfo").partition("MemAvailable:")[2].split(maxsplit=1)
    kilobytes = number(words[0]) if words else None
    if kilobytes is not None:
        yield kilobytes * 1024
    elif hasattr(os, "sysconf"):  # not on Windows
        name, share = ("SC_AVPHYS_PAGES", 1) if "SC_AVPHYS_PAGES" in os.sysconf_names else ("SC_PHYS_PAGES", 2)
        if (pages := os.sysconf(name)) > 0:  # macOS knows the whole only: half of it, then
            yield pages * _page() // share


def _free_in_limits(root: str) -> Iterator[tuple[str, int]]:
    """What `ulimit -v` and `ulimit -d` leave, which count addresses, used or not."""
    try:
        import resource
    except ImportError:  # Windows
        return
    pages = _statm(root)
    for who, limit, column in (("ulimit -v", resource.RLIMIT_AS, 0), ("ulimit -d", resource.RLIMIT_DATA, 5)):
        most = resource.getrlimit(limit)[0]
        if pages and most != resource.RLIM_INFINITY:
            yield who, most - pages[column] * _page()


def _statm(root: str) -> list[int]:
    """Pages of this process: all, resident, shared, code, 0, data and stack, 0. Empty where they are not told."""
    pages = [number(word) for word in read(f"{root}/proc/self/statm").split()]
    known = [count for count in pages if count is not None]
    return known if len(known) == len(pages) == 7 else []


def _page() -> int:
    return os.sysconf("SC_PAGE_SIZE")
