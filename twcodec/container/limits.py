"""What a file may ask for. Checked before anything is allocated."""

from __future__ import annotations

from dataclasses import dataclass

from twcodec.errors import LimitError

MAX_SIDE = 1 << 24
"""No side is longer, whatever the limits: keeps every product of two sizes far below 2^63."""

MAX_THREADS = 1024
"""More would only be refused, or worse, by the libraries."""


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
        if width * height > self.pixels:
            raise LimitError(
                f"{width}x{height} is {width * height} pixels, the limit is {self.pixels}; raise it with --max-pixels"
            )


DEFAULT_LIMITS = Limits()
