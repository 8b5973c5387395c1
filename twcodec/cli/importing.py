"""Imports of libraries in C, which forget what a signal's handler has raised and go on with half of themselves."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator


def ending_signals() -> list[int]:
    """The numbers of the signals that end a command, as far as this system has them."""
    numbers = (getattr(signal, name, None) for name in ("SIGINT", "SIGTERM", "SIGHUP"))
    return [number for number in numbers if number is not None]


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """While the block runs, a signal that would raise an exception ends the process plainly. Nothing may be unfinished.

    Else Ctrl-C at the wrong moment leaves torch without numpy: an internal error a second later. `--timeout` waits. A
    working folder that has been removed is not in the way.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in ending_signals()}
    ours = {number: handler for number, handler in handlers.items() if callable(handler)}
    try:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)
        with _no_alarm(), _in_some_folder():
            yield
    finally:
        for number, handler in ours.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _no_alarm() -> Iterator[None]:
    """An alarm counts when the block has ended."""
    if not hasattr(signal, "SIGALRM") or not callable(before := signal.getsignal(signal.SIGALRM)):
        yield
        return
    came: list[int] = []
    signal.signal(signal.SIGALRM, lambda number, _frame: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, before)
    for number in came[:1]:
        signal.raise_signal(number)


@contextlib.contextmanager
def _in_some_folder() -> Iterator[None]:
    """MKL ends the process when it is loaded in a folder that is not there any more."""
    try:
        os.getcwd()  # noqa: PTH109 - pathlib takes a while to import
    except OSError:
        here = os.open(".", os.O_RDONLY)
        os.chdir("/")
        try:
            yield
        finally:
            os.fchdir(here)
            os.close(here)
    else:
        yield
