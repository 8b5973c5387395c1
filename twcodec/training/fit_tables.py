"""Fit a model's frequency tables to what its symbols really are.

Run as `python -m twcodec.training.fit_tables MODEL.safetensors OUT.safetensors PICTURE...`.

Training bounds the rate with a Gaussian of the predicted scale, and latents are not Gaussian: on photographs the symbol
0 is half as frequent again as the model says. The decoder does not care where its tables come from, so each is replaced
by the histogram of the symbols that were coded with it. Bits are saved at no cost in distortion or time.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from twcodec.codec import grid
from twcodec.exact.tables import SYMBOL_LIMIT, TOTAL, Tables, table_from_probabilities
from twcodec.models import file as model_file
from twcodec.models.mean_scale import tables_from, tensors_of
from twcodec.models.model import Model
from twcodec.training.crops import Pixels, read_pixels
from twcodec.transforms import IDENTITY

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from twcodec.exact.symbols import Symbols

PRIOR = 300.0
"""How many symbols the old table counts for: what is rare in the sample stays possible."""

_REACH = 4096
"""Symbols further out are left to the escape."""


@dataclass(frozen=True)
class Counts:
    """How often each symbol was coded with each table. y: (levels, 2 _REACH + 1), z: (channels, 2 _REACH + 1)."""

    y: NDArray[np.int64]
    z: NDArray[np.int64]

    @classmethod
    def none(cls, levels: int, channels: int) -> Counts:
        """Nothing counted yet."""
        return cls(np.zeros((levels, 2 * _REACH + 1), np.int64), np.zeros((channels, 2 * _REACH + 1), np.int64))

    def add(self, symbols: Symbols) -> None:
        """Count one picture's symbols."""
        z = symbols.z.cpu().numpy()
        channel = np.arange(len(z)).repeat(z[0].size)
        _count(self.y, symbols.levels.cpu().numpy().ravel(), symbols.y.cpu().numpy().ravel())
        _count(self.z, channel, z.ravel())


def _count(counts: NDArray[np.int64], table: NDArray[np.integer], symbols: NDArray[np.int32]) -> None:  # type: ignore[type-arg]
    inside = np.abs(symbols) <= _REACH
    flat = table[inside].astype(np.int64) * counts.shape[1] + symbols[inside] + _REACH
    counts += np.bincount(flat, minlength=counts.size).reshape(counts.shape)


@torch.inference_mode()
def count(model: Model, pictures: Iterable[Pixels]) -> tuple[Counts, int]:
    """Analyse pictures, 8-bit RGB, at every quality row. Returns what was counted, and the number of pictures."""
    counts: Counts | None = None
    number = 0
    for pixels in pictures:
        number += 1
        samples = grid.to_samples(pixels, model.device)
        x = grid.Input(samples, 255, IDENTITY, model.family.stride)
        for row in range(model.family.rows):
            y = model.family.g_a(x, row + 1.0)
            symbols = model.family.entropy.quantise(y, model.family.h_a(y), row + 1.0)
            counts = counts or Counts.none(model.family.entropy.levels, len(symbols.z))
            counts.add(symbols)
    if counts is None:
        raise SystemExit("no pictures were given")
    return counts, number


def fitted(tables: Tables, counts: NDArray[np.int64]) -> Tables:
    """The histograms as tables. A table that was never used stays as good as it was: the old one is the prior."""
    new = []
    for first, weight, seen in zip(tables.first, np.split(tables.weight, tables.start[1:]), counts, strict=True):
        prior = np.zeros(2 * _REACH + 1)
        prior[first + _REACH : first + _REACH + len(weight) - 1] = weight[:-1] / TOTAL
        new.append(table_from_probabilities(-_REACH, (seen + PRIOR * prior) / (seen.sum() + PRIOR)))
    return Tables.pack(new)


def fit(data: bytes, pictures: Iterable[Pixels], device: torch.device | None = None) -> bytes:
    """A model file like `data` with tables that are fitted to the pictures, 8-bit RGB."""
    assert _REACH <= SYMBOL_LIMIT
    parsed = model_file.parse(data)
    counts, number = count(Model(data, "to be fitted", device or torch.device("cpu")), pictures)
    tensors = dict(parsed.tensors)
    for name, found in (("y", counts.y), ("z", counts.z)):
        if f"tables.{name}.weight" not in tensors:  # they are those of the model that this one is based on
            continue
        tensors.update(tensors_of(name, fitted(tables_from(parsed, name, len(found)), found)))
    fitted_to = {"pictures": number, "y": int(counts.y.sum()), "z": int(counts.z.sum())}
    provenance = {**parsed.metadata["provenance"], "tables_fitted_to": fitted_to, "before": parsed.digest.hex()}
    return model_file.build(tensors, {**parsed.metadata, "provenance": provenance})


if __name__ == "__main__":
    if len(sys.argv) < 4:
        raise SystemExit("usage: python -m twcodec.training.fit_tables MODEL OUT PICTURE...")
    made = fit(Path(sys.argv[1]).read_bytes(), map(read_pixels, map(Path, sys.argv[3:])))
    Path(sys.argv[2]).write_bytes(made)
    print(model_file.digest_of(made).hex(), len(made), "bytes")
