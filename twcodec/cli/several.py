"""Commands that take several files: one failure does not stop the others."""

from __future__ import annotations

from collections.abc import Callable

from twcodec.cli import options
from twcodec.cli.say import say
from twcodec.errors import ExitCode, OutputError, TwcError


def each(files: tuple[str, ...], action: Callable[[str], None]) -> int:
    """Call `action` with each name. Returns the exit code: a single file's own, or 1 if some of several failed."""
    failed = []
    for name in files:
        try:
            with options.about(name):
                action(name)
        except OutputError:  # nobody reads the results: no file's fault, and no use in going on
            raise
        except TwcError as error:
            say(str(error), wrong=True)
            failed.append(error.exit_code)
    if not failed:
        return ExitCode.OK
    return failed[0] if len(files) == 1 else ExitCode.SOME_FAILED
