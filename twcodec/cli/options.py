"""Options that several commands share, and how errors get the name of their file."""

from __future__ import annotations

import contextlib
import gc
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

import click

from twcodec.cli import complete
from twcodec.cli.complete import FILE as FILE
from twcodec.cli.importing import undisturbed
from twcodec.cli.say import say, shown
from twcodec.codec import resources
from twcodec.codec.resources import MIN_MEMORY, SHARE
from twcodec.codec.settings import MAX_THREADS
from twcodec.container.limits import DEFAULT_LIMITS
from twcodec.errors import MissingError, OutputError, TwcError, UsageError

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
_SIZE = re.compile(r"(\d{1,18})(?:\.(\d{1,18}))? ?(?:([KMGT])(?:I?B)?|B)?", re.ASCII)


def _memory(text: str) -> int:
    """As `file_size`, of a sensible amount."""
    size = file_size(text)
    if size < MIN_MEMORY:
        raise click.BadParameter(f"{text!r} is {size} bytes; at least {MIN_MEMORY >> 20}M are needed")
    return size


def file_size(text: str) -> int:
    """Bytes in "2G", "1.5GB", "800 MiB", "4096K", "2000000000": all by powers of 1024."""
    found = _SIZE.fullmatch(text.strip().upper())
    if not found:
        raise click.BadParameter(f"{text!r} is no size; sizes are 2G, 1.5GB, 800M, or a number of bytes")
    whole, part, unit = (group or "" for group in found.groups())
    size: int = int(whole + part) * 1024 ** " KMGT".index(unit or " ") // 10 ** len(part)
    return size


class _Count(click.IntRange):
    """A whole number of something, that says so where it is none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """As click's, which would say "not a valid integer range"."""
        try:
            int(value)
        except ValueError:
            self.fail(f"{value!r} is no whole number", param, ctx)
        return super().convert(value, param, ctx)


class Number(click.types.FloatParamType):
    """A number, that says so where it is none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """As click's, which would say "not a valid float"."""
        try:
            return float(value)
        except ValueError:
            self.fail(f"{value!r} is no number", param, ctx)


NUMBER = Number()

force = click.option("-f", "--force", is_flag=True, help="Overwrite the output if it exists.")
fsync = click.option(
    "--fsync", is_flag=True, help="Be done only when the output and its name are on the disk: it outlives a power cut."
)
icc = click.option(
    "--icc",
    type=click.Choice(["keep", "srgb"]),
    default="keep",
    show_default=True,
    help="srgb: convert the colours by the ICC profile, and leave it out.",
)
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
    type=_Count(min=1),
    default=DEFAULT_LIMITS.pixels,
    show_default=True,
    envvar="TWC_MAX_PIXELS",
    show_envvar=True,
    help="Refuse pictures with more pixels.",
)
model = click.option(
    "--model",
    default="default",
    show_default=True,
    shell_complete=complete.models,
    help="A model's name, or the path of a model file.",
)
device = click.option(
    "--device",
    default="auto",
    show_default=True,
    shell_complete=complete.devices,
    help="auto, cpu, cuda or cuda:N.",
)
threads = click.option(
    "--threads",
    type=_Count(1, MAX_THREADS),
    default=None,
    help="Threads on the CPU.  [default: one for each processor that is allowed]",
)
max_memory = click.option(
    "--max-memory",
    type=_memory,
    default=None,
    metavar="SIZE",
    envvar="TWC_MAX_MEMORY",
    show_envvar=True,
    help=f"Stay within this much memory: 2G, 800M, ...  [default: {SHARE:.0%} of what is free]",
)


def precision(automatic: str) -> Decorator:
    """In which type the networks compute. automatic: what "auto" is."""
    kinds = click.Choice(["auto", "fp32", "bf16"])
    return click.option(
        "--precision", type=kinds, default="auto", show_default=True, help=f"Of the networks; auto: {automatic}."
    )


def apply(*options: Decorator) -> Decorator:
    """Several options as one decorator, shown in this order."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def make_ready() -> None:
    """Import torch, and keep memory as its tensors want it. LimitError: there is not enough to begin."""
    resources.check_room_to_load()
    from twcodec.codec.allocator import keep_freed_memory

    keep_freed_memory()
    if "torch" not in sys.modules:
        with undisturbed(), _kept_for_good():
            import torch  # noqa: F401


def make_numpy_ready() -> None:
    """Import numpy and Pillow, for what imports them next and does without torch."""
    if "numpy" not in sys.modules or "PIL.Image" not in sys.modules:
        with undisturbed():
            import numpy  # noqa: F401
            import PIL.Image  # noqa: F401


@contextlib.contextmanager
def _kept_for_good() -> Iterator[None]:
    """The garbage collector never looks at what is made in here, and at nothing that was there before.

    It would walk through all of torch again and again while that is imported, and once more when the process ends: a
    quarter of the time of encoding a Kodak picture.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        if enabled:
            gc.enable()


@contextlib.contextmanager
def about(source: str, target: str | None = None) -> Iterator[None]:
    """Put the name of the file in front of an error's message: the output's for an OutputError, none for usage."""
    try:
        yield
    except (UsageError, MissingError):
        raise
    except TwcError as error:
        if not isinstance(error, OutputError):
            raise type(error)(f"{shown(source)}: {error}") from None
        if target is None:  # standard output: no file's fault
            raise
        raise type(error)(f"{shown(target, 'standard output')}: {error}") from None


def warn(source: str, warnings: tuple[str, ...], silent: bool) -> None:
    """Each warning on a line of its own."""
    for line in () if silent else warnings:
        say(f"{source}: warning: {line}")
