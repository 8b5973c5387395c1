"""Eight threads with one codec, and eight processes at once: the right answers, at what cost.

    python benchmarks/concurrency.py               takes 2 minutes; writes results/concurrency.json

Eight Kodak pictures. In one process: encoded two ways and decoded by eight threads that share a codec, against one
after the other. In processes: `twc encode` and `twc decode` of each picture, all eight at once, against one after the
other; the peak is the largest that any of the eight took. Time on a quiet machine.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "2000")

from kodak import HERE, pictures

import twcodec

WORKERS = 8
TWC = str(Path(sys.executable).with_name("twc"))
SMALL = (
    "import resource, subprocess, sys\n"
    "subprocess.run(sys.argv[1:], check=True)\n"
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
)
"""Starts the command and prints its peak. Linux counts into a process's peak what the one had that started it, so that
must be a small one."""


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    found = work()
    return round(time.perf_counter() - start, 2), found


# --- Threads -------------------------------------------------------------------------------------------------------


def in_threads(paths: list[Path]) -> dict[str, Any]:
    """One codec, loaded and warm before the clock runs; its own choice of threads for each call."""
    codec = twcodec.open_codec(device="cpu")

    def work(path: Path) -> tuple[bytes, bytes]:
        data = codec.encode(path, seed=1)
        return data, codec.decode(data).tobytes()

    work(paths[0])
    serial, alone = timed(lambda: [work(path) for path in paths])
    with ThreadPoolExecutor(WORKERS) as pool:
        together, found = timed(lambda: list(pool.map(work, paths)))
    return {
        "serial_seconds": serial,
        "together_seconds": together,
        "same_files": sum(a[0] == b[0] for a, b in zip(alone, found, strict=True)),
        "same_pixels": sum(a[1] == b[1] for a, b in zip(alone, found, strict=True)),
    }


# --- Processes -----------------------------------------------------------------------------------------------------


def process(command: list[str]) -> int:
    """Kilobytes that a process took at most. SystemExit: it failed."""
    done = subprocess.run([sys.executable, "-S", "-c", SMALL, TWC, *command, "--quiet", "-f"], capture_output=True)
    if done.returncode:
        sys.exit(f"twc {' '.join(command)} failed: {done.stderr.decode()}")
    return int(done.stdout)


def digests(paths: list[Path]) -> list[str]:
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]


def in_processes(commands: list[list[str]], outputs: list[Path]) -> dict[str, Any]:
    """The same commands one after the other and all at once."""
    process(commands[0])  # the file cache
    serial, alone = timed(lambda: [process(command) for command in commands])
    expected = digests(outputs)
    with ThreadPoolExecutor(WORKERS) as pool:
        together, found = timed(lambda: list(pool.map(process, commands)))
    return {
        "serial_seconds": serial,
        "together_seconds": together,
        "peak_mb_alone": round(max(alone) / 1000),
        "peak_mb_each": [round(kilobytes / 1000) for kilobytes in sorted(found)],
        "same_outputs": sum(a == b for a, b in zip(expected, digests(outputs), strict=True)),
    }


def main() -> None:
    paths = pictures()[:WORKERS]
    with tempfile.TemporaryDirectory() as name:
        files = [Path(name) / f"{path.stem}.twc" for path in paths]
        images = [file.with_suffix(".png") for file in files]
        encode = [["encode", "--seed", "1", str(a), str(b)] for a, b in zip(paths, files, strict=True)]
        decode = [["decode", str(a), str(b)] for a, b in zip(files, images, strict=True)]
        found = {
            "date": date.today().isoformat(),
            "cores": len(os.sched_getaffinity(0)),
            "load before": round(os.getloadavg()[0], 1),
            "workers": WORKERS,
            "threads, one codec, encode and decode": in_threads(paths),
            "processes, twc encode": in_processes(encode, files),
            "processes, twc decode": in_processes(decode, images),
        }
    text = json.dumps(found, indent=1) + "\n"
    (HERE / "results" / "concurrency.json").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
