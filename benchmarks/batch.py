"""`twc batch` on a thousand pictures: throughput, memory, kills, bad inputs.

    python benchmarks/batch.py throughput       against a shell loop of `twc encode`, and against the networks alone
    python benchmarks/batch.py memory           peak of all processes together, for 100 and for 1000 pictures
    python benchmarks/batch.py kill             SIGKILL at 20 random moments of one run, resumed each time
    python benchmarks/batch.py odd              30 odd and broken inputs among 300

Pictures are 256x256 crops of shared/data/train, in a folder under /tmp that is kept. Adds to results/batch.json.
Time on a quiet machine; figures are ratios within one run.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "2000")

import numpy as np
from kodak import HERE, SHARED
from PIL import Image

RESULTS = HERE / "results" / "batch.json"
FOLDER = Path("/tmp/twc-batch")
TWC = [sys.executable, "-m", "twcodec"]
SIDE, LOOPED, COMPARED, KILLS = 256, 24, 100, 20
"""Side of a crop; pictures in the shell loop; outputs that are compared with those of single runs; kills of a run."""


def crops(count: int) -> Path:
    """A folder of so many crops, the same each time."""
    folder = FOLDER / f"crops-{count}"
    if folder.exists():
        return folder
    rng, sources = random.Random(1), sorted((SHARED / "data" / "train").iterdir())
    partial = FOLDER / "partial"
    partial.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        picture = np.asarray(Image.open(sources[i % len(sources)]).convert("RGB"))
        top, left = rng.randrange(picture.shape[0] - SIDE), rng.randrange(picture.shape[1] - SIDE)
        Image.fromarray(picture[top : top + SIDE, left : left + SIDE]).save(partial / f"{i:04d}.png", compress_level=1)
    return partial.rename(folder)


def outputs(name: str) -> Path:
    """An empty place for outputs."""
    folder = FOLDER / name
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def records(folder: Path, status: str = "done") -> list[dict[str, Any]]:
    lines = (json.loads(line) for line in (folder / "twc-manifest.jsonl").read_text().splitlines())
    return [line for line in lines if line["status"] == status]


def batch(source: Path, folder: Path, *more: str) -> float:
    """Seconds of a run of its own."""
    start = time.perf_counter()
    subprocess.run([*TWC, "batch", "encode", str(source), "-o", str(folder), "--quiet", *more], check=True)
    return time.perf_counter() - start


def single(record: dict[str, Any], target: Path) -> float:
    """Seconds of one `twc encode` with the seed of the manifest."""
    start = time.perf_counter()
    command = [*TWC, "encode", "--quiet", "-f", "--seed", str(record["seed"]), record["source"], str(target)]
    subprocess.run(command, check=True)
    return time.perf_counter() - start


def throughput() -> dict[str, Any]:
    source, folder = crops(1000), outputs("throughput")
    seconds = batch(source, folder)
    done = records(folder)
    target = FOLDER / "single.twc"
    shell = [single(record, target) for record in random.Random(2).sample(done, LOOPED)]
    different = 0
    for record in random.Random(3).sample(done, COMPARED):
        single(record, target)
        different += target.read_bytes() != (folder / record["output"]).read_bytes()
    networks = networks_alone(source)
    return {
        "pictures": len(done),
        "pictures a second": round(len(done) / seconds, 2),
        "times the shell loop": round(statistics.mean(shell) * len(done) / seconds, 2),
        "bar, shell loop": 5,
        "of what the networks alone would take": {k: round(v * len(done) / seconds, 3) for k, v in networks.items()},
        "bar, networks": 0.9,
        "compared with single runs": COMPARED,
        "different": different,
    }


def networks_alone(source: Path) -> dict[str, float]:
    """Seconds a picture: the float networks of both branches, and those with the exact entropy networks.

    As they would be with both processors busy: one picture a processor at a time, with one thread each.
    """
    script = f"""
import sys, time, torch
sys.path.insert(0, {str(HERE)!r})
from pathlib import Path
from twcodec.codec import grid
from twcodec.codec.codec import open_codec, read
from twcodec.transforms import IDENTITY
torch.set_num_threads(1)
codec = open_codec("default", device="cpu", threads=1)
family, q = codec.model.family, codec.model.check_quality(None)
inputs = [grid.Input(grid.to_samples(read(p).samples, codec.model.device), 255, IDENTITY, 16)
          for p in sorted(Path({str(source)!r}).iterdir())[:60]]
spent = [0.0, 0.0]
with torch.inference_mode():
    for i, x in enumerate(inputs):
        for _ in range(2):
            a = time.perf_counter()
            y = family.g_a(x, q, torch.bfloat16)
            z = family.h_a(y, torch.bfloat16)
            b = time.perf_counter()
            symbols = family.entropy.quantise(y, z, q)
            c = time.perf_counter()
            family.g_s(symbols.y_hat, q, torch.bfloat16)
            d = time.perf_counter()
            if i >= 10:
                spent[0] += b - a + d - c
                spent[1] += d - a
