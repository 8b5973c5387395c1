"""What `twc --version` prints: twc's version, what it stands on, and the models that it holds. Imports none of it."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Any

import click

from twcodec import __version__
from twcodec.cli.say import tell

_BESIDE = ("torch", "numpy", "pillow", "click")


def show(context: click.Context, _param: click.Parameter, wanted: Any) -> None:
    """The callback of --version."""
    if wanted and not context.resilient_parsing:
        tell(report())
        context.exit()


def report() -> str:
    """The lines. The first is the version alone, for scripts."""
    from twcodec.models import catalogue

    lines = [f"twc {__version__}", "", f"{'Python':<18}{platform.python_version()}, {platform.machine()}"]
    lines += [f"{name:<18}{_version(name)}" for name in _BESIDE]
    for entry in catalogue.EMBEDDED:
        mark = " (the default)" if entry.name == catalogue.default_name() else ""
        lines.append(f"{entry.name:<18}{entry.digest.hex()}{mark}")
    return "\n".join(lines)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
