"""Options that several commands share, and how errors get the name of their file."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import click

from twcodec.cli.main import say
from twcodec.container.limits import DEFAULT_LIMITS
from twcodec.errors import OutputError, TwcError, UsageError

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

force = click.option("-f", "--force", is_flag=True, help="Overwrite the output if it exists.")
quiet = click.option("--quiet", is_flag=True, help="Say nothing but errors.")
verbose = click.option("-v", "--verbose", is_flag=True, help="Say more.")
as_json = click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print the result as JSON on standard output (on standard error if data goes there).",
)
max_pixels = click.option(
    "--max-pixels",
    type=click.IntRange(min=1),
    default=DEFAULT_LIMITS.pixels,
    show_default=True,
    envvar="TWC_MAX_PIXELS",
    help="Refuse pictures with more pixels.",
)
model = click.option(
    "--model", default="default", show_default=True, help="A model's name, or the path of a model file."
)
device = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
threads = click.option(
    "--threads", type=click.IntRange(min=1), default=None, help="Threads on the CPU.  [default: all]"
)


def apply(*options: Decorator) -> Decorator:
    """Several options as one decorator, shown in this order."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


@contextlib.contextmanager
def about(source: str, target: str | None = None) -> Iterator[None]:
    """Put the name of the file in front of an error's message: the output's for an OutputError, none for usage."""
    try:
        yield
    except UsageError:
        raise
    except TwcError as error:
        name = target if isinstance(error, OutputError) and target is not None else source
        raise type(error)(f"{shown(name)}: {error}") from None


def shown(name: str) -> str:
    """A file's name as text that any terminal takes."""
    return (
        "standard input or output"
        if name == "-"
        else name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    )


def warn(source: str, warnings: tuple[str, ...], silent: bool) -> None:
    """Each warning on a line of its own."""
    for line in () if silent else warnings:
        say(f"{shown(source)}: warning: {line}")