print(*(s / (len(inputs) - 10) for s in spent))
"""
    count = len(os.sched_getaffinity(0))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(count)
    ]
    found = [[float(word) for word in process.communicate()[0].split()] for process in running]
    floats, both = (statistics.mean(column) / count for column in zip(*found, strict=True))
    return {"float networks": floats, "float and exact networks": both}


def peak_of(process: subprocess.Popen[Any]) -> int:
    """Bytes of physical memory of a process and its children, at their most."""
    found = [0]

    def watch() -> None:
        while process.poll() is None:
            total = 0
            for path in Path("/proc").glob("[0-9]*"):
                try:
                    status = (path / "stat").read_text().rpartition(")")[2].split()
                    if int(path.name) == process.pid or int(status[1]) == process.pid:
                        lines = (path / "smaps_rollup").read_text().splitlines()
                        total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) << 10
                except (OSError, IndexError, StopIteration):
                    continue
            found[0] = max(found[0], total)
            time.sleep(0.2)

    watcher = threading.Thread(target=watch)
    watcher.start()
    if process.wait():
        sys.exit("the run failed")
    watcher.join()
    return found[0]


def memory() -> dict[str, Any]:
    peaks = {}
    for count in (100, 1000):
        folder = outputs("memory")
        command = [*TWC, "batch", "encode", str(crops(count)), "-o", str(folder), "--quiet"]
        peaks[count] = peak_of(subprocess.Popen(command))
    return {
        "peak of 100, MB": round(peaks[100] / 1e6),
        "peak of 1000, MB": round(peaks[1000] / 1e6),
        "ratio": round(peaks[1000] / peaks[100], 3),
        "bar": 1.2,
    }


def kill() -> dict[str, Any]:
    source, folder, rng = crops(1000), outputs("kill"), random.Random(4)
    command = [*TWC, "batch", "encode", str(source), "-o", str(folder), "--quiet"]
    killed = 0
    while killed < KILLS:
        process = subprocess.Popen(command)
        time.sleep(1 + 2.5 * rng.random())
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            killed += 1
        process.wait()
        print(f"killed {killed}: {len(records(folder)) if folder.exists() else 0} done", flush=True)
    subprocess.run(command, check=True)
    files = sorted(folder.glob("*.twc"))
    verified = subprocess.run([*TWC, "verify", "--quiet", *map(str, files)]).returncode
    times = Counter(record["output"] for record in records(folder))
    return {
        "kills": killed,
        "pictures": len(files),
        "verify's exit code": verified,
        "done more than once": sum(n > 1 for n in times.values()),
        "not in the manifest": len({f.name for f in files} - set(times)),
        "other files left": sorted(p.name for p in folder.iterdir() if p.suffix not in (".twc", ".jsonl")),
        "processes left": len(
            subprocess.run(["pgrep", "-f", "twcodec.batch.process"], capture_output=True).stdout.split()
        ),
    }


def odd() -> dict[str, Any]:
    """Good crops, and what shared/data/odd has, and damage of every kind."""
    source, folder, rng = outputs("odd-in"), outputs("odd"), random.Random(5)
    source.mkdir(parents=True)
    good = sorted(crops(1000).iterdir())[:270]
    for path in good:
        shutil.copy(path, source)
    sound = good[0].read_bytes()
    bad = {
        "empty.png": b"",
        "text.jpg": b"this is no picture\n",
        "zeros.png": bytes(4096),
        "noise.webp": rng.randbytes(4096),
        "twice.gif": b"GIF89a" * 50,
        "header-only.png": sound[:33],
        "page.jpeg": b"<html><body>404</body></html>",
        "bomb.png": bomb(),
    }
    for i in range(30 - len(bad) - 1):
        bad[f"cut-{i:02d}.png"] = sound[: 40 + 41 * i * len(sound) // 1000]
    for name, data in bad.items():
        (source / name).write_bytes(data)
    (source / "folder.png").mkdir()
    (source / "dangling.png").symlink_to("nowhere.png")
    run = subprocess.run([*TWC, "batch", "encode", str(source), "-o", str(folder)], capture_output=True, text=True)
    listed = {name for name in [*bad, "dangling.png"] if f"{name}: " in run.stderr}
    return {
        "good": len(good),
        "bad": len(bad) + 1,
        "exit code": run.returncode,
        "good ones done": sum((folder / f"{path.stem}.twc").exists() for path in good),
        "bad ones listed with a reason": len(listed),
        "not listed": sorted({*bad, "dangling.png"} - listed),
        "tracebacks": run.stderr.count("Traceback"),
        "reasons": sorted({record["error"] for record in records(folder, "failed")}),
    }


def bomb() -> bytes:
    """A PNG of 60000x60000 in few bytes."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b"")


def main() -> None:
    runs = {"throughput": throughput, "memory": memory, "kill": kill, "odd": odd}
    if len(sys.argv) != 2 or sys.argv[1] not in runs:
        sys.exit(__doc__)
    found = runs[sys.argv[1]]()
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    kept[sys.argv[1]] = {"date": time.strftime("%Y-%m-%d"), "command": " ".join(["python", *sys.argv]), **found}
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
