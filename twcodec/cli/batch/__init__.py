"""`twc batch`: many pictures in one run. One file a subcommand."""

from __future__ import annotations

import click

from twcodec.cli.lazy import LazyGroup

COMMANDS = {
    "encode": "Compress many pictures.",
    "decode": "Turn many TWC files back into pictures.",
}


@click.group("batch", cls=LazyGroup, package=__name__, summaries=COMMANDS)
def command() -> None:
    """Files, folders, patterns, lists and tar files in one run, which goes on where it was stopped.

    \b
    twc batch encode photographs/ -r -o compressed/
    twc batch decode compressed/ -r -o restored/
    find . -name '*.jpg' -print0 | twc batch encode --files-from - -o compressed/
    """
