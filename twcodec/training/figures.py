"""The figures of a finished model: real files of held-out pictures, a plot of the run, the entry for the catalogue."""

from __future__ import annotations

import io
import json
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from twcodec import __version__
from twcodec.codec.codec import Codec
from twcodec.codec.distortion import psnr
from twcodec.codec.settings import Settings
from twcodec.imaging.picture import Picture
from twcodec.models import file as model_file
from twcodec.models.model import Model
from twcodec.training.crops import Photograph
from twcodec.training.evaluation import Point, middle
from twcodec.training.files import (
    ENTRY,
    EVALUATIONS,
    MODEL,
    PLOT,
    append_line,
    read_lines,
    write_json,
    write_whole,
)
from twcodec.training.run import Run


def measure(data: bytes, photographs: Sequence[Photograph], device: torch.device) -> list[Point]:
    """Bits of whole one-way files and PSNR of what they decode to, means over the middles of pictures, one a row."""
    model = Model(data, "new", device)
    codec, points = Codec(model), []
    pictures = [Picture(middle(photograph), "RGB") for photograph in photographs]
    for row in range(model.family.rows):
        values = []
        for picture in pictures:
            file, _ = codec.encode_picture(picture, Settings(row + 1.0, transform="never"))
            difference = codec.decode_picture(file).samples.astype(np.float64) - picture.samples
            error = float(np.mean(difference**2)) / 255**2
            bpp = 8 * len(file) / (picture.width * picture.height)
            values.append((bpp, psnr(error), bpp + model.lambda_(row + 1.0) * 255**2 * error))
        points.append(Point(row + 1, *np.mean(values, 0).tolist()))
    return points


def provenance(run: Run, origin: str, pictures: int) -> dict[str, Any]:
    """Where a model comes from. It goes into the model file and its digest, so the same run always says the same."""
    s = run.settings
    return {
        "origin": origin,
        "pictures": pictures,
        "data": s.data,
        "steps": run.step,
        "batch": s.batch,
        "patch": s.patch,
        "lr": s.lr,
        "seed": s.seed,
        "adversarial": s.adversarial,
        "twc": __version__,
    }


def circumstances(run: Run) -> dict[str, Any]:
    """What the same run may say differently: goes into the catalogue's entry only."""
    return {
        "minutes": round(run.seconds / 60, 1),
        "hardware": hardware(run.device),
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }


def hardware(device: torch.device) -> str:
    """What computed: the GPU's name, or the processor's architecture and the threads used."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"


def write_model(folder: Path, data: bytes, about: dict[str, Any], points: Sequence[Point]) -> dict[str, Any]:
    """Put the model file and its entry for the catalogue into the run's folder; returns the entry."""
    entry = {
        "file": MODEL,
        "digest": model_file.digest_of(data).hex(),
        "provenance": about,
        "held_out": [vars(point) for point in points],
    }
    write_whole(folder / MODEL, data)
    write_json(folder / ENTRY, entry)
    return entry


def finished(folder: Path) -> dict[str, Any] | None:
    """The entry of a run whose model is complete; files may have been made with it, so it is not made again."""
    try:
        entry: dict[str, Any] = json.loads((folder / ENTRY).read_text())
        complete = entry["digest"] == model_file.digest_of((folder / MODEL).read_bytes()).hex()
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return entry if complete else None


def note_evaluation(folder: Path, run: Run, points: Sequence[Point]) -> None:
    """Append an evaluation to the run's list, and draw the plot again."""
    line = {"step": run.step, "seconds": round(run.seconds, 1), "points": [vars(point) for point in points]}
    append_line(folder / EVALUATIONS, line)
    plot(folder)


def plot(folder: Path) -> None:
    """Draw every evaluation's RD points, where matplotlib is there."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return
    figure = Figure(figsize=(7, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    lines = read_lines(folder / EVALUATIONS)
    for i, line in enumerate(lines):
        bpp, db = ([point[key] for point in line["points"]] for key in ("bpp", "psnr"))
        shade = 0.85 * (1 - (i + 1) / len(lines))
        axes.plot(bpp, db, "o-", color=str(shade), label=f"step {line['step']}")
    axes.set(xlabel="bits a pixel", ylabel="PSNR (dB)", title="held-out pictures, estimated rate")
    axes.grid(alpha=0.3)
    axes.legend()
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    write_whole(folder / PLOT, picture.getvalue())
