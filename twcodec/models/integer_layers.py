"""Integer layers in model files: checked on the way in, quantised on the way out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from twcodec.errors import UnsupportedError
from twcodec.exact.layers import DepthwiseLayer, Geometry, Layer, RowLayer, quantise_weights

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from twcodec.models.file import ModelFile

UP = Geometry(5, 2, 2, transposed=True, output_padding=1)
SAME = Geometry(3, 1, 1)
POINT = Geometry(1)

Integers = tuple["NDArray[np.int16]", "NDArray[np.int64]", "NDArray[np.int32]"]
"""weight, bias and shift of a layer."""


class IntegerLayers:
    """The integer layers of a model file, on a device. All of its methods raise UnsupportedError where they do not fit.

    Names of layers are prefixes: "h_s.0" has the tensors h_s.0.weight, h_s.0.bias and h_s.0.shift.
    """

    def __init__(self, file: ModelFile, device: torch.device) -> None:
        self._file, self._device = file, device

    def width(self, name: str) -> int:
        """Output channels of a layer, at least one."""
        found = len(self._file.tensor(f"{name}.shift", (None,), "int32"))
        if not found:
            raise UnsupportedError(f"the model file's {name} has no channels")
        return found

    def convolution(self, name: str, outputs: int, inputs: int, geometry: Geometry, leaky: bool) -> Layer:
        """A convolution from `inputs` to `outputs` channels, with or without a LeakyReLU behind it."""
        shape = (outputs, inputs, geometry.kernel, geometry.kernel)
        return Layer(*self._integers(name, shape), geometry, leaky, self._device)

    def depthwise(self, name: str, channels: int, kernel: int) -> DepthwiseLayer:
        """A convolution of each channel on its own."""
        return DepthwiseLayer(*self._integers(name, (channels, 1, kernel, kernel)), self._device)

    def rows(
        self, name: str, shape: tuple[int, ...], leaky: bool, outputs: NDArray[np.int64] | slice = slice(None)
    ) -> RowLayer:
        """A product on rows. shape: of the weights, outputs first. outputs: those that are wanted."""
        weight, bias, shift = self._integers(name, shape)
        return RowLayer(weight[outputs], bias[outputs], shift[outputs], leaky, self._device)

    def _integers(self, name: str, shape: tuple[int, ...]) -> Integers:
        weight = self._file.tensor(f"{name}.weight", shape, "int16")
        bias = self._file.tensor(f"{name}.bias", shape[:1], "int64")
        return weight, bias, self._file.tensor(f"{name}.shift", shape[:1], "int32")


def quantised(name: str, weight: NDArray[Any], bias: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """The tensors of a layer. weight: (O, ...), output channel first, and bias: (O,), floats."""
    wide = np.ascontiguousarray(weight).astype(np.float64), bias.astype(np.float64)
    parts = zip(("weight", "bias", "shift"), quantise_weights(*wide), strict=True)
    return {f"{name}.{part}": np.asarray(value) for part, value in parts}
