"""What a shell can complete: names of files, models, devices, transforms and formats. Imports nothing until asked."""

from __future__ import annotations

from typing import Any

import click
from click.shell_completion import CompletionItem

Items = list[CompletionItem[Any]]


class _File(click.ParamType):  # type: ignore[type-arg, unused-ignore]  # generic since click 8.4
    """The name of a file, taken as it is; whether there is one is seen later, with a better message."""

    name = "file"

    def convert(self, value: Any, _param: click.Parameter | None, _ctx: click.Context | None) -> Any:
        """As it is."""
        return value

    def shell_complete(self, _ctx: click.Context, _param: click.Parameter, incomplete: str) -> Items:
        """The shell knows best."""
        return [CompletionItem(incomplete, type="file")]


FILE = _File()


def models(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> Items:
    """Models at hand and published architectures; or a file."""
    from twcodec.models import catalogue, official, store

    stored = [entry.name for entry in store.entries()]
    found = _beginning(incomplete, *catalogue.names(), *stored, *official.ARCHITECTURES)
    return found or [CompletionItem(incomplete, type="file")]


def architectures(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> Items:
    """Published architectures."""
    from twcodec.models import official

    return _beginning(incomplete, *official.ARCHITECTURES)


def transforms(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> Items:
    """The next in a list of transforms."""
    from twcodec.transforms.registry import BY_NAME

    before, comma, _ = incomplete.rpartition(",")
    given = before.split(",")
    left = [name for name in BY_NAME if name not in given]
    return _beginning(incomplete, *(f"{before}{comma}{name}" for name in left))


def formats(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> Items:
    """Formats that can be written, in the case that was begun with."""
    from twcodec.imaging.formats import FORMATS

    names = FORMATS if incomplete[:1].isupper() else [name.lower() for name in FORMATS]
    return _beginning(incomplete, *names)


def devices(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> Items:
    """Kinds of devices; to see which are there, torch would have to be loaded."""
    return _beginning(incomplete, "auto", "cpu", "cuda")


def _beginning(incomplete: str, *names: str) -> Items:
    return [CompletionItem(name) for name in dict.fromkeys(names) if name.startswith(incomplete)]
