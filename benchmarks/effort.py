"""What `--effort` gains and costs on Kodak.

    python benchmarks/effort.py [EVERY [SIDE]]       every third picture, or every EVERYth; of them SIDE x SIDE pixels

One way, fp32, -q 2, 4 and 6. A loss is that of the decoded file, bits a pixel + lambda 255^2 MSE, and a ratio that over
the loss at effort 0. BD-rates are of the mean curves, against that of effort 0. Writes results/effort.json.
"""

from __future__ import annotations

import json
import os
import sys
import time

os.environ.setdefault("GOMP_SPINCOUNT", "2000")

import numpy as np
import torch
from kodak import HERE, decoded_mse, pictures
from rd import bd_rate

import twcodec
from twcodec.codec.codec import Codec, read
from twcodec.codec.distortion import psnr
from twcodec.codec.refine import STEPS
from twcodec.codec.settings import Settings
from twcodec.imaging.picture import Picture

QUALITIES, EFFORTS = (2.0, 4.0, 6.0), (0, 3, 5, 8)


def measured(codec: Codec, name: str, picture: Picture, quality: float, effort: int) -> dict[str, object]:
    settings = Settings(quality, transform="never", precision="fp32", effort=effort)
    begun = time.perf_counter()
    data, _ = codec.encode_picture(picture, settings)
    ms = 1000 * (time.perf_counter() - begun)
    error, bpp = decoded_mse(codec, picture, data), 8 * len(data) / (picture.width * picture.height)
    return {
        "picture": name,
        "quality": quality,
        "effort": effort,
        "bpp": round(bpp, 5),
        "psnr": round(psnr(error), 4),
        "loss": round(bpp + codec.model.lambda_(quality) * 255**2 * error, 6),
        "ms": round(ms),
    }


def summary(rows: list[dict], effort: int) -> dict[str, object]:
    def of(key: str, at: int, quality: float) -> np.ndarray:
        return np.array([row[key] for row in rows if (row["effort"], row["quality"]) == (at, quality)])

    def curve(at: int) -> dict[str, list[float]]:
        return {key: [float(of(key, at, q).mean()) for q in QUALITIES] for key in ("bpp", "psnr")}

    ratios = {q: of("loss", effort, q) / of("loss", 0, q) for q in QUALITIES}
    return {
        "steps": STEPS[effort],
        "loss_ratio": {f"{q:g}": round(float(r.mean()), 4) for q, r in ratios.items()},
        "largest_loss_ratio": round(float(max(r.max() for r in ratios.values())), 4),
        "bd_rate_percent": bd_rate(curve(0), curve(effort)),
        "median_ms": round(float(np.median([row["ms"] for row in rows if row["effort"] == effort]))),
    }


def middle(picture: Picture, side: int) -> Picture:
    top, left = (picture.height - side) // 2, (picture.width - side) // 2
    return Picture(np.ascontiguousarray(picture.samples[top : top + side, left : left + side]), picture.mode)


def main(every: str = "3", side: str = "") -> None:
    codec, rows = twcodec.open_codec(device="cpu"), []
    chosen = pictures()[:: int(every)]
    measured(codec, "", read(chosen[0]), 4.0, 1)  # what is made once
    for path in chosen:
        picture = middle(read(path), int(side)) if side else read(path)
        for quality in QUALITIES:
            for effort in EFFORTS:
                rows.append(measured(codec, path.stem, picture, quality, effort))
                print(json.dumps(rows[-1]), flush=True)
    result = {
        "date": time.strftime("%Y-%m-%d"),
        "model": codec.model.name,
        "threads": torch.get_num_threads(),
        "pictures": len(chosen),
        "side": int(side) if side else None,
        "efforts": {str(effort): summary(rows, effort) for effort in EFFORTS},
        "rows": rows,
    }
    (HERE / "results" / "effort.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["efforts"], indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
