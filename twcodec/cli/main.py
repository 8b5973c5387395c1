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

from twcodec.cli import colour, exit_codes
from twcodec.cli.completion import answer
from twcodec.cli.importing import ending_signals
from twcodec.cli.lazy import LazyGroup
from twcodec.cli.say import say, unwritable
from twcodec.errors import ExitCode, TwcError
from twcodec.imaging import unfinished

COMMANDS = {
    "encode": "Compress a picture.",
    "decode": "Turn a TWC file back into a picture.",
    "info": "Show what TWC files say of themselves.",
    "verify": "Check that TWC files decode.",
    "compare": "Measure how much two pictures differ.",
    "batch": "Encode or decode many pictures.",
    "attack": "Make an adversarial picture.",
    "evaluate": "Measure what attacks do to the codec.",
    "train": "Train a model, or go on training one.",
    "models": "List, show, import and pull models.",
    "completion": "Print a script with which a shell completes twc's options.",
}
"""One file each in twcodec/cli, imported only when it is called."""


def _version(context: click.Context, parameter: click.Parameter, wanted: Any) -> None:
    from twcodec.cli import version

    version.show(context, parameter, wanted)


class _Twc(LazyGroup):
    def meant(self, name: str) -> str | None:
        """As of any group; a name of a file is meant for the command that takes such files."""
        of_file = "decode IN OUT" if name.lower().endswith(".twc") else "encode IN OUT"
        return super().meant(name) or (of_file if "." in name else None)


@click.group(
    cls=_Twc,
    package="twcodec.cli",
    summaries=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=exit_codes.two_columns(),
)
@colour.option
@click.option(
    "-V", "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show versions."
)
def twc() -> None:
    """A learned image codec that decodes bit-exactly everywhere and defends itself against adversarial pictures.

    \b
    twc encode photo.png photo.twc
    twc decode photo.twc photo.png
    twc encode -q 6 - - < photo.png | ssh host 'cat > photo.twc'
    """


def run(args: list[str] | None = None) -> None:
    """The entry point of the console script. Never returns."""
    heard = _heard()
    for number in heard:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else _terminate)
    warnings.simplefilter("ignore")  # what a library has to say is no line for a user
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    sys.exit(_last_word(args, heard))


def _heard() -> list[int]:
    """The signals that end a command, but for those that whoever started it had ignored, as nohup does."""
    return [number for number in ending_signals() if signal.getsignal(number) is not signal.SIG_IGN]


def _last_word(args: list[str] | None, heard: list[int]) -> int:
    """The exit code. Once it is known nothing is left behind, and a signal ends the process plainly.

    Python's own handlers would print a traceback of whatever the interpreter does while it ends.
    """
    code: int = ExitCode.INTERRUPTED
    try:
        try:
            code = _code_of(args)
        finally:
            _answer(heard, signal.SIG_IGN)
    except KeyboardInterrupt:  # a second one, or one while an error was told
        code = ExitCode.INTERRUPTED
    except SystemExit as stop:
        code = int(stop.code or 0)
    _answer(heard, signal.SIG_IGN)
    unfinished.remove()
    _answer(heard, signal.SIG_DFL)
    return code


def _answer(numbers: list[int], action: signal.Handlers) -> None:
    for number in numbers:
        signal.signal(number, action)


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
        say(str(error), wrong=True)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        say("interrupted", wrong=True)
        return ExitCode.INTERRUPTED
    except MemoryError:
        say("out of memory; the picture is too large for this machine", wrong=True)
        return ExitCode.LIMIT
    except ImportError as error:
        say(f"{error.name or error} is missing or cannot be loaded; install twc again: pip install twcodec", wrong=True)
        return ExitCode.MISSING
    except Exception as error:
        if os.environ.get("TWC_DEBUG"):
            raise
        what = " ".join(f"{type(error).__name__}: {error}".split())
        say(f"internal error: {what}; please report it, with what TWC_DEBUG=1 shows", wrong=True)
        return ExitCode.INTERNAL


def _invoke(args: list[str]) -> int:
    """What click's own main does, without its handling of closed pipes and interrupts."""
    colour.choose("auto")
    try:
        if answer(twc):
            return ExitCode.OK
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
