"""The figures of docs/choosing.md: bytes at equal PSNR, and processor time, of twc and Pillow's codecs.

    python benchmarks/choosing.py             measures; writes results/choosing.json
    python benchmarks/choosing.py --table     prints the page's tables from it

twc codes every third Kodak picture, and some that are no photographs, at -q 4, two ways. The others get the quality at
which they reach the same PSNR; bytes are interpolated between the two nearest. PNG is lossless, for scale. Seconds are
the processor's, of one thread, all threads of a codec counted: they stand for nothing but their ratios. Codecs are at
Pillow's settings; it has no JPEG XL.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from pathlib import Path

import numpy as np
import skimage.data
from kodak import SHARED
from PIL import Image

import twcodec

RESULTS = Path(__file__).resolve().parent / "results" / "choosing.json"
OTHERS = ("JPEG", "WebP", "AVIF")
DRAWN = {
    "page": "a scanned page of text",
    "text": "handwriting on paper",
    "coins": "coins, grey",
    "color": "flat colours",
}
QUALITY, REPEATS = 4.0, 3


def others() -> dict[str, np.ndarray]:
    """What is not an ordinary photograph in colour."""
    found = {name: getattr(skimage.data, name)() for name in ("page", "text", "coins")}
    tile = np.zeros((256, 256, 3), np.uint8)
    for i, colour in enumerate(((230, 60, 50), (40, 90, 200), (250, 220, 60), (255, 255, 255))):
        tile[128 * (i // 2) : 128 * (i // 2) + 128, 128 * (i % 2) : 128 * (i % 2) + 128] = colour
    return {**found, "color": tile}


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    error = float(np.square(a.astype(np.float64) - b).mean())
    return 10 * np.log10(255**2 / error) if error else 99.0


def timed(call) -> tuple[float, object]:
    """The lowest processor time of some calls, and what the last gave."""
    seconds = []
    for _ in range(REPEATS):
        start = time.process_time()
        result = call()
        seconds.append(time.process_time() - start)
    return min(seconds), result


def with_pillow(image: Image.Image, kind: str, quality: int) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, quality=quality)
    return file.getvalue()


def back(data: bytes, mode: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert(mode))


def at_psnr(image: Image.Image, kind: str, wanted: float) -> tuple[int, float] | None:
    """The quality that reaches it, and bytes at just that PSNR; None where none does."""
    pixels = np.asarray(image)

    def tried(quality: int) -> tuple[int, float]:
        data = with_pillow(image, kind, quality)
        return len(data), psnr(pixels, back(data, image.mode))

    low, high = 0, 100
    if tried(high)[1] < wanted:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if tried(middle)[1] >= wanted else (middle, high)
    (below, a), (size, b) = tried(low), tried(high)
    share = (wanted - a) / (b - a) if b > a and a < wanted else 1.0
    return high, float(np.exp(np.log(below) + share * (np.log(size) - np.log(below))))


def measured(codec, pixels: np.ndarray) -> dict[str, dict[str, float]]:
    image = Image.fromarray(pixels)
    encoding, data = timed(lambda: codec.encode(image, QUALITY, seed=1))
    decoding, found = timed(lambda: np.asarray(codec.decode(data)))
    wanted = psnr(pixels, found)
    out = {"twc": {"bytes": len(data), "psnr": round(wanted, 2), "encode": encoding, "decode": decoding}}
    for kind in OTHERS:
        reached = at_psnr(image, kind, wanted)
        if reached:
            quality, size = reached
            encoding, data = timed(lambda kind=kind, quality=quality: with_pillow(image, kind, quality))
            decoding, _ = timed(lambda data=data: back(data, image.mode))
            out[kind] = {"bytes": round(size), "quality": quality, "encode": encoding, "decode": decoding}
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    out["PNG"] = {"bytes": len(file.getvalue())}
    return out


def measure() -> dict:
    codec = twcodec.open_codec(device="cpu", threads=1)
    kodak = sorted((SHARED / "data" / "kodak").glob("kodim*"))[::3]
    photographs = {path.stem: measured(codec, np.asarray(Image.open(path).convert("RGB"))) for path in kodak}
    rest = {name: measured(codec, pixels) for name, pixels in others().items()}
    return {
        "command": "python benchmarks/choosing.py",
        "model": codec.model.name,
        "quality": QUALITY,
        "photographs": photographs,
        "others": rest,
    }


def tables(results: dict) -> str:
    """The page's tables."""
    photographs = results["photographs"].values()
    lines = ["| photographs, equal PSNR | bytes | encoding | decoding |", "|---|---|---|---|", "| twc | 1 | 1 | 1 |"]
    for kind in OTHERS:
        ratios = [
            float(np.exp(np.mean([np.log(max(p[kind][what], 1e-4) / p["twc"][what]) for p in photographs])))
            for what in ("bytes", "encode", "decode")
        ]
        lines.append(f"| {kind} | {ratios[0]:.2f} | {ratios[1]:.2g} | {ratios[2]:.2g} |")
    lines += ["", "| bytes at twc's PSNR | dB | twc | " + " | ".join(OTHERS) + " | PNG, lossless |", "|---" * 7 + "|"]
    for name, found in results["others"].items():
        cells = (f"{found[kind]['bytes']:,}" if kind in found else "-" for kind in ("twc", *OTHERS, "PNG"))
        lines.append(f"| {DRAWN[name]} | {found['twc']['psnr']:.1f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="store_true", help="only print what the JSON says")
    if not parser.parse_args().table:
        RESULTS.write_text(json.dumps(measure(), indent=1) + "\n")
    print(tables(json.loads(RESULTS.read_text())))


if __name__ == "__main__":
    main()
