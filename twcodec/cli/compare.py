"""`twc compare`."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import click

from twcodec.cli import colour, options
from twcodec.cli.progress import working
from twcodec.cli.say import say, shown, tell
from twcodec.cli.sides import Reader, Side
from twcodec.errors import UsageError, VerificationError
from twcodec.imaging.files import PIPE, check_output, write_output
from twcodec.imaging.formats import format_for

if TYPE_CHECKING:
    from twcodec.codec.compare import Difference
    from twcodec.imaging.picture import Picture


@click.command("compare", short_help="Measure how much two pictures differ.")
@click.argument("first", metavar="A", type=options.FILE)
@click.argument("second", metavar="B", type=options.FILE)
@click.option("--min-psnr", type=options.NUMBER, default=None, metavar="DB", help="Exit with 9 if the PSNR is lower.")
@click.option(
    "--diff", "target", type=options.FILE, default=None, metavar="OUT.png", help="Write a map of the differences."
)
@options.apply(options.model, options.device, options.threads, options.max_memory, options.max_pixels)
@options.apply(options.force, options.as_json, options.quiet, colour.option)
def command(
    first: str,
    second: str,
    min_psnr: float | None,
    target: str | None,
    model: str,
    device: str,
    threads: int | None,
    max_memory: int | None,
    max_pixels: int,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Compare the pictures A and B: PSNR, MS-SSIM, SSIM, the largest error, and what each costs.

    \b
    twc compare photo.png photo.twc
    twc compare --diff map.png photo.png photo.jpg
    twc compare --quiet --min-psnr 32 photo.png photo.twc && rm photo.png

    Each is a TWC file, which is decoded, or any picture that Pillow reads; one may be - for standard input. Both are
    turned upright first. 16-bit grey is compared in 16 bits. Sizes and depths must be the same.
    """
    _check(first, second, min_psnr)
    reader = Reader(model, device, threads, max_memory, max_pixels)
    if target is not None:
        for name in (first, second):
            with options.about(name, target):
                check_output(target, force, name)
    sides = []
    for name in (first, second):
        with options.about(name):
            sides.append(reader.read(name, quiet))
    a, b, notes = _aligned(sides)
    with working("comparing", a.width * a.height, quiet):
        from twcodec.codec.compare import check_memory, compare

        check_memory(a, b, target is not None, max_memory)
        found = compare(a, b)
    gain = None if target is None else _write_map(a, b, target, force)
    notes += _left_out(found)
    if as_json:
        about = {"a": sides[0].to_json(), "b": sides[1].to_json(), **found.to_json()}
        tell(json.dumps({**about, "diff_gain": gain, "notes": list(notes)}), target == PIPE)
    elif not quiet:
        tell(_table(sides, found), target == PIPE)
        for note in notes:
            say(f"warning: {note}")
        if target is not None and gain is not None:
            _say_map(target, gain)
    if min_psnr is not None and found.psnr < min_psnr:
        raise VerificationError(f"the PSNR is {found.psnr:.2f} dB; --min-psnr asks for {min_psnr:g}")


def _check(first: str, second: str, min_psnr: float | None) -> None:
    if "" in (first, second):
        raise UsageError("an empty file name was given")
    if first == second == PIPE:
        raise UsageError("only one of the two pictures can come from a pipe")
    if min_psnr is not None and math.isnan(min_psnr):
        raise UsageError("--min-psnr nan is no number of dB")


def _aligned(sides: list[Side]) -> tuple[Picture, Picture, tuple[str, ...]]:
    from twcodec.imaging.align import aligned

    options.make_ready()
    a, b = sides
    return aligned(a.picture, b.picture, (shown(a.name), shown(b.name)))


def _left_out(found: Difference) -> tuple[str, ...]:
    if found.ms_ssim is not None:
        return ()
    from twcodec.codec.similarity import FIVE_SCALES, WINDOW

    no_ssim = (f"no SSIM: it needs {WINDOW} pixels a side",) if found.ssim is None else ()
    return (f"no MS-SSIM: it needs {FIVE_SCALES} pixels a side", *no_ssim)


def _write_map(a: Picture, b: Picture, target: str, force: bool) -> int:
    """Write the difference map as PNG, and return by how much it is amplified."""
    from PIL import Image

    from twcodec.codec.compare import difference_map
    from twcodec.imaging.write import write_image

    shown_, gain = difference_map(a, b)
    image = Image.fromarray(shown_ if shown_.shape[2] == 3 else shown_[..., 0])
    with options.about(target, target), write_output(target, force) as file:
        write_image(image, file, "PNG")
    return gain


def _say_map(target: str, gain: int) -> None:
    name = shown(target, "standard output")
    tell(f"{name}: the differences, times {gain}", target == PIPE)
    if target != PIPE and format_for(target) not in (None, "PNG"):
        options.warn(name, ("this is a PNG, whatever its name says",), False)


def _table(sides: list[Side], found: Difference) -> str:
    lines = []
    width = max(len(shown(side.name)) for side in sides) + 1
    for side in sides:
        name, picture = f"{shown(side.name)}:", side.picture
        size = f"{picture.width}x{picture.height} {picture.mode}"
        lines.append(f"{colour.heading(f'{name:<{width}}')}  {size}, {side.bytes} bytes, {side.bpp:.3f} bpp")
    rows = _rows(found)
    return "\n".join([*lines, *(f"  {key:<15}{value}" for key, value in rows.items())])


def _rows(found: Difference) -> dict[str, str]:
    if found.identical:
        return {"identical": "every sample is the same"}
    rows = {"PSNR": _db(found.psnr)}
    if found.ms_ssim is not None:
        rows["MS-SSIM"] = f"{found.ms_ssim:.5f}" + (
            f" ({-10 * math.log10(1 - found.ms_ssim):.2f} dB)" if found.ms_ssim < 1 else ""
        )
    if found.ssim is not None:
        rows["SSIM"] = f"{found.ssim:.5f}"
    rows |= {"largest error": f"{found.max_error} of {found.peak}", "MSE": f"{found.mse:.4f}"}
    if found.alpha is not None:
        rows["alpha"] = "identical" if found.alpha.identical else _alpha(found.alpha)
    return rows


def _alpha(found: Difference) -> str:
    return f"{_db(found.psnr)}, largest error {found.max_error} of {found.peak}"


def _db(value: float) -> str:
    return f"{value:.2f} dB" if math.isfinite(value) else "infinite: the samples are identical"
