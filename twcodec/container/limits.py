"""What a file may ask for. Checked before anything is allocated."""

from __future__ import annotations

from dataclasses import dataclass

from twcodec.errors import LimitError

MAX_SIDE = 1 << 24
"""No side is longer, whatever the limits: keeps every product of two sizes far below 2^63."""

_BLOCK = 16
_SMALL = 1 << 20


@dataclass(frozen=True)
class Limits:
    """Upper bounds on what a picture or a file may ask for.

    pixels: width x height. file_bytes: a whole `.twc` file. chunks: chunks in it.
    """

    pixels: int = 1 << 27
    file_bytes: int = 1 << 30
    chunks: int = 1024

    def check_size(self, width: int, height: int) -> None:
        """Raise LimitError unless a picture of width x height pixels is allowed."""
        if max(width, height) > MAX_SIDE:
            raise LimitError(
                f"{width}x{height} has a side of more than {MAX_SIDE} pixels, which the format does not allow"
            )
        counted = _counted(width, height)
        if counted > self.pixels:
            what = "is" if counted == width * height else "is coded as"
            raise LimitError(
                f"{width}x{height} {what} {counted} pixels, the limit is {self.pixels}; raise it with --max-pixels"
            )


def _counted(width: int, height: int) -> int:
    """Pixels that are worked on: thin pictures are padded to `_BLOCK`, which makes long ones 16 times as large."""
    padded = max(width, _BLOCK) * max(height, _BLOCK)
    return padded if padded > _SMALL else width * height


DEFAULT_LIMITS = Limits()
