"""What processes that share the cores do to each other, by the spin count of torch's OpenMP threads.

    python benchmarks/sharing.py                    alone and two at once, for the default and several counts

Prints the median seconds of a two-way encoding of a 768x512 photograph. Needs a machine with nothing else to do.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time

import numpy as np


def measure() -> None:
    import skimage.data

    import twcodec
    from twcodec.codec.settings import Settings
    from twcodec.imaging.picture import Picture

    codec = twcodec.open_codec()
    picture = Picture(np.ascontiguousarray(np.tile(skimage.data.astronaut(), (1, 2, 1))[:, :768]), "RGB")
    times = []
    for _ in range(4):
        start = time.perf_counter()
        codec.encode_picture(picture, Settings())
        times.append(time.perf_counter() - start)
    print(statistics.median(times[1:]))


def run(count: str, processes: int) -> list[float]:
    environment = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    if count != "default":
        environment["GOMP_SPINCOUNT"] = count
    command = [sys.executable, __file__, "measure"]
    started = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
    return [float(process.communicate()[0]) for process in started]


if __name__ == "__main__":
    if sys.argv[1:] == ["measure"]:
        measure()
    else:
        for count in ("default", "1000", "2000", "5000", "60000"):
            alone, two = run(count, 1), run(count, 2)
            print(f"spin count {count}: alone {alone[0]:.2f} s, two at once {max(two):.2f} s", flush=True)
