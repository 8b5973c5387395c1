"""What each exit code means: for the help page and the manual."""

from __future__ import annotations

from itertools import zip_longest

MEANINGS = {
    0: "ok",
    1: "some of several files failed",
    2: "usage",
    3: "unreadable input, or not TWC",
    4: "corrupt or truncated file",
    5: "unsupported version or model",
    6: "a limit was exceeded",
    7: "the output exists or cannot be written",
    8: "a device or dependency is missing",
    9: "verification or --min-psnr failed",
    70: "internal error: please report it",
    129: "hung up",
    130: "interrupted",
    143: "terminated",
}


def two_columns() -> str:
    """For the help page."""
    lines = [f"{code:>3}  {meaning}" for code, meaning in MEANINGS.items()]
    half = (len(lines) + 1) // 2
    rows = zip_longest(lines[:half], lines[half:], fillvalue="")
    return "\b\nExit codes:\n" + "\n".join(f"{left:<36}{right}".rstrip() for left, right in rows)
