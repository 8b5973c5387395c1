"""Whether coded symbols can be those of a picture as large as claimed (formats/twc-1.md, section 7.7)."""

from __future__ import annotations

from twcodec.errors import CorruptError

_STRIPPED_BITS = 64
"""The coder drops zero bytes at the end, by chance more than these once in 2^64 files."""


def check(payload_bytes: int, floor: float, positions: int) -> None:
    """CorruptError if the payload cannot hold even the cheapest z. floor: bits of that at one of its positions."""
    if 8 * payload_bytes + _STRIPPED_BITS < floor * positions:
        raise CorruptError(f"{payload_bytes} bytes of coded symbols cannot hold a picture of this size")
