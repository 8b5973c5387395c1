"""`twc evaluate`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from twcodec.cli import options
from twcodec.cli.say import say, shown, tell
from twcodec.errors import ExitCode, OutputError, UnreadableError, UsageError

DEFENCES = "none,always,two-way,4-way,8-way,best of 8,JPEG,AVIF"


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{text!r} is no list of numbers such as 2,4,8") from None


def _words(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


@click.command("evaluate", short_help="Measure what attacks do to the codec.")
@click.argument("pictures", metavar="PICTURE...", nargs=-1, required=True, type=options.FILE)
@click.option(
    "-o",
    "--output",
    "folder",
    metavar="REPORT",
    type=options.FILE,
    required=True,
    help="The report's folder; gone on with.",
)
@click.option("-q", "--quality", "qualities", default="2,6", show_default=True, help="Qualities, separated by commas.")
@click.option("--defences", default=DEFENCES, show_default=True, help="What is compared.")
@click.option("--attack", default="pgd", show_default=True, help="fgsm, ifgsm, mifgsm, pgd, pgd-l2, ftda, square.")
@click.option("--objectives", default="rate,self-distortion", show_default=True, help="What attackers raise.")
@click.option("--threats", default="transfer,white,adaptive", show_default=True, help="What attackers know.")
@click.option("--eps", default="4", show_default=True, help="Largest change of a value, in 8-bit levels.")
@click.option("--steps", type=click.IntRange(1, 10000), default=20, show_default=True, help="Of each attack.")
@click.option("--restarts", type=click.IntRange(1, 100), default=1, show_default=True, help="Of each attack.")
@click.option(
    "--eot", type=click.IntRange(1, 64), default=20, show_default=True, help="Draws to average over, at most."
)
@click.option("--draws", type=click.IntRange(1, 100), default=3, show_default=True, help="Of each random defence.")
@click.option("--crop", type=click.IntRange(0, 16384), default=256, show_default=True, help="Side cut out; 0: all.")
@click.option("--subset", type=click.IntRange(1), default=None, help="Every so many pictures only.")
@click.option("--examples", type=click.IntRange(0, 16), default=3, show_default=True, help="Pictures on the page.")
@click.option("--seed", type=click.IntRange(0, (1 << 31) - 1), default=0, show_default=True, help="Of everything.")
@options.apply(options.model, options.device, options.threads, options.quiet)
def command(
    pictures: tuple[str, ...],
    folder: str,
    qualities: str,
    defences: str,
    attack: str,
    objectives: str,
    threats: str,
    eps: str,
    steps: int,
    restarts: int,
    eot: int,
    draws: int,
    crop: int,
    subset: int | None,
    examples: int,
    seed: int,
    model: str,
    device: str,
    threads: int | None,
    quiet: bool,
) -> int:
    """Attack each PICTURE (files and folders), defend it in several ways, and write a report to the folder REPORT.

    \b
    twc evaluate photographs/ -o report
    twc evaluate photo.png -o report -q 4 --eps 2,4,8 --objectives rate --threats adaptive

    Everything is coded, decoded and measured on 8-bit pictures. REPORT gets report.html, results.json, table.csv and
    plots; a run that was stopped goes on when the same command is given again. The same seed gives the same figures.
    """
    options.make_ready()
    from twcodec.codec.codec import open_codec
    from twcodec.robustness.evaluation import Evaluation, Plan, sources
    from twcodec.robustness.report import write_report
    from twcodec.robustness.session import write_results

    plan = Plan(
        qualities=_numbers(qualities),
        defences=_words(defences),
        attack=attack,
        objectives=_words(objectives),
        threats=_words(threats),  # type: ignore[arg-type]  # checked by Plan
        eps=_numbers(eps),
        steps=steps,
        restarts=restarts,
        eot=eot,
        draws=draws,
        crop=crop,
        seed=seed,
    )
    found = sources(_files(pictures)[:: subset or 1], crop)
    codec = open_codec(model, device, threads=threads)
    for quality in plan.qualities:
        codec.model.check_quality(quality)
    try:
        evaluation = Evaluation(codec, found, plan, Path(folder))
        evaluation.run(lambda done, total: None if quiet else say(f"{done} of {total} conditions"))
        write_results(evaluation, examples)
    except OSError as error:
        raise OutputError(f"{shown(folder)}: {error.strerror or error}") from None
    page = write_report(Path(folder))
    if not quiet:
        tell(json.dumps(str(page)) if page.name != "report.html" else shown(str(page)))
    failed = [check for check in evaluation.figures()["sanity"] if not check["holds"]]
    for check in failed:
        say(f"does not hold: {check['name']} ({check['detail']})")
    return ExitCode.SOME_FAILED if failed else ExitCode.OK


def _files(names: tuple[str, ...]) -> list[Path]:
    """The pictures named, and those in folders."""
    out: list[Path] = []
    for path in map(Path, names):
        if path.is_dir():
            out += sorted(p for p in path.iterdir() if p.suffix.lower() in _SUFFIXES)
        elif path.exists():
            out.append(path)
        else:
            raise UnreadableError(f"{shown(str(path))}: there is no such file or folder")
    if not out:
        raise UnreadableError("there is no picture to evaluate on")
    return out


_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".ppm"}
