"""What Linux control groups (containers, systemd, batch systems) leave to this process. Elsewhere there are none.

Version 2 has one hierarchy, version 1 one for each controller; both are read the same way, since no file of one has the
name of one of the other. `root` is where `proc` and `sys` are: tests make their own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator


def quotas(root: str = "") -> Iterator[tuple[int, int]]:
    """(microseconds of processor time, in a period of so many), for each group that has a quota."""
    for group in _groups("cpu", root):
        words = read(f"{group}/cpu.max").split() or [
            read(f"{group}/{name}") for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        ]
        quota, period = (number(word) for word in (*words, "", "")[:2])
        if quota is not None and period is not None and min(quota, period) > 0:  # none: "max", and -1 in version 1
            yield quota, period


def free_memory(used_here: int, root: str = "") -> Iterator[int]:
    """Bytes that each group with a limit leaves. used_here: by this process, where a group does not tell its use."""
    for group in _groups("memory", root):
        limits = _numbers(group, "memory.max", "memory.high", "memory.limit_in_bytes")
        if limits:
            used = _numbers(group, "memory.current", "memory.usage_in_bytes") or [used_here]
            yield min(limits) - max(0, used[0] - _idle_cache(group))


def read(path: str) -> str:
    """The text of a small file of the kernel's; none where there is none to be had."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:  # noqa: PTH123 - Path takes twice the time
            return file.read()
    except (OSError, ValueError):
        return ""


def number(text: str) -> int | None:
    """None: "max", or nonsense."""
    try:
        return int(text)
    except ValueError:
        return None


def _idle_cache(group: str) -> int:
    """Bytes of file cache that the kernel takes back first. Version 1 also has the sum over a group's children."""
    stat = dict(line.partition(" ")[::2] for line in read(f"{group}/memory.stat").splitlines())
    return number(stat.get("total_inactive_file", stat.get("inactive_file", ""))) or 0


def _numbers(group: str, *names: str) -> list[int]:
    found = [number(read(f"{group}/{name}")) for name in names]
    return [value for value in found if value is not None and value >= 0]


def _groups(controller: str, root: str) -> Iterator[str]:
    """Folders of this process's groups, innermost first; each of their ancestors may limit it too.

    Inside a container the path may be the host's, of which only the mount point is to be seen, or lead out of it: then
    that is the container's own group.
    """
    mounts = f"{root}/sys/fs/cgroup"
    for line in read(f"{root}/proc/self/cgroup").splitlines():
        names, _, path = line.partition(":")[2].partition(":")
        if not names:
            places = [f"{mounts}/unified", mounts]  # the first where version 1 is there too
        elif controller in names.split(","):
            places = [f"{mounts}/{names}", f"{mounts}/{controller}"]
        else:
            continue
        parts = [] if ".." in path.split("/") else list(filter(None, path.split("/")))
        for mount in list(filter(os.path.isdir, places))[:1]:
            inner = ["/".join([mount, *parts[:depth]]) for depth in range(len(parts), 0, -1)]
            yield from filter(os.path.isdir, [*inner, mount])
