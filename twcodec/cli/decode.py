"""`twc decode`."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

import click

from twcodec.cli import options
from twcodec.cli.progress import working
from twcodec.cli.say import say, shown, tell
from twcodec.container import Container
from twcodec.container.header import AVIF
from twcodec.container.limits import DEFAULT_LIMITS, Limits
from twcodec.errors import UsageError
from twcodec.imaging.files import PIPE, check_output, read_input, write_output
from twcodec.imaging.formats import format_for, named

if TYPE_CHECKING:
    from twcodec.codec.settings import Precision


@click.command("decode", short_help="Turn a TWC file back into a picture.")
@click.argument("source", metavar="IN")
@click.argument("target", metavar="OUT")
@click.option("--format", "form", default=None, help="PNG, JPEG, TIFF, ...  [default: by OUT's extension, else PNG]")
@options.precision("fp32; in bf16 pixels are a little off")
@options.apply(options.model, options.device, options.threads, options.max_memory, options.max_pixels)
@options.apply(options.force, options.as_json, options.quiet)
def command(
    source: str,
    target: str,
    form: str | None,
    precision: Precision,
    model: str,
    device: str,
    threads: int | None,
    max_memory: int | None,
    max_pixels: int,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Turn the TWC file IN (- for standard input) into the picture OUT (- for standard output).

    \b
    twc decode photo.twc photo.png
    twc decode photo.twc photo.jpg
    twc decode --format tiff - - < photo.twc > photo.tif
    """
    limits = Limits(pixels=max_pixels)
    with options.about(source, target):
        check_output(target, force, source)
        written_as = _format(form, target)
        data = read_input(source, DEFAULT_LIMITS.file_bytes)
        container = Container.from_bytes(data, limits)
        if container.header.kind != AVIF:
            options.make_ready()  # everything that can fail without torch has been tried
    from twcodec.codec import guard
    from twcodec.imaging.present import to_image
    from twcodec.imaging.write import write_image

    with options.about(source, target):
        header = container.header
        if header.kind == AVIF:
            decode = partial(guard.decode, container, max_memory)
        else:
            from twcodec.codec.codec import open_codec  # imports torch

            codec = open_codec(model, device, precision, threads, digest=header.digest, max_memory=max_memory)
            decode = partial(codec.decode_picture, data, limits)
        with working(f"decoding {shown(source)}", header.width * header.height, quiet):
            picture = decode()
        with write_output(target, force) as file:
            warnings = write_image(to_image(picture), file, written_as, picture.metadata)
    options.warn(shown(target, "standard output"), warnings, quiet)
    if as_json:
        result = {"width": picture.width, "height": picture.height, "mode": picture.mode, "format": written_as}
        tell(json.dumps({**result, "warnings": list(warnings)}), target == PIPE)
    elif not quiet:
        name = shown(target, "standard output")
        say(f"{shown(source)} -> {name}: {picture.width}x{picture.height} {picture.mode}, {written_as}")


def _format(form: str | None, target: str) -> str:
    """Pillow's name of the format to write. UsageError: there is none of that name or extension."""
    if form is not None:
        return named(form)
    if target == PIPE or "." not in target.rsplit("/", 1)[-1].lstrip("."):
        return "PNG"
    found = format_for(target)
    if found is None:
        raise UsageError(
            f"{shown(target)}: the extension names no format that can be written; choose one with --format"
        )
    return found
