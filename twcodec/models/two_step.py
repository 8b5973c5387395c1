"""The entropy part of families with context in two steps: model file -> the exact path."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twcodec.errors import UnsupportedError
from twcodec.exact.layers import DepthwiseLayer, Geometry, Layer
from twcodec.exact.two_step import TwoStepHyperprior
from twcodec.models.mean_scale import tables_from

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from twcodec.models.file import ModelFile

UP = Geometry(5, 2, 2, transposed=True, output_padding=1)
POINT = Geometry(1)
_CONTEXT = 3
MOST_RATE_WEIGHT = 2.0


def from_file(file: ModelFile, n: int, m: int, device: torch.device) -> TwoStepHyperprior:
    """The exact entropy path of a model file. n, m: channels of z and y. UnsupportedError: the file does not fit."""
    features, first, second = (_width(file, name) for name in ("h_s.1", "first.0", "second.0"))

    def layer(name: str, outputs: int, inputs: int, geometry: Geometry, activation: bool) -> Layer:
        return Layer(*_integers(file, name, (outputs, inputs, geometry.kernel)), geometry, activation, device)

    limits = file.tensor("thresholds", (None,), "int32")
    return TwoStepHyperprior(
        [layer("h_s.0", n, n, UP, True), layer("h_s.1", features, n, UP, True)],
        [layer("first.0", first, features, POINT, True), layer("first.1", 2 * m, first, POINT, False)],
        DepthwiseLayer(*_integers(file, "context", (2 * m, 1, _CONTEXT)), device),
        [layer("second.0", second, features + 2 * m, POINT, True), layer("second.1", 2 * m, second, POINT, False)],
        tables_from(file, "y", len(limits) + 1),
        tables_from(file, "z", n),
        limits,
        file.tensor("medians", (n,), "int32"),
        _rate_weight(file),
        device,
    )


def _width(file: ModelFile, name: str) -> int:
    """Output channels of a layer, at least one."""
    found = len(file.tensor(f"{name}.shift", (None,), "int32"))
    if not found:
        raise UnsupportedError(f"the model file's {name} has no channels")
    return found


def _integers(
    file: ModelFile, name: str, shape: tuple[int, int, int]
) -> tuple[NDArray[np.int16], NDArray[np.int64], NDArray[np.int32]]:
    outputs, inputs, kernel = shape
    weight = file.tensor(f"{name}.weight", (outputs, inputs, kernel, kernel), "int16")
    bias = file.tensor(f"{name}.bias", (outputs,), "int64")
    return weight, bias, file.tensor(f"{name}.shift", (outputs,), "int32")


def _rate_weight(file: ModelFile) -> float:
    """What the encoder's rounding gives for a bit (`exact.rounding`); 0 where the file does not say."""
    found = file.metadata.get("rate_weight", 0)
    if type(found) not in (int, float) or not 0 <= found <= MOST_RATE_WEIGHT:
        raise UnsupportedError(f"the model file's rate weight is not a number from 0 to {MOST_RATE_WEIGHT:g}")
    return float(found)
