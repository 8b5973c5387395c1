"""`twc batch decode`."""

from __future__ import annotations

from typing import Any

import click

from twcodec.batch import tar
from twcodec.batch.names import TARS
from twcodec.batch.tasks import Job
from twcodec.cli import complete, options
from twcodec.cli.batch import shared
from twcodec.codec.settings import Precision
from twcodec.imaging.formats import named


@click.command("decode", short_help="Turn many TWC files back into pictures.")
@shared.arguments
@click.option(
    "--format", "form", default="PNG", show_default=True, shell_complete=complete.formats, help="PNG, JPEG, TIFF, ..."
)
@options.precision("fp32; in bf16 pixels are a little off")
@shared.options
def command(form: str, precision: Precision, model: str, **given: Any) -> int:
    """Turn each SRC, a TWC file, a folder of them, a pattern or a URL, into a picture in the folder of --output-dir.

    \b
    twc batch decode compressed/ -r -o restored/
    twc batch decode --format jpeg compressed/*.twc -o restored/

    Folders keep their tree. A manifest in the output folder remembers what is done: the same command again goes on
    where the last one was stopped.
    """
    plan, _ = shared.split(given)
    job = Job("decode", model=model, precision=precision, form=named(form))
    return shared.run(plan, job, TARS | {".twc"}, tar.extension(job.form))
