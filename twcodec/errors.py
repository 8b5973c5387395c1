"""Every error a user can meet: one tree, each class carrying the exit code that the command line returns.

A message is one line that says what was found, what was expected and what to do. The command line puts the
name of the file in front of it; the library raises it as it is.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What the process returns; shells and batch scripts branch on these, so they never change."""

    OK = 0
    SOME_FAILED = 1
    USAGE = 2
    UNREADABLE = 3
    CORRUPT = 4
    UNSUPPORTED = 5
    LIMIT = 6
    OUTPUT = 7
    MISSING = 8
    VERIFICATION = 9
    INTERNAL = 70
    """A bug of ours; sysexits.h calls it EX_SOFTWARE."""
    INTERRUPTED = 130


class TwcError(Exception):
    """Base of every error that twc raises on purpose."""

    exit_code = ExitCode.UNREADABLE


class UsageError(TwcError, ValueError):
    """An option or argument that cannot be meant: a quality of 9, an unknown transform."""

    exit_code = ExitCode.USAGE


class UnreadableError(TwcError):
    """The input cannot be opened, is no picture that Pillow reads, or is not a TWC file."""

    exit_code = ExitCode.UNREADABLE


class CorruptError(TwcError):
    """A TWC file that is truncated, damaged, or does not hold what its header says."""

    exit_code = ExitCode.CORRUPT


class UnsupportedError(TwcError):
    """A sound file that this build cannot decode: a later version, or a model that is not at hand."""

    exit_code = ExitCode.UNSUPPORTED


class LimitError(TwcError):
    """The input asks for more pixels, bytes or chunks than the limits allow."""

    exit_code = ExitCode.LIMIT


class OutputError(TwcError):
    """The output exists already, or cannot be written."""

    exit_code = ExitCode.OUTPUT


class MissingError(TwcError):
    """A device or an optional dependency is not there."""

    exit_code = ExitCode.MISSING


class VerificationError(TwcError):
    """What was just encoded does not decode to what it should."""

    exit_code = ExitCode.VERIFICATION
