"""What several of the subcommands take."""

from __future__ import annotations

import difflib

import click

from twcodec.cli.options import Decorator
from twcodec.cli.say import shown
from twcodec.errors import UsageError
from twcodec.models import official

as_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on standard output.")
metric = click.option("--metric", type=click.Choice(official.METRICS), help="Trained for this.  [default: mse]")


def quality(text: str) -> Decorator:
    """-q, with this help."""
    return click.option("-q", "--quality", type=click.IntRange(1, official.HIGHEST), help=text)


ARCHITECTURES = ", ".join(official.ARCHITECTURES)
"""For messages."""


def check_architecture(name: str) -> str:
    """The architecture of this name. UsageError, with the near one."""
    if name not in official.ARCHITECTURES:
        close = difflib.get_close_matches(name.lower(), official.ARCHITECTURES, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise UsageError(f"unknown architecture {shown(name)!r}; {hint}there are: {ARCHITECTURES}")
    return name
