"""One sitting of `twc train`: open or resume a run, train, finish, measure, write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch

from twcodec.codec.runtime import running
from twcodec.models.trainable import Start
from twcodec.training import figures
from twcodec.training.crops import Photographs, load
from twcodec.training.evaluation import Point, evaluate
from twcodec.training.figures import finished
from twcodec.training.files import LOG, append_line
from twcodec.training.finish import finish
from twcodec.training.run import Every, Run, RunSettings, open_run, train
from twcodec.training.stopping import Stopper

_NAMED = 5
EVALUATED = 8
"""Held-out pictures for the figures on the way; the final ones take all."""


class View(Protocol):
    """Who watches."""

    def say(self, line: str) -> None:
        """A line of talk."""

    def stepped(self, line: dict[str, float]) -> None:
        """Means over the last steps: step, seconds, loss, bpp, psnr."""

    def evaluated(self, step: int, points: Sequence[Point]) -> None:
        """RD points on held-out pictures."""


@dataclass(frozen=True)
class Sitting:
    """How this sitting goes; nothing of it changes the run's result. minutes between savings and evaluations."""

    save_every: float = 2.0
    evaluate_every: float = 20.0
    log_steps: int = 100


def sit(
    sources: Sequence[Path],
    folder: Path,
    settings: RunSettings,
    start: Start,
    device: torch.device,
    how: Sitting,
    view: View,
    stopper: Stopper,
) -> dict[str, Any] | None:
    """Train to the end of the run, wherever it stands, and write the model; a run that is over is left as it is.

    Returns the catalogue's entry, or None if `stopper` ended it before: then the run is saved. Errors: UsageError,
    UnreadableError, UnsupportedError, OutputError, and LimitError where the memory is not enough.
    """
    photographs = load(sources, settings.patch)
    for line in photographs.skipped[:_NAMED]:
        view.say(f"left out: {line}")
    if len(photographs.skipped) > _NAMED:
        view.say(f"and {len(photographs.skipped) - _NAMED} more were left out")
    view.say(f"pictures to learn from: {len(photographs.train)}, held out: {len(photographs.held_out)}")
    settings = replace(settings, data=photographs.names, init=start.origin, network=start.config)
    run = open_run(folder, settings, device, lambda new: start.fill(new.network))
    entry = finished(folder)
    if entry and run.progress >= 1:
        view.say(f"the run in {folder} is over; its model stays as it is")
        return entry
    if run.step:
        view.say(f"going on from step {run.step}")
    with running(device, None):
        with stopper.deferred():
            train(run, folder, photographs, stopper, _watched(folder, photographs, how, view))
        if stopper():
            view.say(f"stopped at step {run.step}; the same command goes on")
            return None
        return _write(run, folder, photographs, start, view)


def _watched(folder: Path, photographs: Photographs, how: Sitting, view: View) -> Every:
    def log(line: dict[str, float]) -> None:
        append_line(folder / LOG, line)
        view.stepped(line)

    def look(run: Run) -> None:
        points = evaluate(run.averaged(), photographs.held_out[:EVALUATED], run.device)
        figures.note_evaluation(folder, run, points)
        view.evaluated(run.step, points)

    return Every(log, look, how.log_steps, 60 * how.save_every, 60 * how.evaluate_every)


def _write(run: Run, folder: Path, photographs: Photographs, start: Start, view: View) -> dict[str, Any]:
    about = figures.provenance(run, start.origin, len(photographs.train))
    data = finish(run, photographs.train, about, view.say)
    view.say("measuring real files of the held-out pictures")
    points = figures.measure(data, photographs.held_out, run.device)
    view.evaluated(run.step, points)
    view.say("done")
    return figures.write_model(folder, data, {**about, **figures.circumstances(run)}, points)
