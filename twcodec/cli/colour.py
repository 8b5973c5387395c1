"""Colour for the word before an error and for headings: on a terminal only, unless it is asked for."""

from __future__ import annotations

import os
import sys
from typing import IO, Any

import click

CHOICES = ("auto", "always", "never")

_mode = "auto"


def choose(mode: str) -> None:
    """What --color says, for the rest of the process or until it is chosen again."""
    global _mode
    _mode = mode


def _choose(_ctx: click.Context, _param: click.Parameter, mode: str | None) -> None:
    if mode:
        choose(mode)


option = click.option(
    "--color",
    type=click.Choice(CHOICES),
    default=None,
    expose_value=False,
    is_eager=True,
    callback=_choose,
    help="Of errors and headings; auto: on a terminal, unless NO_COLOR is set.  [default: auto]",
)


def heading(text: str) -> str:
    """For standard output: a file's name over a table, the titles of its columns."""
    return _painted(text, "1", sys.stdout)


def alarm(text: str) -> str:
    """For standard error: the word before an error."""
    return _painted(text, "1;31", sys.stderr)


def _painted(text: str, how: str, stream: IO[Any] | None) -> str:
    return f"\033[{how}m{text}\033[0m" if _wanted(stream) else text


def _wanted(stream: IO[Any] | None) -> bool:
    """NO_COLOR (https://no-color.org) is stronger than a terminal, and --color is stronger than both."""
    if _mode != "auto":
        return _mode == "always"
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return stream is not None and stream.isatty()
