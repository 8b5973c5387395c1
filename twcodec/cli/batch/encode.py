"""`twc batch encode`."""

from __future__ import annotations

from typing import Any

import click

from twcodec.batch.names import PICTURES, TARS
from twcodec.batch.tasks import Job
from twcodec.cli import encoding
from twcodec.cli.batch import shared


@click.command("encode", short_help="Compress many pictures.")
@shared.arguments
@click.option(
    "--pack",
    type=click.IntRange(1, 1_000_000),
    default=None,
    metavar="N",
    help="Write tar files of N compressed pictures each: 000000.tar, ...",
)
@encoding.options
@shared.options
def command(pack: int | None, metadata: str, icc: str, model: str, **given: Any) -> int:
    """Compress each SRC, a file, a folder, a pattern or a URL, to a TWC file in the folder of --output-dir.

    \b
    twc batch encode photographs/ -r -o compressed/
    twc batch encode 'scans/**/*.tif' -q 6 --jobs 4 -o compressed/
    twc batch encode s3://bucket/in/ -r -o s3://bucket/out/
    twc batch encode photographs/ -r --shard 3/10 -o compressed/

    Folders keep their tree. A manifest in the output folder remembers what is done: the same command again goes on
    where the last one was stopped, redoes what has changed, and tries again what failed. Of a tar file the pictures are
    compressed, and the rest is copied.
    """
    plan, choices = shared.split(given)
    seed = choices.pop("seed")
    settings = encoding.settings({**choices, "seed": None})
    job = Job("encode", model=model, precision=settings.precision, settings=settings, metadata=metadata, icc=icc)
    return shared.run(plan, job, PICTURES | TARS, ".twc", seed=shared.checked_seed(seed), pack=pack or 0)
