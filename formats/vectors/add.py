"""Add golden files made with a later embedded model: python formats/vectors/add.py MODEL PREFIX

MODEL is a name of the catalogue. The files that are there stay as they are; new ones get names that begin with PREFIX
and entries of the manifest that name their own model.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import make
import numpy as np
import slow_decoder
import torch
from make import HERE, crop, encoded, gradient

import twcodec
from twcodec.imaging.picture import Picture
from twcodec.models import catalogue
from twcodec.models import file as model_file


def extreme() -> bytes:
    """16 x 16 pixels of symbols that no picture has; what the second step sees of the first is saturated."""
    rng, entropy = np.random.default_rng(3), make.codec.model.family.entropy
    z, y = (
        torch.from_numpy((np.exp2(rng.uniform(0, octaves, n)) * rng.choice((-1, 1), n)).astype(np.float32))
        for n, octaves in ((make.model.n, 8), (make.model.m, 15))
    )
    y[:2] = torch.tensor([90000.0, -90000.0])
    return make.with_symbols(make.square(), entropy.quantise(y[:, None, None], z[:, None, None]))


def more() -> Iterator[tuple[str, str, bytes]]:
    """Name, what it is, file."""
    yield "rgb-1x1", "one pixel: most channels are coded in one step only", encoded(_rgb(100, 200, 1, 1), 1, 0)
    yield "rgb-7x300", "narrow and high: several z, one column of y", encoded(_rgb(20, 222, 300, 7), 2, 1, True)
    yield "rgb-100x90", "a fractional quality, a turn and a shift", encoded(_rgb(60, 180, 90, 100), 3.217, 3, True)
    yield "rgb-best", "the highest quality: escapes", encoded(_rgb(130, 200, 40, 50), 7, 4)
    yield (
        "l-33x31",
        "grey; transposed into its padding",
        encoded(Picture(crop("camera", 80, 200, 31, 33), "L"), 6, 4, True),
    )
    colour = Picture(crop("astronaut", 130, 200, 33, 24), "RGBA", alpha=gradient(33, 24)[::-1].copy())
    yield "rgba-24x33", "colour and alpha, a PNG", encoded(colour, 4.5, 2)
    yield "extreme", "no picture: symbols at their limits, activations saturate; level A only", extreme()


def _rgb(row: int, column: int, height: int, width: int) -> Picture:
    return Picture(crop("astronaut", row, column, height, width), "RGB")


def with_base(data: bytes) -> tuple[bytes, bytes]:
    """A model file, and the one that it builds on, or nothing."""
    digest = model_file.parse(data).metadata.get("base")
    return data, catalogue.read_by_digest(bytes.fromhex(digest))[1] if digest else b""


def main(name: str, prefix: str) -> None:
    """Write the files, and the manifest anew."""
    make.codec = twcodec.open_codec(model=name, device="cpu")
    make.model = slow_decoder.Model(*with_base(catalogue.read(name)[1]))
    manifest = json.loads((HERE / "manifest.json").read_text())
    for title, what, data in more():
        entry = make.describe(f"{prefix}-{title}", what, data, HERE / "valid")
        manifest["valid"].append({**entry, "model": make.model.digest.hex()})
    text = json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"
    (HERE / "manifest.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
