"""Seconds of whole processes, from the shell's word to the last byte, and where those of `twc encode` go.

    python benchmarks/startup.py [RUNS]        default: 9 runs, interleaved, after one that warms the file cache

The picture is the fifth Kodak one, 768x512. The stages are those of `twc encode`, walked through by a process of their
own; its networks are timed in a second encoding, so what only the first one does counts as outside them. Writes
results/startup.json. Time on a quiet machine.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "2000")

TWC = str(Path(sys.executable).with_name("twc"))
BARS = {"twc --help": 0.15, "twc info": 0.25, "twc encode": 2.5, "twc encode, outside its networks": 1.5}
"""Seconds."""

A_SECOND, NETWORKS = "a second encoding", "of that, its networks"


def commands(picture: Path, folder: Path) -> dict[str, list[str]]:
    file, back = str(folder / "picture.twc"), str(folder / "picture.png")
    return {
        "python -c pass": [sys.executable, "-c", "pass"],
        "python -c 'import torch'": [sys.executable, "-c", "import torch"],
        "twc --help": [TWC, "--help"],
        "twc encode": [TWC, "encode", "-f", str(picture), file],
        "twc decode": [TWC, "decode", "-f", file, back],
        "twc info": [TWC, "info", file],
        "stages": [sys.executable, __file__, "stages", str(picture), str(folder / "again.twc")],
    }


def ran(command: list[str]) -> tuple[float, str]:
    """Seconds of a process, and what it printed. The stages of `twc encode` begin at the moment that it is told."""
    start = time.perf_counter()
    done = subprocess.run([*command, *([repr(start)] if "stages" in command else [])], capture_output=True, check=True)
    return time.perf_counter() - start, done.stdout.decode()


def stages(picture: str, target: str, start: float) -> dict[str, float]:
    """Seconds of each step of `twc encode`, the first counted from `start`, on the clock that all processes share."""
    ends = {"": start}

    def ended(step: str) -> None:
        ends[step] = time.perf_counter()

    ended("the interpreter and this script")
    from twcodec.cli import encode, main, options  # noqa: F401 - what the command imports

    ended("the command line's modules")
    from twcodec.imaging.read import read_picture

    read = read_picture(picture)
    ended("Pillow, numpy and reading the picture")
    options.make_ready()
    import torch  # noqa: F401

    ended("torch")
    from twcodec.codec.codec import open_codec
    from twcodec.codec.settings import Settings
    from twcodec.exact import known_answer

    ended("the codec's modules")
    known_answer.passes("cpu")
    ended("the known-answer test")
    codec, settings = open_codec(), Settings(measure=True)
    ended("the model")
    Path(target).write_bytes(codec.encode_picture(read, settings)[0])
    ended("the first encoding")
    steps = dict(zip(list(ends)[1:], (b - a for a, b in itertools.pairwise(ends.values())), strict=True))
    return {**steps, **warm(codec, lambda: codec.encode_picture(read, settings))}


def warm(codec: Any, encode: Callable[[], Any]) -> dict[str, float]:
    """The same encoding once more, and what its networks take of it."""
    from speed import clocked

    spent: dict[str, float] = {}
    start = time.perf_counter()
    with clocked(codec, spent):
        encode()
    return {A_SECOND: time.perf_counter() - start, NETWORKS: sum(spent[name] for name in ("g_a", "h_a", "g_s")) / 1e3}


def main() -> None:
    from kodak import HERE, pictures

    count = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    found: dict[str, list[float]] = {}
    inside: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        run = commands(pictures()[4], Path(folder))
        for i in range(count + 1):
            for name, command in run.items():
                seconds, printed = ran(command)
                if i and name != "stages":
                    found.setdefault(name, []).append(seconds)
                elif i:
                    for stage, value in json.loads(printed).items():
                        inside.setdefault(stage, []).append(value)
    medians = {name: statistics.median(values) for name, values in found.items()}
    steps = {name: round(statistics.median(values), 3) for name, values in inside.items()}
    medians["twc encode, outside its networks"] = medians["twc encode"] - steps[NETWORKS]
    result = {
        "date": time.strftime("%Y-%m-%d"),
        "python": sys.version.split()[0],
        "runs": count,
        "seconds": {name: round(value, 3) for name, value in medians.items()},
        "bars": {name: {"bar": bar, "holds": medians[name] <= bar} for name, bar in BARS.items()},
        "stages of twc encode": steps,
    }
    (HERE / "results" / "startup.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    if sys.argv[1:2] == ["stages"]:
        print(json.dumps(stages(sys.argv[2], sys.argv[3], float(sys.argv[4]))))
    else:
        main()
