"""`twc attack`."""

from __future__ import annotations

import json

import click

from twcodec.cli import complete, options
from twcodec.cli.progress import working
from twcodec.cli.say import say, shown, tell
from twcodec.codec import resources
from twcodec.codec.settings import MAX_EFFORT, Settings
from twcodec.errors import UsageError
from twcodec.imaging.files import PIPE, check_output, input_pipe, write_output


@click.command("attack", short_help="Make an adversarial picture.")
@click.argument("source", metavar="IN", type=options.FILE)
@click.argument("target", metavar="OUT.png", type=options.FILE)
@click.option(
    "--attack",
    "name",
    type=click.Choice(["fgsm", "ifgsm", "mifgsm", "pgd", "pgd-l2", "ftda", "noise", "square"]),
    default="pgd",
    show_default=True,
    help="How the change is searched for.",
)
@click.option(
    "--objective",
    type=click.Choice(["distortion", "self-distortion", "source-distortion", "ms-ssim", "rate", "rd"]),
    default="rd",
    show_default=True,
    help="What is raised.",
)
@click.option(
    "--threat",
    type=click.Choice(["none", "transfer", "white", "adaptive", "oracle", "black"]),
    default="adaptive",
    show_default=True,
    help="What the attacker knows of the defence.",
)
@click.option(
    "--eps",
    type=float,
    default=4.0,
    show_default=True,
    help="Largest change of a value, in 8-bit levels; pgd-l2, ftda: its root mean square.",
)
@click.option("--steps", type=int, default=50, show_default=True, help="Gradient steps, or queries of `square`.")
@click.option("--alpha", type=float, default=None, help="Levels a step moves.  [default: eps / 4, at least 1]")
@click.option("--restarts", type=int, default=1, show_default=True, help="Random starts.")
@click.option("--eot", type=int, default=20, show_default=True, help="Draws that an adaptive attacker averages over.")
@click.option(
    "--quantizer",
    type=click.Choice(["ste", "noise", "identity"]),
    default="ste",
    show_default=True,
    help="What stands for rounding in the gradient.",
)
@click.option(
    "--branch",
    type=click.Choice(["min", "sum", "identity"]),
    default="sum",
    show_default=True,
    help="How the choice between branches is differentiated.",
)
@click.option("-q", "--quality", type=float, default=None, help="Of the codec that is attacked.")
@click.option("--ways", type=int, default=2, show_default=True, help="Branches of the codec that is attacked.")
@click.option(
    "--transforms",
    metavar="NAME,...",
    default=None,
    shell_complete=complete.transforms,
    help="Transforms that it draws from.",
)
@click.option(
    "--effort", type=click.IntRange(0, MAX_EFFORT), default=0, show_default=True, help="With which it refines latents."
)
@click.option("--seed", type=click.IntRange(0, (1 << 31) - 1), default=0, show_default=True, help="Of the attack.")
@options.apply(options.model, options.device, options.threads, options.max_pixels)
@options.apply(options.force, options.as_json, options.quiet)
def command(
    source: str,
    target: str,
    name: str,
    objective: str,
    threat: str,
    eps: float,
    steps: int,
    alpha: float | None,
    restarts: int,
    eot: int,
    quantizer: str,
    branch: str,
    quality: float | None,
    ways: int,
    transforms: str | None,
    effort: int,
    seed: int,
    model: str,
    device: str,
    threads: int | None,
    max_pixels: int,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Change the picture IN a little, so that the codec does badly on it, and write it as an 8-bit PNG.

    \b
    twc attack photo.png adversarial.png
    twc attack --objective rate --threat transfer --eps 8 photo.png adversarial.png

    What is reported was coded: bits and PSNR of the picture and of the adversarial one, by `twc encode` with the
    attacked settings and with --transform never.
    """
    if not source:
        raise UsageError("an empty file name was given")
    if threat == "black" and name not in ("square", "noise"):
        raise UsageError(f"--threat black has no gradients, which --attack {name} needs; use --attack square")
    if threat == "none" and name != "noise":
        raise UsageError("--threat none is no attacker: use --attack noise")
    names = tuple(transforms.split(",")) if transforms else ()
    settings = Settings(quality, ways, transforms=names, seed=seed, effort=effort)
    with options.about(source, target):
        check_output(target, force, source)
        resources.check_room_to_load()
        from twcodec.imaging.read import read_picture

        picture = read_picture(input_pipe() if source == PIPE else source, metadata="none", max_pixels=max_pixels)
        lost = ("the alpha channel is not attacked, and not written",) if picture.alpha is not None else ()
        options.warn(shown(source), (*picture.warnings, *lost), quiet)
        if eps < 1 and name not in ("pgd-l2", "ftda"):
            options.warn(shown(source), (f"an 8-bit picture cannot change by {eps:g} of a level",), quiet)
        options.make_ready()
    from twcodec.codec.codec import open_codec
    from twcodec.robustness.single import Attempt, attack_picture

    codec = open_codec(model, device, threads=threads, quality=quality)
    with options.about(source, target):
        how = Attempt(name, objective, threat, eps, steps, alpha, restarts, eot, quantizer, branch, seed)  # type: ignore[arg-type]
        with working(f"attacking {shown(source)}", picture.width * picture.height * steps, quiet):
            data, figures = attack_picture(codec, picture, settings, how)
        with write_output(target, force) as file:
            file.write(data)
    if as_json:
        tell(json.dumps(figures), target == PIPE)
    elif not quiet:
        for what in ("undefended", "defended"):
            a, b = figures["clean"][what], figures["attacked"][what]
            say(
                f"{what}: {a['bpp']:.3f} -> {b['bpp']:.3f} bpp, {a['psnr']:.2f} -> {b['psnr']:.2f} dB, "
                f"loss x{b['loss'] / a['loss']:.3f}"
            )
