"""`twc encode`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

import click

from twcodec.cli import encoding, options
from twcodec.cli.progress import working
from twcodec.cli.say import say, shown, tell
from twcodec.codec import resources
from twcodec.errors import UsageError
from twcodec.imaging.files import PIPE, check_output, input_pipe, write_output
from twcodec.imaging.formats import format_for

if TYPE_CHECKING:
    from twcodec.codec.report import BranchReport, Report


@click.command("encode", short_help="Compress a picture.")
@click.argument("source", metavar="IN")
@click.argument("target", metavar="OUT")
@encoding.options
@options.apply(options.model, options.device, options.threads, options.max_memory, options.max_pixels)
@options.apply(options.force, options.as_json, options.quiet, options.verbose)
def command(
    source: str,
    target: str,
    model: str,
    device: str,
    threads: int | None,
    max_memory: int | None,
    max_pixels: int,
    force: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    metadata: Literal["all", "none"],
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
    settings = encoding.settings(choices, measure=as_json or not quiet)
    with options.about(source, target):
        check_output(target, force, source)
        resources.check_room_to_load()  # or Pillow would blame the picture
        from twcodec.imaging.read import read_picture

        picture = read_picture(input_pipe() if source == PIPE else source, metadata=metadata, max_pixels=max_pixels)
        options.warn(shown(source), picture.warnings, quiet)
        if format_for(target):
            options.warn(shown(target), ("this will be a TWC file, whatever its name says",), quiet)
        options.make_ready()
    from twcodec.codec.codec import open_codec  # imports torch: everything that can fail without it has been tried

    codec = open_codec(model, device, settings.precision, threads, quality=settings.quality, max_memory=max_memory)
    with options.about(source, target):
        with working(f"encoding {shown(source)}", picture.width * picture.height, quiet):
            data, report = codec.encode_picture(picture, settings)
        with write_output(target, force) as file:
            file.write(data)
    options.warn(shown(source), report.warnings[len(picture.warnings) :], quiet)
    if as_json:
        tell(json.dumps(report.to_json()), target == PIPE)
    elif not quiet:
        _say(source, target, report, verbose)


def _say(source: str, target: str, report: Report, verbose: bool) -> None:
    won = report.chosen
    say(
        f"{shown(source)} -> {shown(target, 'standard output')}: {report.width}x{report.height} {report.mode}, "
        f"{report.bytes} bytes, {report.bpp:.3f} bpp, {report.psnr:.2f} dB, "
        f"branch: {_name(won)} (of {len(report.branches)})"
    )
    for branch in report.branches if verbose else ():
        mark = "*" if branch.chosen else " "
        say(
            f" {mark} {_name(branch)}{_drawn(branch)}: {branch.estimated_bytes:.0f} bytes, {branch.psnr:.2f} dB, "
            f"loss {branch.loss:.5f}"
        )


def _name(branch: BranchReport) -> str:
    return "guard (AVIF)" if branch.transform == "guard" else branch.transform


def _drawn(branch: BranchReport) -> str:
    return f" quality {branch.parameters['quality']}" if branch.transform == "guard" else f" seed {branch.seed}"
