"""The options that say what is wanted of a picture: a part of it, a smaller one, more bits, other colours."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import click

from twcodec.cli.options import apply, icc
from twcodec.codec.view import DEEP, SCALES, View

_CROP = re.compile(r"\s*(\d{1,9})\s*,\s*(\d{1,9})\s*,\s*(\d{1,9})\s*,\s*(\d{1,9})\s*", re.ASCII)
_NAMES = {f"1/{n}" if n > 1 else "1": n for n in SCALES}


def _crop(text: str) -> tuple[int, ...]:
    found = _CROP.fullmatch(text)
    if not found:
        raise click.BadParameter(f"{text!r} is no crop; a crop is left,top,width,height in pixels: 0,0,640,480")
    return tuple(int(n) for n in found.groups())


_OPTIONS = (
    click.option(
        "--crop",
        type=_crop,
        default=None,
        metavar="X,Y,W,H",
        help="Only this part of the stored picture; no other is synthesised.",
    ),
    click.option("--scale", type=click.Choice(list(_NAMES)), default="1", help="A smaller picture: means of squares."),
    click.option(
        "--depth",
        type=click.Choice([str(DEEP)]),
        default=None,
        help="16 bits a sample from a picture of 8, as PNG.  [default: the picture's own]",
    ),
    icc,
)


def options(function: Callable[..., Any]) -> Callable[..., Any]:
    """All of them, for a command that takes them as keywords and gives them to `view`, but for `icc`."""
    return apply(*_OPTIONS)(function)


def view(crop: tuple[int, int, int, int] | None, scale: str, depth: str | None) -> View:
    """What was asked for. UsageError."""
    return View(crop, _NAMES[scale], DEEP if depth == str(DEEP) else None)


def arguments(wanted: View) -> dict[str, str | None]:
    """The inverse: options by name."""
    return {
        "--crop": None if wanted.crop is None else ",".join(map(str, wanted.crop)),
        "--scale": next(name for name, n in _NAMES.items() if n == wanted.scale),
        "--depth": None if wanted.depth is None else str(wanted.depth),
    }
