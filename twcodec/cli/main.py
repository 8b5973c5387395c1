"""The command `twc`: finds the subcommand, and turns errors into one line and an exit code."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import warnings
from typing import Any

import click

from twcodec import __version__
from twcodec.cli.lazy import LazyGroup
from twcodec.cli.say import say, unwritable
from twcodec.errors import ExitCode, TwcError

COMMANDS = {
    "encode": "Compress a picture.",
    "decode": "Turn a TWC file back into a picture.",
    "info": "Show what TWC files say of themselves.",
    "verify": "Check that TWC files decode.",
    "batch": "Encode or decode many pictures.",
    "attack": "Make an adversarial picture.",
    "evaluate": "Measure what attacks do to the codec.",
    "train": "Train a model, or go on training one.",
    "models": "List, show, import and pull models.",
}
"""One file each in twcodec/cli, imported only when it is called."""

EXIT_CODES = """\b
Exit codes:
  0  ok                             6  a limit was exceeded
  1  some of several files failed   7  the output exists or cannot be written
  2  usage                          8  a device or dependency is missing
  3  unreadable input, or not TWC   9  what was encoded does not decode
  4  corrupt or truncated file    130  interrupted
  5  unsupported version or model   143  terminated
                                     70  internal error: please report it
"""


@click.group(
    cls=LazyGroup,
    package="twcodec.cli",
    summaries=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EXIT_CODES,
)
@click.version_option(__version__, "-V", "--version", prog_name="twc", message="%(prog)s %(version)s")
def twc() -> None:
    """A learned image codec that decodes bit-exactly everywhere and defends itself against adversarial pictures.

    \b
    twc encode photo.png photo.twc
    twc decode photo.twc photo.png
    twc encode -q 6 - - < photo.png | ssh host 'cat > photo.twc'
    """


def run(args: list[str] | None = None) -> None:
    """The entry point of the console script. Never returns."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, _terminate)
    warnings.simplefilter("ignore")  # what a library has to say is no line for a user
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    sys.exit(_code_of(args))


def _code_of(args: list[str] | None) -> int:
    """Run the command and return its exit code."""
    try:
        return _invoke(sys.argv[1:] if args is None else args)
    except click.ClickException as error:
        if sys.stderr is not None:
            with contextlib.suppress(OSError):
                error.show(file=sys.stderr)
        return error.exit_code
    except TwcError as error:
        say(str(error))
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        say("interrupted")
        return ExitCode.INTERRUPTED
    except MemoryError:
        say("out of memory; the picture is too large for this machine")
        return ExitCode.LIMIT
    except ImportError as error:
        say(f"{error.name or error} is missing or cannot be loaded; install twc again: pip install twcodec")
        return ExitCode.MISSING
    except Exception as error:
        if os.environ.get("TWC_DEBUG"):
            raise
        what = " ".join(f"{type(error).__name__}: {error}".split())
        say(f"internal error: {what}; please report it, with what TWC_DEBUG=1 shows")
        return ExitCode.INTERNAL


def _invoke(args: list[str]) -> int:
    """What click's own main does, without its handling of closed pipes and interrupts."""
    try:
        with twc.make_context("twc", list(args)) as context:
            return int(twc.invoke(context) or ExitCode.OK)
    except click.exceptions.Exit as stop:  # --help and --version have printed
        _flush()
        return stop.exit_code
    except OSError as error:
        if {"-h", "--help", "-V", "--version"} & set(args):
            raise unwritable(error) from None
        raise


def _flush() -> None:
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        raise unwritable(error) from None


def _terminate(number: int, _frame: Any) -> None:
    raise SystemExit(128 + number)  # temporary files are removed on the way out
