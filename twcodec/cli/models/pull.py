"""`twc models pull`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from twcodec.cli import complete, options
from twcodec.cli.models.arguments import as_json, check_architecture, metric, quality
from twcodec.cli.models.keep import converted, keep, report
from twcodec.cli.say import say
from twcodec.errors import TwcError, UsageError
from twcodec.models import official, store
from twcodec.models.official import Checkpoint

if TYPE_CHECKING:
    from twcodec.models.download import Progress


@click.command("pull")
@click.argument("arch", metavar="ARCH", shell_complete=complete.architectures)
@quality("1 (smallest files) to 8, or 6, depending on ARCH; none for -vbr.")
@metric
@click.option("-f", "--force", is_flag=True, help="Get it again if it is at hand.")
@options.apply(as_json, options.quiet)
def command(arch: str, quality: int | None, metric: str | None, force: bool, as_json: bool, quiet: bool) -> None:
    """Download an official checkpoint of CompressAI's, check it, convert it to a model file and store it.

    \b
    twc models pull mbt2018 -q 4
    twc models pull cheng2020-attn -q 6 --metric ms-ssim
    twc models pull mbt2018-mean-vbr

    An interrupted download goes on where it was. TWC_MODEL_URL names a mirror.
    """
    checkpoint = _official(check_architecture(arch), quality, metric or "mse")
    if not force and _at_hand(checkpoint, as_json, quiet):
        return
    from twcodec.models.download import fetch

    with _progress(checkpoint, quiet) as progress:
        path = fetch(checkpoint, progress)
    if not quiet:
        say(f"converting {path.name}")
    with options.about(str(path)):
        data = converted(str(path), checkpoint.architecture, checkpoint.quality, checkpoint.metric, None)
    keep(data, checkpoint.name, None, False, as_json, quiet)
    with contextlib.suppress(OSError):
        path.unlink()


def _official(architecture: str, quality: int | None, metric: str) -> Checkpoint:
    """The checkpoint to pull. UsageError: there is none, with what there is."""
    found = official.find(architecture, quality, metric)
    if found is not None:
        return found
    there = official.qualities(architecture, metric)
    if there:
        raise UsageError(f"{architecture} has one official {metric} model a quality: -q {there[0]} to {there[-1]}")
    if official.find(architecture, None, metric):
        raise UsageError(f"{architecture} has all qualities in one model; leave -q out")
    raise UsageError(f"there is no official {metric} model of {architecture}; `twc models list` shows what there is")


def _at_hand(checkpoint: Checkpoint, as_json: bool, quiet: bool) -> bool:
    """Whether its model is stored, and undamaged; it is reported then."""
    stored = store.find(checkpoint.name)
    if stored is None:
        return False
    try:
        data = store.read(stored)
    except TwcError:
        if not quiet:
            say(f"{checkpoint.name} is at hand, but damaged")
        return False
    if not quiet:
        say(f"{checkpoint.name} is at hand already; --force gets it again")
    report(stored.name, data, str(stored.path), official.option_for(stored.name), as_json, quiet)
    return True


@contextlib.contextmanager
def _progress(checkpoint: Checkpoint, quiet: bool) -> Iterator[Progress | None]:
    """A bar on a terminal, a line elsewhere."""
    if quiet or sys.stderr is None or not sys.stderr.isatty():
        if not quiet:
            say(f"downloading {checkpoint.url}")
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    text = TextColumn("{task.description}", markup=False)
    columns = (text, BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(checkpoint.file, total=None)
        yield lambda have, total: bar.update(task, completed=have, total=total)
