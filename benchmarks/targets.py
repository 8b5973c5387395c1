"""How close files come to `--target-bpp`, `--target-size` and `--target-psnr`, and what the search costs.

    python benchmarks/targets.py [PICTURES]      default: all of Kodak; 5 minutes

Every file is measured by itself: its bytes, and the PSNR of what it decodes to. Time is that of the encoding beside a
plain one, two ways each, right before it. Writes results/targets.json. Targets that are out of a picture's reach are
counted, not averaged.
"""

from __future__ import annotations

import datetime
import json
import statistics
import sys
import time
from typing import Any

import numpy as np
from kodak import HERE, pictures

import twcodec
from twcodec.codec.codec import read
from twcodec.codec.settings import Settings
from twcodec.errors import LimitError

RESULTS = HERE / "results" / "targets.json"
TARGETS: dict[str, tuple[float, ...]] = {
    "bpp": (0.25, 0.5, 1.0),
    "size": (15_000, 30_000, 60_000),
    "psnr": (30, 33, 36),
}
BARS = {"bpp": 0.01, "size": 0.01, "psnr": 0.05}
MOST_TIME = 2.5


def miss(kind: str, wanted: float, data: bytes, picture: Any, codec: Any) -> float:
    """Share of the bytes, or dB, by which a file is above its target."""
    if kind == "psnr":
        error = np.mean((codec.decode_picture(data).samples.astype(float) - picture.samples) ** 2)
        return 10 * float(np.log10(255**2 / error)) - wanted
    bytes_ = wanted if kind == "size" else wanted * picture.height * picture.width / 8
    return len(data) / bytes_ - 1


def seconds(codec: Any, picture: Any, settings: Settings) -> tuple[float, bytes, Any]:
    start = time.perf_counter()
    data, report = codec.encode_picture(picture, settings)
    return time.perf_counter() - start, data, report


def measured(codec: Any, kind: str, wanted: float, chosen: list[Any]) -> dict[str, Any]:
    misses, ratios, beyond = [], [], 0
    for picture in chosen:
        plain = seconds(codec, picture, Settings(measure=True))[0]
        settings = Settings(measure=True, **{f"target_{kind}": int(wanted) if kind == "size" else wanted})
        try:
            took, data, report = seconds(codec, picture, settings)
        except LimitError:
            beyond += 1
            continue
        if report.quality == codec.model.qualities[1] or report.warnings:
            beyond += 1
            continue
        misses.append(miss(kind, wanted, data, picture, codec))
        ratios.append(took / plain)
    return {
        "kind": kind,
        "target": wanted,
        "pictures": len(misses),
        "out of reach": beyond,
        "lowest": round(min(misses), 4),
        "highest": round(max(misses), 4),
        "time, median": round(statistics.median(ratios), 2),
        "time, most": round(max(ratios), 2),
        "holds": max(map(abs, misses)) <= BARS[kind] and statistics.median(ratios) <= MOST_TIME,
    }


def main() -> None:
    codec = twcodec.open_codec(device="cpu")
    count = int(sys.argv[1]) if len(sys.argv) > 1 else None
    chosen = [read(path) for path in pictures()[:count]]
    codec.encode_picture(chosen[0], Settings(target_psnr=33.0))
    rows = []
    for kind, wanted in ((kind, wanted) for kind, values in TARGETS.items() for wanted in values):
        rows.append(measured(codec, kind, wanted, chosen))
        print(rows[-1], flush=True)
    found = {"date": datetime.date.today().isoformat(), "model": codec.model.name, "targets": rows}
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
