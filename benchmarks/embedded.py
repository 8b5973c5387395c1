"""Seconds of every embedded model: encode one way, encode two ways, decode. Interleaved, medians.

    python benchmarks/embedded.py [PICTURE]        default: the fifth Kodak picture, 768x512

Writes benchmarks/results/embedded.json. Time on a quiet machine; only ratios within one run mean anything.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "2000")

from kodak import HERE, pictures

import twcodec
from twcodec.codec.codec import read
from twcodec.codec.settings import Settings
from twcodec.models import catalogue

RUNS = 9


def main() -> None:
    picture = read(Path(sys.argv[1]) if len(sys.argv) > 1 else pictures()[4])
    codecs = {entry.name: twcodec.open_codec(entry.name, device="cpu") for entry in catalogue.EMBEDDED}
    one, two = Settings(transform="never"), Settings()
    files = {name: codec.encode_picture(picture, one)[0] for name, codec in codecs.items()}
    seconds: dict[str, dict[str, list[float]]] = {name: {} for name in codecs}
    for _ in range(RUNS):
        for name, codec in codecs.items():
            for what, run in (
                ("encode one way", lambda: codec.encode_picture(picture, one)),  # noqa: B023
                ("encode two ways", lambda: codec.encode_picture(picture, two)),  # noqa: B023
                ("decode", lambda: codec.decode_picture(files[name])),  # noqa: B023
            ):
                start = time.perf_counter()
                run()
                seconds[name].setdefault(what, []).append(time.perf_counter() - start)
    medians = {name: {k: round(statistics.median(v), 4) for k, v in found.items()} for name, found in seconds.items()}
    size = f"{picture.width}x{picture.height}"
    result = {"date": time.strftime("%Y-%m-%d"), "picture": size, "runs": RUNS, "seconds": medians}
    (HERE / "results" / "embedded.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
