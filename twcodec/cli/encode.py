"""`twc encode`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

import click

from twcodec.cli import encoding, options
from twcodec.cli import report as table
from twcodec.cli.importing import undisturbed
from twcodec.cli.progress import working
from twcodec.cli.say import say, shown, tell
from twcodec.codec import resources
from twcodec.errors import UsageError
from twcodec.imaging.files import PIPE, check_output, input_pipe, write_output
from twcodec.imaging.formats import format_for

if TYPE_CHECKING:
    from twcodec.codec.report import Report


@click.command("encode", short_help="Compress a picture.")
@click.argument("source", metavar="IN", type=options.FILE)
@click.argument("target", metavar="OUT", type=options.FILE)
@encoding.options
@options.apply(options.model, options.device, options.threads, options.max_memory, options.max_pixels)
@options.apply(options.force, options.fsync, options.as_json, options.quiet, options.verbose)
@table.option
def command(
    source: str,
    target: str,
    model: str,
    device: str,
    threads: int | None,
    max_memory: int | None,
    max_pixels: int,
    force: bool,
    fsync: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    shows_branches: bool,
    metadata: Literal["all", "none"],
    icc: Literal["keep", "srgb"],
    **choices: Any,
) -> None:
    """Compress the picture IN to the TWC file OUT. Either may be - for a pipe; IN is anything that Pillow reads.

    \b
    twc encode photo.jpg photo.twc
    twc encode -q 6.5 --ways 4 photo.png photo.twc
    magick in.heic png:- | twc encode - - > photo.twc
    """
    if not source:
        raise UsageError("an empty file name was given")
    settings = encoding.settings(choices, measure=as_json or shows_branches or not quiet)
    with options.about(source, target):
        check_output(target, force, source)
        resources.check_room_to_load()  # or Pillow would blame the picture
        with undisturbed():
            from twcodec.imaging.read import read_picture

        picture = read_picture(
            input_pipe() if source == PIPE else source, metadata=metadata, icc=icc, max_pixels=max_pixels
        )
        options.warn(shown(source), picture.warnings, quiet)
        if format_for(target):
            options.warn(shown(target), ("this will be a TWC file, whatever its name says",), quiet)
        options.make_ready()
    from twcodec.codec.codec import open_codec  # imports torch: everything that can fail without it has been tried

    codec = open_codec(model, device, settings.precision, threads, quality=settings.quality, max_memory=max_memory)
    with options.about(source, target):
        with working(f"encoding {shown(source)}", picture.width * picture.height, quiet):
            data, report = codec.encode_picture(picture, settings)
        with write_output(target, force, fsync=fsync) as file:
            file.write(data)
    options.warn(shown(source), report.warnings[len(picture.warnings) :], quiet)
    if as_json:
        tell(json.dumps(report.to_json()), target == PIPE)
    elif not quiet:
        _say(source, target, report)
    if shows_branches or (verbose and not quiet and not as_json):
        table.show(report)


def _say(source: str, target: str, report: Report) -> None:
    won = report.chosen
    say(
        f"{shown(source)} -> {shown(target, 'standard output')}: {report.width}x{report.height} {report.mode}, "
        f"{report.bytes} bytes, {report.bpp:.3f} bpp, {report.psnr:.2f} dB, "
        f"branch: {table.name(won)} (of {len(report.branches)})"
    )
