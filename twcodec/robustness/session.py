"""What an evaluation leaves for its report: results.json, and the pictures that people look at."""

from __future__ import annotations

import json
import platform
import sys
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from twcodec import __version__
from twcodec.robustness.defences import DEFENCES
from twcodec.robustness.evaluation import Evaluation, Row, measured

_SHOWN = ("none", "two-way", "8-way", "effort 5", "two-way + effort 5", "guard")
"""Defences whose reconstructions are on the page, where they were evaluated."""


def write_results(evaluation: Evaluation, examples: int) -> Path:
    """FOLDER/results.json and FOLDER/examples/*.png."""
    plan, codec, folder = evaluation.plan, evaluation.codec, evaluation.folder
    results: dict[str, Any] = {
        "version": 1,
        "date": date.today().isoformat(),
        "command": " ".join(["twc", *sys.argv[1:]]),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, {codec.model.device}",
        "twc": __version__,
        "torch": torch.__version__,
        "settings": plan.to_json(),
        "models": [{"model": codec.model.name, "digest": codec.model.digest.hex(), "qualities": list(plan.qualities)}],
        "defences": [
            {"name": name, "summary": DEFENCES[name].summary, "for_scale": name in ("JPEG", "AVIF")}
            for name in plan.defences
        ],
        "examples": _examples(evaluation, examples),
        **evaluation.figures(),
    }
    path = folder / "results.json"
    path.write_text(json.dumps(results, indent=1) + "\n")
    return path


def _examples(evaluation: Evaluation, count: int) -> list[Row]:
    """The pictures that suffered most without a defence, one for each objective and threat in turn."""
    rows = [row for row in evaluation.rows if row["defence"] == "none" and row["attack"] and row["threat"] != "none"]
    clean = {
        (r["quality"], r["picture"]): r["loss"] for r in evaluation.rows if not r["attack"] and r["defence"] == "none"
    }
    rows.sort(key=lambda row: -row["loss"] / clean.get((row["quality"], row["picture"]), row["loss"]))
    chosen: dict[tuple[str, str], Row] = {}
    for row in rows:
        chosen.setdefault((row["objective"], row["picture"]), row)
    folder = evaluation.folder / "examples"
    folder.mkdir(exist_ok=True)
    return [_example(evaluation, row, i, folder) for i, row in enumerate(list(chosen.values())[:count])]


def _example(evaluation: Evaluation, row: Row, number: int, folder: Path) -> Row:
    condition = {name: row[name] for name in ("attack", "objective", "threat", "eps")}
    source = next(p for p in evaluation.pictures if p.name == row["picture"]).pixels
    given = evaluation.given(row["quality"], condition, row["picture"])

    def saved(name: str, pixels: np.ndarray[Any, Any]) -> str:
        path = folder / f"{number}-{name.replace(' ', '-').replace(',', '')}.png"
        Image.fromarray(pixels).save(path)
        return f"{folder.name}/{path.name}"

    shown = []
    for name in (n for n in _SHOWN if n in evaluation.plan.defences):
        outcome = DEFENCES[name].run(evaluation.codec, given, row["quality"], 0)
        figures = measured(evaluation.codec, row["quality"], source, given, outcome)
        psnr = 10 * np.log10(255**2 / max(figures["mse"], 1e-3))
        reconstruction = saved(name, outcome.pixels)
        shown.append(
            {
                "defence": name,
                "reconstruction": reconstruction,
                "bpp": figures["bpp"],
                "psnr": psnr,
                "loss": figures["loss"],
            }
        )
    title = f"{row['picture']}, {row['objective']} attack, {row['threat']}, {row['eps']:g}/255, -q {row['quality']:g}"
    return {"title": title, "original": saved("original", source), "attacked": saved("attacked", given), "shown": shown}
