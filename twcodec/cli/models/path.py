"""`twc models path`."""

from __future__ import annotations

import click

from twcodec.cli import complete
from twcodec.cli.models import lookup
from twcodec.cli.models.arguments import quality
from twcodec.cli.say import tell
from twcodec.errors import UsageError
from twcodec.models import catalogue, store


@click.command("path")
@click.argument("name", metavar="[NAME]", required=False, shell_complete=complete.models)
@quality("Of an architecture that has one model a quality.")
def command(name: str | None, quality: int | None) -> None:
    """Print the folder of stored models, or the path of the file of the model NAME.

    \b
    twc models path
    cp "$(twc models path mbt2018 -q 4)" /mnt/usb
    """
    if name is None:
        if quality is not None:
            raise UsageError("-q needs the name of an architecture beside it")
        tell(str(store.folder()))
        return
    entry = catalogue.embedded(name)
    if entry is not None:
        tell(str(entry.path))
    elif found := lookup.stored(name, quality):
        tell(str(found.path))
    else:
        lookup.refuse(name, quality)
