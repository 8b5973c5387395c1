"""Rate and distortion of real .twc files on Kodak, against the float reference in shared/weights/default.json.

    python benchmarks/kodak.py reference            every quality, one way, model default-1: decoded bpp and PSNR
    python benchmarks/kodak.py two-way              -q 2, 4, 6: is the two-way file ever worse than the one-way file?

TWC_SHARED names the shared folder (default: ../shared). Writes benchmarks/results/kodak-<what>.json.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from pathlib import Path

import numpy as np

import twcodec
from twcodec.codec.codec import read
from twcodec.codec.distortion import psnr
from twcodec.codec.settings import Settings

HERE = Path(__file__).resolve().parent
SHARED = Path(os.environ.get("TWC_SHARED", HERE.parent.parent / "shared"))


def pictures() -> list[Path]:
    found = sorted((SHARED / "data" / "kodak").glob("kodim*"))
    if not found:
        sys.exit(f"no Kodak pictures under {SHARED}/data/kodak")
    return found


def decoded_mse(codec, picture, data: bytes) -> float:
    """Of the file as it is read back, values in 0 .. 1."""
    back = codec.decode_picture(data).samples.astype(np.float64)
    return float(np.mean((back - picture.samples) ** 2)) / 255**2


def reference() -> dict:
    published = json.loads((SHARED / "weights" / "default.json").read_text())
    codec, rows = twcodec.open_codec(model="default-1"), []  # the reference's tables; the default's are fitted
    for quality in range(1, 8):
        bpp, db = [], []
        for path in pictures():
            picture = read(path)
            data, _ = codec.encode_picture(picture, Settings(quality=quality, transform="never"))
            bpp.append(8 * len(data) / picture.samples[..., 0].size)
            db.append(psnr(decoded_mse(codec, picture, data)))
        wanted_bpp, wanted_db = published["bpp"][quality - 1], published["psnr"][quality - 1]
        rows.append(
            {
                "quality": quality,
                "bpp": round(float(np.mean(bpp)), 5),
                "psnr": round(float(np.mean(db)), 4),
                "reference_bpp": wanted_bpp,
                "reference_psnr": wanted_db,
                "bpp_percent": round(100 * (float(np.mean(bpp)) / wanted_bpp - 1), 3),
                "psnr_db": round(float(np.mean(db)) - wanted_db, 4),
            }
        )
        print(rows[-1], flush=True)
    return {
        "what": "mean over 24 Kodak pictures, whole files, decoded, --transform never --model default-1",
        "rows": rows,
    }


def two_way() -> dict:
    codec, rows = twcodec.open_codec(), []
    for quality in (2, 4, 6):
        weight = codec.model.lambda_(quality) * 255**2
        for path in pictures():
            picture = read(path)
            pixels = picture.samples[..., 0].size
            losses, sizes, reports = [], [], []
            for transform in ("never", "auto"):
                data, report = codec.encode_picture(picture, Settings(quality=quality, transform=transform))
                losses.append(8 * len(data) / pixels + weight * decoded_mse(codec, picture, data))
                sizes.append(len(data))
                reports.append(report)
            estimates = [b for b in reports[1].branches if b.payload_bytes is not None]
            rows.append(
                {
                    "picture": path.stem,
                    "quality": quality,
                    "one_way_loss": losses[0],
                    "two_way_loss": losses[1],
                    "one_way_bytes": sizes[0],
                    "two_way_bytes": sizes[1],
                    "transform": reports[1].chosen.transform,
                    "estimate_error_bytes": max(abs(b.estimated_bytes - b.payload_bytes) for b in estimates),
                    "estimate_within_bar": all(
                        abs(b.estimated_bytes - b.payload_bytes) <= 0.001 * b.payload_bytes + 8 for b in estimates
                    ),
                }
            )
            print(rows[-1], flush=True)
    return {
        "what": "default model; loss of decoded files, bits of the whole file a pixel + lambda 255^2 MSE; system seeds",
        "worse": sum(r["two_way_loss"] > r["one_way_loss"] for r in rows),
        "transformed": sum(r["transform"] != "identity" for r in rows),
        "pictures": len(rows),
        "mean_gain_percent": 100 * float(np.mean([1 - r["two_way_loss"] / r["one_way_loss"] for r in rows])),
        "largest_estimate_error_bytes": max(r["estimate_error_bytes"] for r in rows),
        "estimates_within_bar": all(r["estimate_within_bar"] for r in rows),
        "rows": rows,
    }


if __name__ == "__main__":
    runs = {"reference": reference, "two-way": two_way}
    if len(sys.argv) != 2 or sys.argv[1] not in runs:
        sys.exit(__doc__)
    result = {"date": time.strftime("%Y-%m-%d"), "machine": platform.machine(), "twc": twcodec.__version__}
    result.update(runs[sys.argv[1]]())
    (HERE / "results" / f"kodak-{sys.argv[1]}.json").write_text(json.dumps(result, indent=1) + "\n")
    print({k: v for k, v in result.items() if k != "rows"})
