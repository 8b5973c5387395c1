"""The options of encoding one picture, which `twc encode` and `twc batch encode` share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from twcodec.cli import complete
from twcodec.cli.options import NUMBER, apply, file_size, icc, precision
from twcodec.codec.settings import MAX_EFFORT, Settings

_OPTIONS = (
    click.option(
        "-q",
        "--quality",
        type=NUMBER,
        default=None,
        help="1 (smallest) to 7 (best; *-vbr: 8), continuous.  [default: 4, or a model's only one]",
    ),
    click.option(
        "--target-size",
        type=file_size,
        default=None,
        metavar="SIZE",
        help="At most this many bytes: 100K, 1.5M, 20000.",
    ),
    click.option("--target-bpp", type=NUMBER, default=None, metavar="BITS", help="This many bits a pixel, within 1 %."),
    click.option("--target-psnr", type=NUMBER, default=None, metavar="DB", help="This PSNR, within 0.05 dB."),
    click.option("--ways", type=int, default=2, show_default=True, help="Branches to try, the plain one included."),
    click.option(
        "--transform",
        type=click.Choice(["auto", "never", "always"]),
        default="auto",
        show_default=True,
        help="auto: the lowest loss wins; never: only the picture as it is; always: only transformed ones.",
    ),
    click.option(
        "--transforms",
        metavar="NAME,...",
        default=None,
        shell_complete=complete.transforms,
        help="Transforms to draw from: flip-turn, grid-shift, ...",
    ),
    click.option("--seed", type=int, default=None, help="Draw transforms from this seed, predictably: for tests only."),
    click.option(
        "--metric",
        type=click.Choice(["mse", "ms-ssim"]),
        default="mse",
        show_default=True,
        help="Distortion in the loss.",
    ),
    click.option(
        "--metadata",
        type=click.Choice(["all", "none"]),
        default="all",
        show_default=True,
        help="ICC, EXIF, XMP and text.",
    ),
    icc,
    click.option(
        "--lossless-alpha",
        is_flag=True,
        expose_value=False,
        help="Transparency is lossless always; this is here for scripts that ask for it.",
    ),
    click.option(
        "--score",
        type=click.Choice(["exact", "fast"]),
        default="exact",
        show_default=True,
        help="How branches are ranked: by what would be coded, or (mbt2018, cheng2020) by a quicker estimate.",
    ),
    click.option(
        "--guard",
        type=click.Choice(["none", "avif"]),
        default="none",
        show_default=True,
        help="avif: also try AVIF, and write it if every branch costs far more: a bound on what any picture costs.",
    ),
    click.option(
        "--effort",
        type=click.IntRange(0, MAX_EFFORT),
        default=0,
        show_default=True,
        help="0 to 9: refine the latents of this very picture; smaller or better files, many times the time.",
    ),
    click.option("--no-verify", is_flag=True, help="Do not decode the symbols again before writing."),
    precision("bf16 where the processor is faster in it"),
)


def options(function: Callable[..., Any]) -> Callable[..., Any]:
    """All of them, for a command that takes them as keywords and gives them to `settings`, but for `metadata`."""
    return apply(*_OPTIONS)(function)


def settings(choices: dict[str, Any], measure: bool = False) -> Settings:
    """What was asked for. choices: by name. measure: see `Settings`. UsageError."""
    given = dict(choices)
    names, verify = given.pop("transforms"), not given.pop("no_verify")
    transforms = () if names is None else tuple(name.strip() for name in names.split(","))
    return Settings(**given, transforms=transforms, verify=verify, measure=measure)
