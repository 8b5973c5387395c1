"""What the commands print: results on standard output, talk on standard error, neither able to break anything."""

from __future__ import annotations

import contextlib
import os
import sys

from twcodec.cli.colour import alarm
from twcodec.errors import OutputError


def say(line: str, wrong: bool = False) -> None:
    """One line on standard error, whatever characters it holds; gone if nobody listens. wrong: it is an error."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(alarm("twc:") if wrong else "twc:", " ".join(line.split("\n")), file=sys.stderr, flush=True)


def tell(text: str, data_goes_to_stdout: bool = False) -> None:
    """A result, on standard output, or on standard error if data goes there. OutputError: nobody can read it."""
    stream = sys.stderr if data_goes_to_stdout else sys.stdout
    if stream is None:
        raise OutputError("standard output is closed")
    encoding = stream.encoding or "utf-8"
    try:
        print(text.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)
    except OSError as error:
        raise unwritable(error, stream.fileno()) from None


def unwritable(error: OSError, descriptor: int = 1) -> OutputError:
    """The error to raise when a result could not be printed.

    The descriptor is pointed to nowhere, so that the interpreter's last flush has nothing to complain about.
    """
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
    if isinstance(error, BrokenPipeError):
        return OutputError("the reader of standard output went away")
    return OutputError(f"standard output cannot be written: {error.strerror or error}")


def shown(name: str, pipe: str = "standard input") -> str:
    """A file's name as text that is safe on any terminal: control characters and stray bytes are escaped."""
    if name == "-":
        return pipe
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in as_text(name)) or "''"


def as_text(name: str) -> str:
    """A file's name as Unicode: itself, or with its stray bytes escaped. JSON takes no lone surrogates."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
