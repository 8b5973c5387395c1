"""A time limit for one command."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

import click

from twcodec.cli.options import Number
from twcodec.errors import LimitError, MissingError

MOST = 1e6
"""Seconds, more than eleven days: what timers and limits of processes take everywhere."""


class _Seconds(Number):
    """Such a number of seconds."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """As `Number`, within the limits."""
        seconds = super().convert(value, param, ctx)
        if not 0 < seconds <= MOST:
            self.fail(f"{value!r} is no number of seconds between 0 and {MOST:g}", param, ctx)
        return seconds


option = click.option(
    "--timeout",
    type=_Seconds(),
    default=None,
    metavar="SECONDS",
    envvar="TWC_TIMEOUT",
    show_envvar=True,
    help="Give up a file after so long, with exit code 6.",
)


class _Expired(BaseException):
    """Not an error, or whatever handles errors on the way would take it for its own."""


@contextlib.contextmanager
def deadline(seconds: float | None) -> Iterator[None]:
    """The block is left when it has not ended after so many seconds; None: whenever it ends.

    It is left between two steps of Python: a product of matrices is finished first. LimitError: the time is over.
    MissingError: this system has no timer, or this is not the main thread.
    """
    if seconds is None:
        yield
        return
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        raise MissingError("--timeout needs a timer, which this system does not have")

    def expired(_number: int, _frame: FrameType | None) -> None:
        raise _Expired

    before = signal.signal(signal.SIGALRM, expired)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        yield
    except _Expired:
        raise LimitError(f"not done after {seconds:g} seconds (--timeout)") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
