"""`twc train`."""

from __future__ import annotations

import json
import math
import os
import signal
from pathlib import Path

import click

from twcodec.cli import complete, options
from twcodec.cli.say import shown, tell
from twcodec.codec import resources
from twcodec.errors import ExitCode, UnreadableError, UsageError


@click.command("train", short_help="Train a model, or go on training one.")
@click.argument("data", metavar="DATA...", nargs=-1, required=True, type=options.FILE)
@click.option(
    "-o",
    "--output",
    "run",
    metavar="RUN",
    type=options.FILE,
    required=True,
    help="The run's folder; made, or gone on with.",
)
@click.option(
    "--init",
    default="default",
    shell_complete=complete.models,
    show_default=True,
    help="Start from this model or file; or `nothing`.",
)
@click.option("--steps", type=click.IntRange(1, 10**9), default=20_000, show_default=True, help="Length of the run.")
@click.option(
    "--minutes", type=click.FloatRange(min=0, min_open=True), default=None, help="End the run after this long instead."
)
@click.option("--batch", type=click.IntRange(1, 1024), default=4, show_default=True, help="Pictures a step.")
@click.option("--patch", type=click.IntRange(64, 4096), default=256, show_default=True, help="Their side in pixels.")
@click.option(
    "--lr", type=click.FloatRange(0, 1, min_open=True), default=4e-4, show_default=True, help="Highest learning rate."
)
@click.option(
    "--adversarial",
    metavar="EPS",
    type=click.FloatRange(0, 64),
    default=0.0,
    help="Train against attacks of up to EPS levels (PGD in the loop).",
)
@click.option("--seed", type=click.IntRange(0, (1 << 32) - 1), default=0, show_default=True, help="Of data and noise.")
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16"]),
    default="auto",
    show_default=True,
    help="auto is bf16, but for banks and last layers.",
)
@click.option(
    "--evaluate-every", type=click.FloatRange(min=0, min_open=True), default=20.0, show_default=True, help="Minutes."
)
@click.option(
    "--save-every", type=click.FloatRange(min=0, min_open=True), default=2.0, show_default=True, help="Minutes."
)
@options.apply(options.device, options.threads)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line on standard output, as things happen.")
@options.quiet
def command(
    data: tuple[str, ...],
    run: str,
    init: str,
    steps: int,
    minutes: float | None,
    batch: int,
    patch: int,
    lr: float,
    adversarial: float,
    seed: int,
    precision: str,
    evaluate_every: float,
    save_every: float,
    device: str,
    threads: int | None,
    as_json: bool,
    quiet: bool,
) -> int:
    """Train a model on the pictures in DATA (files and folders) and write it to the folder RUN.

    \b
    twc train photographs/ -o run
    twc train photographs/ -o run --init nothing --steps 100000 --device cuda

    Ctrl-C stops it at the end of the step and saves; a second one stops at once. The same command goes on, after a
    power cut too, and a run of so many --steps comes out the same, bit for bit, however often it was stopped (on a CPU,
    in fp32, with the same threads).

    RUN gets model.safetensors, which --model takes; entry.json with its figures on held-out pictures; log.jsonl,
    evaluations.jsonl and rd.png on the way.
    """
    if patch % 64:
        raise UsageError(f"--patch {patch}: a multiple of 64 is needed")
    numbers = {"minutes": minutes, "lr": lr, "adversarial": adversarial}
    for option, value in {**numbers, "evaluate-every": evaluate_every, "save-every": save_every}.items():
        if value is not None and not math.isfinite(value):
            raise UsageError(f"--{option} {value} is not a number to train with")
    if "" in (run, *data):
        raise UsageError("an empty file name was given")
    for name in data:
        if not os.path.exists(name):  # noqa: PTH110 - Path.exists raises for names that are too long
            raise UnreadableError(f"{shown(name)}: there is no such file or folder")
    import torch

    from twcodec.cli.training_view import TrainingView
    from twcodec.codec.codec import find_device
    from twcodec.codec.precision import check_bf16, has_bf16
    from twcodec.models.trainable import start_from
    from twcodec.training.run import RunSettings
    from twcodec.training.session import Sitting, sit
    from twcodec.training.stopping import Stopper

    found = find_device(device)
    if precision == "bf16":
        check_bf16(found)
    torch.set_num_threads(resources.threads(torch.get_num_threads()) if threads is None else threads)
    settings = RunSettings(
        steps=steps if minutes is None else _UNLIMITED,
        minutes=minutes or 0.0,
        batch=batch,
        patch=patch,
        lr=lr,
        seed=seed,
        amp=precision != "fp32" and has_bf16(found),
        adversarial=adversarial,
    )
    sources, sitting, stopper = tuple(map(Path, data)), Sitting(save_every, evaluate_every), Stopper()
    with TrainingView(as_json, quiet) as view:
        entry = sit(sources, Path(run), settings, start_from(init), found, sitting, view, stopper)
    if entry is None:
        return ExitCode.INTERRUPTED if stopper.signal == signal.SIGINT else 128 + int(stopper.signal or 0)
    if as_json:
        tell(json.dumps({"event": "done", **entry}))
    elif not quiet:
        model = shown(str(Path(run) / entry["file"]))
        tell(f"{model}: digest {entry['digest']}; use it with --model {model}")
    return ExitCode.OK


_UNLIMITED = 10**9
"""Steps of a run that ends by its minutes."""
