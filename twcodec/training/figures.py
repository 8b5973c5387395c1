"""The figures of a finished model: real files of held-out pictures, a plot of the run, the entry for the catalogue."""

from __future__ import annotations

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
from twcodec.training.run import Run

MODEL, ENTRY, PLOT, EVALUATIONS = "model.safetensors", "entry.json", "rd.png", "evaluations.jsonl"


def measure(data: bytes, photographs: Sequence[Photograph], device: torch.device) -> list[Point]:
    """Bits of whole one-way files and PSNR of what they decode to, means over the middles of pictures, one a row."""
    model = Model(data, "new", device)
    codec, points = Codec(model), []
    for row in range(model.family.rows):
        values = []
        for photograph in photographs:
            picture = Picture(middle(photograph), "RGB")
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
    (folder / MODEL).write_bytes(data)
    (folder / ENTRY).write_text(json.dumps(entry, indent=1) + "\n")
    return entry


def note_evaluation(folder: Path, run: Run, points: Sequence[Point]) -> None:
    """Append an evaluation to the run's list, and draw the plot again."""
    line = {"step": run.step, "seconds": round(run.seconds, 1), "points": [vars(point) for point in points]}
    with (folder / EVALUATIONS).open("a") as file:
        file.write(json.dumps(line) + "\n")
    plot(folder)


def plot(folder: Path) -> bool:
    """Draw every evaluation's RD points; False where matplotlib is missing."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return False
    figure = Figure(figsize=(7, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    lines = [json.loads(line) for line in (folder / EVALUATIONS).read_text().splitlines()]
    for i, line in enumerate(lines):
        bpp, db = ([point[key] for point in line["points"]] for key in ("bpp", "psnr"))
        shade = 0.85 * (1 - (i + 1) / len(lines))
        axes.plot(bpp, db, "o-", color=str(shade), label=f"step {line['step']}")
    axes.set(xlabel="bits a pixel", ylabel="PSNR (dB)", title="held-out pictures, estimated rate")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(folder / PLOT, dpi=120)
    return True
