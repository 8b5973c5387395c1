"""`twc encode`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

import click

from twcodec.cli import options
from twcodec.cli.progress import working
from twcodec.cli.say import say, shown, tell
from twcodec.codec import resources
from twcodec.codec.settings import MAX_EFFORT, Settings
from twcodec.errors import UsageError
from twcodec.imaging.files import PIPE, check_output, input_pipe, write_output
from twcodec.imaging.formats import format_for

if TYPE_CHECKING:
    from twcodec.codec.report import BranchReport, Report


@click.command("encode", short_help="Compress a picture.")
@click.argument("source", metavar="IN")
@click.argument("target", metavar="OUT")
@click.option(
    "-q",
    "--quality",
    type=float,
    default=None,
    help="1 (smallest) to 7 (best; *-vbr: 8), continuous.  [default: 4, or a model's only one]",
)
@click.option("--ways", type=int, default=2, show_default=True, help="Branches to try, the plain one included.")
@click.option(
    "--transform",
    type=click.Choice(["auto", "never", "always"]),
    default="auto",
    show_default=True,
    help="auto: the lowest loss wins; never: only the picture as it is; always: only transformed ones.",
)
@click.option(
    "--transforms", metavar="NAME,...", default=None, help="Transforms to draw from: flip-turn, grid-shift, ..."
)
@click.option("--seed", type=int, default=None, help="Draw transforms from this seed, predictably: for tests only.")
@click.option(
    "--metric", type=click.Choice(["mse", "ms-ssim"]), default="mse", show_default=True, help="Distortion in the loss."
)
@click.option(
    "--metadata", type=click.Choice(["all", "none"]), default="all", show_default=True, help="ICC, EXIF, XMP and text."
)
@click.option(
    "--score",
    type=click.Choice(["exact", "fast"]),
    default="exact",
    show_default=True,
    help="How branches are ranked: by what would be coded, or (mbt2018, cheng2020) by a quicker estimate.",
)
@click.option(
    "--guard",
    type=click.Choice(["none", "avif"]),
    default="none",
    show_default=True,
    help="avif: also try AVIF, and write it if every branch costs far more: a bound on what any picture costs.",
)
@click.option(
    "--effort",
    type=click.IntRange(0, MAX_EFFORT),
    default=0,
    show_default=True,
    help="0 to 9: refine the latents of this very picture; smaller or better files, many times the time.",
)
@click.option("--no-verify", is_flag=True, help="Do not decode the symbols again before writing.")
@options.precision("bf16 where the processor is faster in it")
@options.apply(options.model, options.device, options.threads, options.max_memory, options.max_pixels)
@options.apply(options.force, options.as_json, options.quiet, options.verbose)
def command(
    source: str,
    target: str,
    quality: float | None,
    ways: int,
    transform: str,
    transforms: str | None,
    seed: int | None,
    metric: str,
    metadata: Literal["all", "none"],
    score: str,
    guard: str,
    effort: int,
    no_verify: bool,
    precision: str,
    model: str,
    device: str,
    threads: int | None,
    max_memory: int | None,
    max_pixels: int,
    force: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Compress the picture IN to the TWC file OUT. Either may be - for a pipe; IN is anything that Pillow reads.

    \b
    twc encode photo.jpg photo.twc
    twc encode -q 6.5 --ways 4 photo.png photo.twc
    magick in.heic png:- | twc encode - - > photo.twc
    """
    names = () if transforms is None else tuple(name.strip() for name in transforms.split(","))
    if not source:
        raise UsageError("an empty file name was given")
    choices = (quality, ways, transform, names, seed, metric, precision, not no_verify, score)
    settings = Settings(*choices, measure=True, guard=guard, effort=effort)  # type: ignore[arg-type]
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

    codec = open_codec(model, device, settings.precision, threads, quality=quality, max_memory=max_memory)
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
