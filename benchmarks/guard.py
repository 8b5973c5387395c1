"""How much more than the guard the learned branches cost: on clean photographs, and on pictures that they are bad at.

    python benchmarks/guard.py [MODEL]       default: default

Two-way encodings with --guard avif at -q 1, 2, 4, 6 and 7. A ratio is the loss of the best learned branch over that of
the guard, both of whole files; the guard is sent where it is above `codec.guard.THRESHOLD`, which must never happen on
Kodak and the photographs of scikit-image. Writes results/guard.json.
"""

from __future__ import annotations

import json
import os
import sys
import time

os.environ.setdefault("GOMP_SPINCOUNT", "2000")

import numpy as np
from kodak import HERE, pictures

import twcodec
from twcodec.codec import guard
from twcodec.codec.codec import Codec, read
from twcodec.codec.settings import Settings
from twcodec.imaging.picture import Picture

QUALITIES = (1.0, 2.0, 4.0, 6.0, 7.0)

PHOTOGRAPHS = (
    "astronaut brick camera chelsea clock coffee coins grass gravel immunohistochemistry moon page rocket text"
)
"""Of scikit-image; all that it ships with, in 8 bits, without a download."""


def photographs() -> dict[str, Picture]:
    """The pictures of `PHOTOGRAPHS`, and a corner of each that is as small as pictures get on pages."""
    import skimage.data

    found = {}
    for name in PHOTOGRAPHS.split():
        samples = getattr(skimage.data, name)()
        samples = samples.reshape(*samples.shape[:2], -1)[..., :3]
        mode = "RGB" if samples.shape[2] == 3 else "L"
        found[name] = Picture(np.ascontiguousarray(samples), mode)
        found[f"{name}, 256 x 256"] = Picture(np.ascontiguousarray(samples[:256, :256]), mode)
    return found


def odd_pictures() -> dict[str, Picture]:
    """256 x 256 pixels that no photograph has."""
    rng, (r, q) = np.random.default_rng(0), np.mgrid[:256, :256]
    blocks = {n: np.kron(rng.integers(0, 2, (256 // n, 256 // n)), np.ones((n, n), int)) * 255 for n in (1, 2, 4, 8)}
    grey = {
        "checkerboard of single pixels": (r + q) % 2 * 255,
        "checkerboard of 2 x 2 pixels": (r // 2 + q // 2) % 2 * 255,
        "stripes one pixel wide": q % 2 * 255,
        "grid of lines, 8 pixels apart": 255 * ((r % 8 > 0) & (q % 8 > 0)),
        "rings": (127.5 + 127.5 * np.cos((r**2 + q**2) / 160)).astype(int),
        "flat": np.full((256, 256), 90),
        "two flat halves": np.where(q < 131, 20, 230),
        "noise": rng.integers(0, 256, (256, 256)),
        **{f"random black and white blocks of {n} x {n}": b for n, b in blocks.items()},
    }
    out = {name: np.repeat(a[..., None], 3, 2) for name, a in grey.items()}
    out["noise in colour"] = rng.integers(0, 256, (256, 256, 3))
    out["random saturated blocks of 8 x 8"] = np.kron(rng.integers(0, 2, (32, 32, 3)), np.ones((8, 8, 1), int)) * 255
    return {name: Picture(a.astype(np.uint8), "RGB") for name, a in out.items()}


def measured(codec: Codec, name: str, picture: Picture, quality: float) -> dict[str, object]:
    begun = time.perf_counter()
    data, report = codec.encode_picture(picture, Settings(quality, seed=1, guard="avif", measure=True))
    *learned, conventional = report.branches
    best = min(learned, key=lambda branch: branch.loss)
    return {
        "picture": name,
        "quality": quality,
        "ratio": round(best.loss / conventional.loss, 4),
        "sent": conventional.chosen,
        "learned": {"loss": round(best.loss, 5), "psnr": round(best.psnr, 3)},
        "guard": {
            "loss": round(conventional.loss, 5),
            "psnr": round(min(conventional.psnr, 99.0), 3),
            "bytes": conventional.payload_bytes,
            "avif_quality": conventional.parameters["quality"],
        },
        "bytes": len(data),
        "seconds": round(time.perf_counter() - begun, 2),
    }


def summary(rows: list[dict]) -> dict[str, object]:
    by_quality = {}
    for quality in QUALITIES:
        ratios = [row["ratio"] for row in rows if row["quality"] == quality]
        by_quality[f"{quality:g}"] = {
            "min": min(ratios),
            "median": round(float(np.median(ratios)), 4),
            "max": max(ratios),
        }
    return {"ratios": by_quality, "sent": sum(row["sent"] for row in rows), "of": len(rows)}


def main(model: str = "default") -> None:
    codec = twcodec.open_codec(model, device="cpu")
    sources = {
        "kodak": {path.stem: read(path) for path in pictures()},
        "photographs": photographs(),
        "odd": odd_pictures(),
    }
    result: dict[str, object] = {
        "date": time.strftime("%Y-%m-%d"),
        "model": codec.model.name,
        "threshold": guard.THRESHOLD,
    }
    for kind, found in sources.items():
        rows = []
        for name, picture in found.items():
            for quality in QUALITIES:
                rows.append(measured(codec, name, picture, quality))
                print(json.dumps(rows[-1]), flush=True)
        result[kind] = {**summary(rows), "rows": rows}
        print(json.dumps({k: v for k, v in result[kind].items() if k != "rows"}))
    (HERE / "results" / "guard.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
