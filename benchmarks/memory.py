"""Peak memory and time of whole `twc encode` and `twc decode` processes, from 1 to 100 megapixels.

    python benchmarks/memory.py [MEGAPIXELS...]        default: those of 1 4 12 25 50 100 that are not there yet

The picture is scikit-image's astronaut, tiled, with a little noise, as PNG; it is decoded to PPM. Seconds are those of
the process less those of one for 0.01 megapixels: imports and the model are paid once. Each size is kept in
results/memory.json when it is done, with its date: a run that was stopped goes on with the sizes that are left. Sizes
that are named are measured again; after a change of the codec remove the file, or figures of old and new code are
set against each other. Takes 5 minutes.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import skimage.data
from kodak import HERE
from PIL import Image

RESULTS = HERE / "results" / "memory.json"
BARS = {"encode": 4.0, "decode": 3.0}
"""GB, for 100 megapixels."""

FLAT = 1.15
"""A megapixel of any size takes at most this many times as long as one of any other."""

SEED = "1"
"""Draws a quarter turn for large pictures, which takes more time than a flip, and the same for every size and run."""

SIZES = (1, 4, 12, 25, 50, 100)

LEAST, SMALL, SEVERAL = 0.01, 4, 5
"""Megapixels that take next to no time of their own; up to how many a command is run several times, and how often."""


def picture(megapixels: float, path: Path) -> None:
    """Square, but for a few pixels, so that its sides are not those of tiles."""
    side = round((megapixels * 1e6) ** 0.5)
    rng = np.random.default_rng(1)
    tile = skimage.data.astronaut().astype(np.int16)
    tile = (tile + rng.integers(-3, 4, tile.shape)).clip(0, 255).astype(np.uint8)
    whole = np.tile(tile, (side // 512 + 1, side // 512 + 1, 1))[:side, :side]
    Image.fromarray(np.ascontiguousarray(whole)).save(path, compress_level=1)


def measured(*command: str) -> tuple[float, float]:
    """GB at the peak, and seconds, of a process of its own."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "twcodec", *command, "--quiet", "-f"])
    _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"twc {' '.join(command)} failed: {os.waitstatus_to_exitcode(status)}")
    return used.ru_maxrss * 1024 / 1e9, time.perf_counter() - start


def of_size(megapixels: float, folder: Path) -> dict[str, dict[str, float]]:
    """Peak and seconds of both commands; medians of several runs where one takes next to no time."""
    paths = [str(folder / name) for name in ("in.png", "out.twc", "out.ppm")]
    picture(megapixels, folder / "in.png")
    found = {}
    for what, command in (("encode", ["--seed", SEED, *paths[:2]]), ("decode", paths[1:])):
        runs = [measured(what, *command) for _ in range(SEVERAL if megapixels <= SMALL else 1)]
        gb, seconds = (statistics.median(values) for values in zip(*runs, strict=True))
        found[what] = {"peak_gb": round(gb, 3), "seconds": round(seconds, 3)}
    return found


def bars(sizes: dict[str, dict[str, dict[str, float]]]) -> dict[str, dict[str, float | bool]]:
    """The largest peak against its bar, and the slowest megapixel against the quickest."""
    found = {}
    for what, bar in BARS.items():
        peak = max(of[what]["peak_gb"] for of in sizes.values())
        each = [of[what]["seconds_a_megapixel"] for of in sizes.values()]
        flat = round(max(each) / min(each), 3)
        found[f"{what}, GB"] = {"found": peak, "bar": bar, "holds": peak < bar}
        found[f"{what}, slowest by quickest megapixel"] = {"found": flat, "bar": FLAT, "holds": flat <= FLAT}
    return found


def main() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    kept = json.loads(RESULTS.read_text())["megapixels"] if RESULTS.exists() else {}
    sizes = [float(a) for a in sys.argv[1:]] or [size for size in SIZES if f"{size:g}" not in kept]
    if not sizes:
        sys.exit(f"{RESULTS} has every size: name those to measure again, or remove it")
    with tempfile.TemporaryDirectory() as folder:
        least = of_size(LEAST, Path(folder))
        for megapixels in sizes:
            found = of_size(megapixels, Path(folder))
            for what, values in found.items():
                spent = values["seconds"] - least[what]["seconds"]
                values["seconds_a_megapixel"] = round(spent / megapixels, 3)
            kept[f"{megapixels:g}"] = {"date": time.strftime("%Y-%m-%d"), **found}
            print(megapixels, found, flush=True)
            kept = dict(sorted(kept.items(), key=lambda item: float(item[0])))
            result = {"bars": bars(kept), "least": least, "megapixels": kept}
            RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(bars(kept), indent=1))


if __name__ == "__main__":
    main()
