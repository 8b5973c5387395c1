"""The golden files in the environment that runs this: all that it shows, as JSON.

    python benchmarks/vectors.py with-torch          all three levels, with 1 and 2 threads, with oneDNN and without it
    python benchmarks/vectors.py without-torch       headers, payload kind 1, and symbols by the decoder in plain Python

Each figure is how many files passed, of how many. Nothing of torch is imported for the second. Imports only what twc
needs itself, so that torch_versions.py can run it anywhere.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "formats" / "vectors"
MANIFEST = json.loads((FOLDER / "manifest.json").read_text(encoding="utf-8"))
SLOW = 2000
"""Symbols of y that the decoder in plain Python decodes in some seconds."""

ALL, ONE = [(1, True), (1, False), (2, True), (2, False)], [(2, True)]
"""Threads, and whether with oneDNN; one condition where torch is told to do without newer instructions."""

Entry = dict[str, Any]


def read(entry: Entry) -> bytes:
    return (FOLDER / str(entry["file"])).read_bytes()


def is_sha256(data: bytes, expected: Entry) -> bool:
    return hashlib.sha256(data).hexdigest() == str(expected["sha256"])


def of(passed: Iterable[bool]) -> list[int]:
    """How many, and of how many."""
    results = list(passed)
    return [sum(results), len(results)]


# --- With torch ----------------------------------------------------------------------------------------------------


def with_torch() -> dict[str, Any]:
    """All levels under each condition."""
    import torch

    found = {}
    for threads, onednn in ONE if "ATEN_CPU_CAPABILITY" in os.environ else ALL:
        with torch.backends.mkldnn.flags(enabled=onednn):
            found[f"{threads} threads, {'oneDNN' if onednn else 'plain'}"] = levels(threads)
    return found


def levels(threads: int) -> dict[str, list[int]]:
    import twcodec

    codec = twcodec.open_codec(device="cpu", threads=threads)
    learned = [entry for entry in MANIFEST["valid"] if "symbols" in entry]
    shown = [entry for entry in MANIFEST["valid"] if "pixels" in entry]
    return {
        "A": of(symbols(codec, entry) for entry in learned),
        "B": of(pixels(codec, entry) for entry in shown),
        "C": of(refused(codec.decode, entry) for entry in MANIFEST["malformed"]),
        "encoded and decoded here": of([round_trip(codec)]),
    }


def symbols(codec: Any, entry: Entry) -> bool:
    found = codec.decode_symbols(read(entry))
    return is_sha256(b"".join(part.numpy().astype(">i2").tobytes() for part in (found.z, found.y)), entry["symbols"])


def pixels(codec: Any, entry: Entry) -> bool:
    import numpy as np
    from PIL import Image

    ours = np.asarray(codec.decode(read(entry))).astype(int)
    error = np.abs(ours - np.asarray(Image.open(FOLDER / entry["pixels"]["file"])))
    return bool(error.max() <= entry["pixels"]["peak"] and (error**2).mean() ** 0.5 <= entry["pixels"]["rms"])


def refused(decode: Any, entry: Entry) -> bool:
    """With the exit code of the manifest."""
    from twcodec.errors import TwcError

    try:
        decode(read(entry))
    except TwcError as error:
        return bool(error.exit_code == entry["exit_code"])
    return False


def round_trip(codec: Any) -> bool:
    """A picture that is encoded here is decoded here, learned and as AVIF; `encode` checks its own symbols."""
    import numpy as np
    from PIL import Image

    rows, columns = np.mgrid[:120, :200]
    picture = Image.fromarray(np.stack([rows, columns, rows + columns], 2).astype(np.uint8))
    files = [codec.encode(picture, seed=1, guard=guard) for guard in ("none", "avif")]
    return all(codec.decode(data).size == (200, 120) for data in files)


# --- Without torch -------------------------------------------------------------------------------------------------


def without_torch() -> dict[str, Any]:
    from twcodec.codec import guard
    from twcodec.codec.info import info
    from twcodec.container import Container

    def decode(data: bytes) -> bytes:
        return guard.decode(Container.from_bytes(data)).samples.tobytes()

    guards, broken = ([e for e in MANIFEST[kind] if "payload" in e] for kind in ("valid", "malformed"))
    return {
        "headers": of(info(read(entry)).width == entry["width"] for entry in MANIFEST["valid"]),
        "payload kind 1": of(is_sha256(decode(read(entry)), entry["samples"]) for entry in guards),
        "payload kind 1, malformed": of(refused(decode, entry) for entry in broken),
        "A, in plain Python": of(plain()),
        "torch was imported": "torch" in sys.modules,
    }


def plain() -> Iterator[bool]:
    """Level A of tests/conformance/slow_decoder.py, for the model that most of the files have."""
    sys.path.insert(0, str(ROOT / "tests" / "conformance"))
    import slow_decoder as slow  # type: ignore[import-not-found]

    model = slow.Model((ROOT / "twcodec" / "models" / "weights" / "default-1.safetensors").read_bytes())
    for entry in MANIFEST["valid"]:
        if "symbols" in entry and "model" not in entry and entry["symbols"]["y"] < SLOW:
            head, chunks = slow.read_chunks(read(entry))
            yield is_sha256(slow.decode_symbols(head, chunks[b"DATA"], model).coded, entry["symbols"])


if __name__ == "__main__":
    if sys.argv[1:] not in (["with-torch"], ["without-torch"]):
        sys.exit(__doc__)
    print(json.dumps(with_torch() if sys.argv[1] == "with-torch" else without_torch()))
