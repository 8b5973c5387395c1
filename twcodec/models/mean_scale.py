"""The entropy part that every mean-scale hyperprior family shares: CompressAI's modules -> the exact path."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from twcodec.errors import UnsupportedError
from twcodec.exact.arithmetic import ONE
from twcodec.exact.hyperprior import MeanScaleHyperprior
from twcodec.exact.tables import Tables, table_from_probabilities
from twcodec.models.integer_layers import IntegerLayers, quantised

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from twcodec.exact.layers import Geometry
    from twcodec.models.file import ModelFile

SCALE_MIN, SCALE_MAX, SCALE_LEVELS = 0.11, 256.0, 256
"""Standard deviations that have a table of their own, in even steps of their logarithm (CompressAI has 64)."""


def scale_levels() -> NDArray[np.float64]:
    """(SCALE_LEVELS,): the standard deviation of each table."""
    return np.asarray(np.exp(np.linspace(math.log(SCALE_MIN), math.log(SCALE_MAX), SCALE_LEVELS)))


def thresholds() -> NDArray[np.int32]:
    """(SCALE_LEVELS - 1,): geometric midpoints in activations' units; level = number of thresholds <= scale."""
    levels = scale_levels()
    return np.asarray(np.floor(np.sqrt(levels[1:] * levels[:-1]) * ONE + 0.5), np.int32)


def gaussian_tables() -> Tables:
    """One table a scale level: a Gaussian integrated over unit intervals around the integers."""
    return Tables.pack([_gaussian_table(float(sigma)) for sigma in scale_levels()])


def _gaussian_table(sigma: float) -> tuple[int, NDArray[np.uint16]]:
    reach = math.ceil(5 * sigma) + 1
    upper = np.array([0.5 * math.erfc((k + 0.5) / (sigma * math.sqrt(2))) for k in range(reach + 1)])  # P(x > k + 1/2)
    tail = upper[:-1] - upper[1:]  # P of 1 .. reach
    return table_from_probabilities(-reach, np.concatenate([tail[::-1], [1 - 2 * upper[0]], tail]))


def factorised_tables(
    bottleneck: Any, reach: int = 1024, steps: Sequence[int] = (ONE,)
) -> tuple[Tables, NDArray[np.int32]]:
    """One table a channel of CompressAI's EntropyBottleneck, and the medians they lie around, in activations' units.

    The density of Ballé et al. 2018 (appendix 6.1), in double precision, at the integers around the median that the
    integer path will use. steps: the distance of neighbouring symbols, in activations' units; a set of tables for each.
    """
    import torch

    bottleneck = bottleneck.double()
    medians = np.floor(bottleneck.quantiles[:, 0, 1].detach().numpy() * ONE + 0.5).astype(np.int32)
    edges = torch.arange(-reach, reach + 2, dtype=torch.float64) - 0.5
    tables = []
    for step in steps:
        with torch.inference_mode():
            positions = edges * (step / ONE) + torch.from_numpy(medians / ONE)[:, None, None]  # (N, 1, 2 reach + 2)
            logits = bottleneck._logits_cumulative(positions, stop_gradient=True)[:, 0]
            # the half in which the difference of two sigmoids does not cancel
            sign = -torch.sign(logits[:, :-1] + logits[:, 1:])
            mass = (torch.sigmoid(sign * logits[:, 1:]) - torch.sigmoid(sign * logits[:, :-1])).abs().numpy()
        tables += [table_from_probabilities(-reach, channel) for channel in mass]
    return Tables.pack(tables), medians


def to_tensors(h_s: Sequence[Any], bottleneck: Any) -> dict[str, NDArray[Any]]:
    """The tensors of a model file for an h_s (its convolutions in order, as torch modules) and an EntropyBottleneck."""
    out: dict[str, NDArray[Any]] = {}
    for i, module in enumerate(h_s):
        weight = module.weight.detach().double().numpy()
        if type(module).__name__ == "ConvTranspose2d":
            weight = weight.swapaxes(0, 1)  # output channel first
        out.update(quantised(f"h_s.{i}", weight, module.bias.detach().double().numpy()))
    z_tables, medians = factorised_tables(bottleneck)
    out.update({**tensors_of("y", gaussian_tables()), **tensors_of("z", z_tables)})
    return {**out, "thresholds": thresholds(), "medians": medians}


def tensors_of(name: str, tables: Tables) -> dict[str, NDArray[Any]]:
    """The tensors of a model file for its tables `name`: "y" or "z"."""
    parts: dict[str, NDArray[Any]] = {"weight": tables.weight, "length": tables.length, "first": tables.first}
    return {f"tables.{name}.{part}": value for part, value in parts.items()}


def from_file(
    file: ModelFile, geometries: Sequence[Geometry], channels: Sequence[int], device: torch.device
) -> MeanScaleHyperprior:
    """The exact entropy path of a model file.

    channels: of z_hat, of each layer's output; the last one is twice y's. UnsupportedError: the file does not fit.
    """
    layers, last = IntegerLayers(file, device), len(geometries) - 1
    h_s = [
        layers.convolution(f"h_s.{i}", channels[i + 1], channels[i], geometry, leaky=i < last)
        for i, geometry in enumerate(geometries)
    ]
    return MeanScaleHyperprior(h_s, *shared_parts(file, channels[0], device))


MOST_RATE_WEIGHT = 2.0


def shared_parts(file: ModelFile, n: int, device: torch.device, z_rows: int = 1) -> tuple[Any, ...]:
    """What every `Hyperprior` takes behind its layers. n: channels of z. z_rows: sets of tables for z.

    UnsupportedError: the file does not fit.
    """
    limits = file.tensor("thresholds", (None,), "int32")
    y, z = tables_from(file, "y", len(limits) + 1), tables_from(file, "z", z_rows * n)
    return y, z, limits, file.tensor("medians", (n,), "int32"), rate_weight(file), device


def rate_weight(file: ModelFile) -> float:
    """What the encoder's rounding gives for a bit (`exact.rounding`); 0 where the file does not say."""
    found = file.metadata.get("rate_weight", 0)
    if type(found) not in (int, float) or not 0 <= found <= MOST_RATE_WEIGHT:
        raise UnsupportedError(f"the model file's rate weight is not a number from 0 to {MOST_RATE_WEIGHT:g}")
    return float(found)


def tables_from(file: ModelFile, name: str, count: int) -> Tables:
    """The `count` tables `name` of a model file. UnsupportedError: they are not there, or not sound."""
    weight = file.tensor(f"tables.{name}.weight", (None,), "uint16")
    length = file.tensor(f"tables.{name}.length", (count,), "int32")
    return Tables(weight, length, file.tensor(f"tables.{name}.first", (count,), "int32"))
