"""`twc models`: what is embedded, what is at hand, what can be pulled. One file a subcommand."""

from __future__ import annotations

import click

from twcodec.cli.lazy import LazyGroup

COMMANDS = {
    "list": "Embedded, stored and official models.",
    "show": "What a model says of itself.",
    "path": "Where the models lie.",
    "import": "Store a CompressAI checkpoint or a model file.",
    "pull": "Get an official model of CompressAI's.",
}


@click.group("models", cls=LazyGroup, package=__name__, summaries=COMMANDS)
def command() -> None:
    """See what models there are, and get more: CompressAI's official ones, or your own.

    \b
    twc models list
    twc models pull mbt2018 -q 4 && twc encode --model mbt2018 -q 4 photo.png photo.twc

    Models that were pulled or imported lie in a folder of yours; TWC_MODEL_DIR names another one.
    """
