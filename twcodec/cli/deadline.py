"""A time limit for one command."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

import click

from twcodec.errors import LimitError, MissingError

MOST = 1e6
"""Seconds, more than eleven days: what timers and limits of processes take everywhere."""


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no number") from None
    if not 0 < seconds <= MOST:
        raise click.BadParameter(f"{text!r} is no number of seconds between 0 and {MOST:g}")
    return seconds


option = click.option(
    "--timeout",
    type=_seconds,
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
