"""What bfloat16 costs: analysis and scoring in it, decoding in it, and how well it tells branches apart. On Kodak.

    python benchmarks/precision.py [MODEL]        default: default
    python benchmarks/precision.py NAME.pth.tar   a checkpoint as train_families.py writes it, at its one quality

At each quality, with one seed: two-way files made with --precision bf16 and fp32, really coded and decoded in fp32 (the
BD-rate of one against the other); the first decoded in bf16 (the loss in dB); and for the plain picture and two turned
ones the mean squared error of a bf16 synthesis over that of an fp32 one: its spread between branches of one picture,
beside what `codec.choice` takes it to be at most. Writes results/precision-MODEL.json. --pictures N takes the first N.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "2000")

import numpy as np
import torch
from families import ours
from kodak import HERE, decoded_mse, pictures
from rd import bd_rate

import twcodec
from twcodec.codec import branch, choice, grid
from twcodec.codec.candidates import candidates
from twcodec.codec.codec import Codec, read
from twcodec.codec.distortion import psnr
from twcodec.codec.settings import Settings

QUALITIES = (1.0, 3.0, 5.0, 7.0)
CHECKPOINT = ".pth.tar"


def coded(codec: Codec, picture, quality: float, precision: str, seed: int) -> dict[str, float]:
    """Bits a pixel of the two-way file, its PSNR, and its PSNR when it is decoded in bf16."""
    data, report = codec.encode_picture(picture, Settings(quality, seed=seed, precision=precision))
    low = Codec(codec.model, "bf16")
    return {
        "bpp": 8 * len(data) / picture.samples[..., 0].size,
        "psnr": psnr(decoded_mse(codec, picture, data)),
        "psnr in bf16": psnr(decoded_mse(low, picture, data)),
        "turned": report.chosen.transform != "identity",
    }


@torch.inference_mode()
def doubts(codec: Codec, picture, quality: float, seed: int) -> tuple[float, float]:
    """The spread of errors in bf16 less errors in fp32, in square levels; and that as a share of what is allowed."""
    settings = Settings(quality, ways=3, seed=seed)
    samples = grid.to_samples(picture.samples, codec.model.device)
    tried = candidates(settings, picture.height, picture.width)
    low, full = torch.bfloat16, torch.float32
    jobs = [branch.Job(codec.model, samples, 255, settings, quality, low, scoring) for scoring in (low, full)]
    errors = [[255**2 * float(b.error) for b in branch.run(job, tried)] for job in jobs]
    off = np.subtract(*errors)
    spread = float(off.max() - off.min())
    return spread, spread / (choice.DOUBT * max(errors[0]) + choice.LEAST_DOUBT)


def opened(name: str) -> tuple[str, Codec]:
    """A model by its name, or from a checkpoint; and what it is called."""
    if not name.endswith(CHECKPOINT):
        return name, twcodec.open_codec(name, device="cpu")
    family = Path(name).name.removesuffix(CHECKPOINT)
    return family, ours(Path(name), family)


def main() -> None:
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("model", nargs="?", default="default")
    parser.add_argument("--pictures", type=int)
    arguments = parser.parse_args()
    paths, rows = pictures()[: arguments.pictures], []
    name, codec = opened(arguments.model)
    lowest, highest = codec.model.qualities
    for quality in QUALITIES if lowest < highest else (lowest,):
        found: dict[str, list] = {"bf16": [], "fp32": []}
        spreads = []
        for seed, path in enumerate(paths):
            picture = read(path)
            for precision, files in found.items():
                files.append(coded(codec, picture, quality, precision, seed))
            spreads.append(doubts(codec, picture, quality, seed))
        mean = {k: {key: float(np.mean([f[key] for f in v])) for key in v[0]} for k, v in found.items()}
        allowed = [share for _, share in spreads]
        rows.append(
            {
                "quality": quality,
                **{k: {key: round(value, 5) for key, value in v.items()} for k, v in mean.items()},
                "spread, square levels": {"median": round(float(np.median([s for s, _ in spreads])), 5)},
                "spread, share of the doubt": {"median": round(float(np.median(allowed)), 3), "max": max(allowed)},
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    fp32, bf16 = ({what: [r[k][what] for r in rows] for what in ("bpp", "psnr")} for k in ("fp32", "bf16"))
    result = {
        "date": time.strftime("%Y-%m-%d"),
        "model": name,
        "pictures": len(paths),
        "doubt": [choice.DOUBT, choice.LEAST_DOUBT],
        "bd_rate_percent": bd_rate(fp32, bf16),
        "decoding_in_bf16_db": [round(r["fp32"]["psnr"] - r["fp32"]["psnr in bf16"], 4) for r in rows],
        "rows": rows,
    }
    (HERE / "results" / f"precision-{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({k: v for k, v in result.items() if k != "rows"}))


if __name__ == "__main__":
    main()
