"""Rate-distortion curves on Kodak, in one run: twc's models, Pillow's JPEG, WebP and AVIF, and the published curves.

    python benchmarks/rd.py                                     every embedded model; writes results/rd-kodak.json
    python benchmarks/rd.py --output FILE MODEL...              these models (names or files), and results there

Whole files, decoded again; one way; PSNR of 8-bit RGB and MS-SSIM of RGB in 0 .. 1; bpp, PSNR and MS-SSIM averaged
over the 24 pictures at each quality. BD-rates are of PSNR, and of MS-SSIM in dB, over the range that two curves share.
TWC_SHARED names the shared folder (default: ../shared). Takes some five minutes on two cores.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kodak import HERE, SHARED, pictures
from PIL import Image
from pytorch_msssim import ms_ssim
from scipy.interpolate import PchipInterpolator

import twcodec
from twcodec.codec.codec import read
from twcodec.codec.distortion import psnr
from twcodec.codec.settings import Settings
from twcodec.models import catalogue

QUALITIES = {
    "JPEG": (10, 20, 30, 45, 60, 75, 85, 92),
    "WEBP": (5, 20, 40, 60, 75, 85, 92),
    "AVIF": (20, 35, 50, 60, 70, 80, 90),
}
PUBLISHED = ("mbt2018-mean", "mbt2018", "cheng2020-anchor", "jpeg", "webp", "av1")
Curve = dict[str, list[float]]
"""bpp, psnr (dB), msssim (0 .. 1): means over the pictures, one a quality."""


def model_curve(name: str, rows: list[dict[str, Any]]) -> Curve:
    """rows: gets what each picture came to."""
    codec = twcodec.open_codec(model=name)
    low, high = (int(q) for q in codec.model.qualities)

    def coded(picture, quality: int) -> tuple[int, np.ndarray]:
        data, _ = codec.encode_picture(picture, Settings(quality, transform="never"))
        return len(data), codec.decode_picture(data).samples

    return curve(name, range(low, high + 1), coded, rows)


def pillow_curve(form: str, rows: list[dict[str, Any]]) -> Curve:
    def coded(picture, quality: int) -> tuple[int, np.ndarray]:
        file = io.BytesIO()
        Image.fromarray(picture.samples).save(file, form, quality=quality, **({"method": 6} if form == "WEBP" else {}))
        return len(file.getvalue()), np.asarray(Image.open(file).convert("RGB"))

    return curve(form.lower(), QUALITIES[form], coded, rows)


def curve(name: str, qualities: Iterable[int], coded: Callable[..., tuple[int, np.ndarray]], rows: list) -> Curve:
    out: Curve = {"bpp": [], "psnr": [], "msssim": []}
    for quality in qualities:
        points = []
        for path in pictures():
            picture = read(path)
            size, back = coded(picture, quality)
            error = float(np.mean((back.astype(np.float64) - picture.samples) ** 2)) / 255**2
            bpp = 8 * size / (picture.width * picture.height)
            points.append((bpp, psnr(error), structural(picture.samples, back)))
            row = {"codec": name, "quality": quality, "picture": path.stem, "bpp": round(bpp, 4)}
            rows.append({**row, "psnr": round(points[-1][1], 3), "msssim": round(points[-1][2], 5)})
        for key, value in zip(out, np.mean(points, 0), strict=True):
            out[key].append(round(float(value), 5))
        print(name, quality, *(f"{out[key][-1]:.4f}" for key in out), flush=True)
    return out


def structural(a: np.ndarray, b: np.ndarray) -> float:
    """MS-SSIM of two (H, W, 3) arrays of 8 bits."""
    x, y = (torch.from_numpy(np.ascontiguousarray(t)).permute(2, 0, 1)[None].float() for t in (a, b))
    return float(ms_ssim(x, y, data_range=255))


def bd_rate(anchor: Curve, test: Curve, metric: str = "psnr") -> float | None:
    """Percent more bits that `test` takes for the quality of `anchor`: log-rate as a monotone cubic, averaged.

    None where the curves share no quality.
    """
    curves = []
    for points in (anchor, test):
        quality = [-10 * math.log10(1 - v) if metric == "msssim" else v for v in points[metric]]
        order = np.argsort(quality)
        curves.append((np.array(quality)[order], np.log(np.array(points["bpp"])[order])))
    low, high = max(c[0][0] for c in curves), min(c[0][-1] for c in curves)
    if low >= high:
        return None
    grid = np.linspace(low, high, 1000)
    ours, theirs = (PchipInterpolator(*c)(grid) for c in reversed(curves))
    return round(100 * (float(np.exp(np.mean(ours - theirs))) - 1), 2)


def by_picture(rows: list[dict[str, Any]], name: str, other: str) -> dict[str, float | None]:
    """BD-rate (PSNR) of one codec against another on each picture, best first."""
    curves: dict[tuple[str, str], Curve] = {}
    for row in rows:
        points = curves.setdefault((row["codec"], row["picture"]), {"bpp": [], "psnr": []})
        for key, values in points.items():
            values.append(row[key])
    found = {p: bd_rate(curves[other, p], points) for (codec, p), points in curves.items() if codec == name}
    return dict(sorted(found.items(), key=lambda item: item[1] if item[1] is not None else math.inf))


def published_curves() -> dict[str, Curve]:
    found = json.loads((SHARED / "reference" / "kodak_published.json").read_text())
    found = found.get("curves", found)
    return {
        f"published {n}": {"bpp": c["bpp"], "psnr": c["psnr"], "msssim": c["ms_ssim"]}
        for n, c in found.items()
        if n in PUBLISHED and "ms_ssim" in c
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=[entry.name for entry in catalogue.EMBEDDED])
    parser.add_argument("--output", type=Path, default=HERE / "results" / "rd-kodak.json")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    ours = {name: model_curve(name, rows) for name in arguments.models}
    others = {form.lower(): pillow_curve(form, rows) for form in QUALITIES}
    anchors = {**ours, **others, **published_curves()}
    table = {
        name: {
            other: {metric: bd_rate(anchor, points, metric) for metric in ("psnr", "msssim")}
            for other, anchor in anchors.items()
            if other != name
        }
        for name, points in ours.items()
    }
    result = {
        "date": time.strftime("%Y-%m-%d"),
        "what": " ".join(__doc__.split("\n\n")[2].split()),
        "bd_rate_percent": table,
        "by_picture_against_avif": {name: by_picture(rows, name, "avif") for name in ours},
        "curves": {**ours, **others},
        "pictures": rows,
    }
    text = json.dumps(result, indent=1)
    arguments.output.write_text(text + "\n")
    for name, against in table.items():
        for other, rates in against.items():
            shown = ", ".join(f"{value:+.1f} % ({metric})" for metric, value in rates.items() if value is not None)
            print(f"{name} against {other}: BD-rate {shown or 'none: no common quality'}")


if __name__ == "__main__":
    main()
