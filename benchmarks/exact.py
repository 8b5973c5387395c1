"""Is the default's entropy path exact? Bounds of its layers, and mismatching symbols on Kodak.

    python benchmarks/exact.py [MODEL]

Every picture is coded at -q 1, 4 and 7 and its symbols are decoded with 1 and 2 threads, oneDNN on and off, and tiles
and bands of another size, each in every combination; z, y, table indices and y_hat must be those of the encoder.
Without oneDNN integer layers run in float64 instead of bytes. Writes benchmarks/results/exact.json, or
exact-MODEL.json where a model is given.
"""

from __future__ import annotations

import itertools
import json
import math
import sys
import time
from unittest import mock

import torch
from kodak import HERE, pictures

import twcodec
from twcodec.codec.codec import read
from twcodec.codec.settings import Settings
from twcodec.exact import hyperprior, walk
from twcodec.exact.layers import bound
from twcodec.models import catalogue
from twcodec.models import file as model_file

TILES = ((5, 100), (hyperprior.TILE, walk._POSITIONS))
"""Positions of z a side of a tile, and positions of y in a band."""


def bounds(data: bytes) -> dict[str, float]:
    """log2 of the largest magnitude that a sum in each layer can have; 53 is the limit."""
    tensors = model_file.parse(data).tensors
    layers = [name.removesuffix(".shift") for name in tensors if name.endswith(".shift")]
    return {n: round(math.log2(bound(tensors[f"{n}.weight"], tensors[f"{n}.bias"])), 1) for n in sorted(layers)}


def main() -> None:
    name, data = catalogue.read(sys.argv[1] if len(sys.argv) > 1 else "default")
    codec = twcodec.open_codec(model=name, device="cpu")
    with torch.backends.mkldnn.flags(enabled=False):  # integer layers in float64 instead of bytes
        without = twcodec.open_codec(model=name, device="cpu")
    kept, compared, mismatches = [], 0, 0
    original = hyperprior.Hyperprior.quantise
    for path, quality in itertools.product(pictures(), (1, 4, 7)):
        with mock.patch.object(hyperprior.Hyperprior, "quantise", lambda *a: kept.append(original(*a)) or kept[-1]):
            file, _ = codec.encode_picture(read(path), Settings(quality, transform="never"))
        encoded = kept.pop()
        for threads, onednn, (tile, positions) in itertools.product((1, 2), (True, False), TILES):
            torch.set_num_threads(threads)
            with (
                torch.backends.mkldnn.flags(enabled=onednn),
                mock.patch.object(hyperprior, "TILE", tile),
                mock.patch.object(walk, "_POSITIONS", positions),
            ):
                found = (codec if onednn else without).decode_symbols(file)
            parts = ("z", "y", "levels", "y_hat")
            mismatches += sum(int((getattr(found, p) != getattr(encoded, p)).sum()) for p in parts)
            compared += found.z.numel() + found.y.numel()
        print(path.stem, quality, mismatches, flush=True)
    result = {
        "date": time.strftime("%Y-%m-%d"),
        "what": " ".join(__doc__.split("\n\n")[2].split()),
        "model": name,
        "log2_bounds": bounds(data),
        "symbols_compared": compared,
        "mismatches": mismatches,
    }
    (HERE / "results" / ("exact.json" if len(sys.argv) < 2 else f"exact-{name}.json")).write_text(
        json.dumps(result, indent=1) + "\n"
    )
    print(result)


if __name__ == "__main__":
    main()
