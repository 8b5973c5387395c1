"""Rate-distortion curves on Kodak, in one run: twc's models, Pillow's JPEG, WebP and AVIF, and the published curves.

    python benchmarks/rd.py

Whole files, decoded again; RGB PSNR of 8-bit pixels; bpp and PSNR averaged over the 24 pictures at each quality, then
BD-rate against `default-1` (the first embedded weights) over the PSNR range that both curves share. Writes
benchmarks/results/rd-kodak.json. TWC_SHARED names the shared folder (default: ../shared).
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable

import numpy as np
from kodak import HERE, SHARED, decoded_mse, pictures
from PIL import Image
from scipy.interpolate import PchipInterpolator

import twcodec
from twcodec.codec.codec import read
from twcodec.codec.distortion import psnr
from twcodec.codec.settings import Settings

ANCHOR = "default-1"
QUALITIES = {
    "JPEG": (10, 20, 30, 45, 60, 75, 85, 92),
    "WEBP": (5, 20, 40, 60, 75, 85, 92),
    "AVIF": (20, 35, 50, 60, 70, 80, 90),
}


def twc_curve(model: str) -> list[tuple[float, float]]:
    codec = twcodec.open_codec(model=model)

    def point(picture, quality: int) -> tuple[int, float]:
        data, _ = codec.encode_picture(picture, Settings(quality, transform="never"))
        return len(data), psnr(decoded_mse(codec, picture, data))

    return curve(range(1, 8), point)


def pillow_curve(form: str) -> list[tuple[float, float]]:
    def point(picture, quality: int) -> tuple[int, float]:
        file = io.BytesIO()
        Image.fromarray(picture.samples).save(file, form, quality=quality, **({"method": 6} if form == "WEBP" else {}))
        back = np.asarray(Image.open(file).convert("RGB")).astype(np.float64)
        return len(file.getvalue()), psnr(float(np.mean((back - picture.samples) ** 2)) / 255**2)

    return curve(QUALITIES[form], point)


def curve(qualities, point: Callable[..., tuple[int, float]]) -> list[tuple[float, float]]:
    """(bpp, PSNR in dB), means over the pictures, one a quality."""
    out = []
    for quality in qualities:
        bpp, db = [], []
        for picture in map(read, pictures()):
            size, one = point(picture, quality)
            bpp.append(8 * size / (picture.width * picture.height))
            db.append(one)
        out.append((float(np.mean(bpp)), float(np.mean(db))))
        print(quality, out[-1], flush=True)
    return out


def bd_rate(anchor: list[tuple[float, float]], test: list[tuple[float, float]]) -> float:
    """Percent more bits that `test` takes for the PSNR of `anchor`: log-rate as a monotone cubic of PSNR, averaged."""
    curves = []
    for points in (anchor, test):
        bpp, db = zip(*sorted(points, key=lambda p: p[1]), strict=True)
        curves.append(PchipInterpolator(db, np.log(bpp)))
    low = max(min(d for _, d in c) for c in (anchor, test))
    high = min(max(d for _, d in c) for c in (anchor, test))
    grid = np.linspace(low, high, 1000)
    return 100 * (float(np.exp(np.mean(curves[1](grid) - curves[0](grid)))) - 1)


def main() -> None:
    curves = {}
    for name in ("default-1", "default"):
        curves[name] = twc_curve(name)
    for form in QUALITIES:
        curves[form.lower()] = pillow_curve(form)
    table = {name: round(bd_rate(curves[ANCHOR], c), 2) for name, c in curves.items()}
    published = json.loads((SHARED / "reference" / "kodak_published.json").read_text())
    result = {
        "date": time.strftime("%Y-%m-%d"),
        "what": __doc__.split("\n\n")[2].replace("\n", " "),
        "bd_rate_percent_against_default_1": table,
        "default_against": {n: round(bd_rate(c, curves["default"]), 2) for n, c in curves.items() if n != "default"},
        "curves": curves,
    }
    for name in ("mbt2018-mean", "jpeg", "webp", "av1"):
        found = published_curve(published, name)
        if found:
            result["default_against"][f"published {name}"] = round(bd_rate(found, curves["default"]), 2)
    (HERE / "results" / "rd-kodak.json").write_text(json.dumps(result, indent=1) + "\n")
    print(result["bd_rate_percent_against_default_1"], result["default_against"])


def published_curve(published: dict, name: str) -> list[tuple[float, float]] | None:
    found = published.get(name) or published.get("curves", {}).get(name)
    return list(zip(found["bpp"], found["psnr"], strict=True)) if found else None


if __name__ == "__main__":
    main()
