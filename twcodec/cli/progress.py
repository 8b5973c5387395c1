"""A sign of life for runs that take a while: only on a terminal, only for large pictures."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

LARGE = 4_000_000
"""Pixels from which a run takes seconds."""


@contextlib.contextmanager
def working(text: str, pixels: int, quiet: bool) -> Iterator[None]:
    """Show `text` and a spinner on standard error while the block runs, if a person is likely to wait for it."""
    if quiet or pixels < LARGE or sys.stderr is None or not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.markup import escape

    with Console(stderr=True).status(escape(f"{text} ({pixels / 1e6:.0f} megapixels)")):
        yield
