"""Convolutions on integers: im2col and one matrix product, never a library's convolution."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from twcodec.errors import UnsupportedError
from twcodec.exact.arithmetic import EXACT_LIMIT, FRACTION_BITS, SATURATION, leaky_relu, requantise
from twcodec.exact.products import Product, maker, product

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

WEIGHT_LIMIT = (1 << 15) - 1
"""|weight| of a layer: 15 bits and a sign."""


@dataclass(frozen=True)
class Geometry:
    """How a layer moves over its input. output_padding is used by transposed layers only."""

    kernel: int
    stride: int = 1
    padding: int = 0
    transposed: bool = False
    output_padding: int = 0


def quantise_weights(
    weight: NDArray[np.float64], bias: NDArray[np.float64]
) -> tuple[NDArray[np.int16], NDArray[np.int64], NDArray[np.int32]]:
    """Integer weights, biases and shifts of a layer, made once when a model file is made.

    weight: (O, ...) floats, output channel first; bias: (O,). Per output channel, s = 15 - e with max |w| = m 2^e,
    1/2 <= m < 1; then w = floor(w 2^s + 1/2), b = floor(b 2^(s + 10) + 1/2).
    """
    _, exponent = np.frexp(np.abs(weight).reshape(len(weight), -1).max(axis=1))
    shift = (15 - exponent).clip(0, 40)
    scaled = np.floor(weight * np.exp2(shift).reshape(-1, *[1] * (weight.ndim - 1)) + 0.5)
    integer_bias = np.floor(bias * np.exp2(shift + FRACTION_BITS) + 0.5)
    limited = scaled.clip(-WEIGHT_LIMIT, WEIGHT_LIMIT).astype(np.int16)
    return limited, integer_bias.astype(np.int64), shift.astype(np.int32)


def bound(weight: NDArray[np.int16], bias: NDArray[np.int64]) -> int:
    """The largest magnitude that any partial sum can have: max over channels of sum |w| 2^21 + |bias|."""
    sums = np.abs(weight.astype(np.int32)).reshape(len(weight), -1).sum(axis=1, dtype=np.int64)
    return max(int(s) * SATURATION + abs(int(b)) for s, b in zip(sums, bias, strict=True))


def _prove_exact(weight: NDArray[np.int16], bias: NDArray[np.int64], shift: NDArray[np.int32]) -> None:
    if bound(weight, bias) >= EXACT_LIMIT or shift.min() < 0 or shift.max() > 40:
        raise UnsupportedError("the model's entropy network could exceed 53 bits; it cannot be decoded exactly")


class _Requantised:
    """What layers do with their sums: add the bias, requantise, and apply a LeakyReLU, if they have one."""

    def __init__(
        self,
        weight: NDArray[np.int16],
        bias: NDArray[np.int64],
        shift: NDArray[np.int32],
        activation: bool,
        device: str | torch.device,
    ) -> None:
        """UnsupportedError: the layer could leave the range in which float64 holds every integer."""
        _prove_exact(weight, bias, shift)
        self.activation, self.outputs = activation, len(weight)
        self._bias = torch.from_numpy(bias.astype(np.float64)).to(device)
        self._scale = torch.from_numpy(np.exp2(-shift.astype(np.float64))).to(device)

    def _finished(self, sums: Tensor) -> Tensor:
        """Sums (..., O) in float64, overwritten, to activations in int32."""
        out = requantise(sums.add_(self._bias), self._scale)
        return leaky_relu(out) if self.activation else out


class Layer(_Requantised):
    """One integer convolution, requantised, with an optional LeakyReLU behind it.

    Inputs are gathered for each output position and multiplied by one matrix. A transposed convolution of stride s is
    s x s plain ones, each for the outputs of one phase.
    """

    def __init__(
        self,
        weight: NDArray[np.int16],
        bias: NDArray[np.int64],
        shift: NDArray[np.int32],
        geometry: Geometry,
        activation: bool,
        device: str | torch.device = "cpu",
    ) -> None:
        """weight: (O, I, k, k), output channel first for transposed layers too; bias, shift: (O,).

        UnsupportedError: the layer could leave the range in which float64 holds every integer.
        """
        super().__init__(weight, bias, shift, activation, device)
        self.geometry = geometry
        make = maker(weight.reshape(len(weight), -1), device)
        self._phases = [_Phase(weight, *found, make) for found in _phases(geometry)]

    def __call__(self, a: Tensor) -> Tensor:
        """a: (H, W, I) int32. Returns (H', W', O) int32."""
        rows, columns = self._size(a.shape[0]), self._size(a.shape[1])
        planes, transposed = self._phases[0].planes(a), self.geometry.transposed
        step, stride = (self.geometry.stride, 1) if transposed else (1, self.geometry.stride)
        out = a.new_empty(rows, columns, self.outputs)
        for phase in self._phases:
            part = out[phase.row :: step, phase.column :: step]
            for band, sums in phase(planes, part.shape[0], part.shape[1], stride):
                part[band] = self._finished(sums).view(-1, *part.shape[1:])
        return out

    def _size(self, n: int) -> int:
        g = self.geometry
        if g.transposed:
            return (n - 1) * g.stride - 2 * g.padding + g.kernel + g.output_padding
        return (n + 2 * g.padding - g.kernel) // g.stride + 1


class _Phase:
    """The part of a layer that makes the outputs at row, row + s, ..., and column, column + s, ..."""

    def __init__(
        self,
        weight: NDArray[np.int16],
        row: int,
        column: int,
        taps: list[tuple[int, int, int, int]],
        make: Callable[[NDArray[np.int16]], Product],
    ) -> None:
        """taps: row and column of the kernel, and how far from the output's place the input is that they meet."""
        self.row, self.column = row, column
        self._places = [(dy, dx) for _, _, dy, dx in taps]
        used = [weight[:, :, u, v] for u, v, _, _ in taps]  # each (O, I)
        self._product = make(np.stack(used, axis=1).reshape(len(weight), -1))

    def planes(self, a: Tensor) -> Tensor:
        """Inputs (H, W, I) as every phase of the layer takes them: (P, H, W, I)."""
        return self._product.planes(a)

    def __call__(self, planes: Tensor, rows: int, columns: int, stride: int) -> Iterator[tuple[slice, Tensor]]:
        """planes: (P, H, W, I). Yields bands of rows x columns outputs, and their sums (n, O) in order."""
        window = _Window(planes, self._places, rows, columns, stride)
        band = max(1, _BAND // columns)
        for row in range(0, rows, band):
            own = slice(row, min(row + band, rows))
            yield own, self._product(window.gathered(own.start, own.stop))


_BAND = 1 << 11
"""Outputs that are computed at a time: bounds the memory, which is that of the inputs times the kernel, and keeps it in
the processor's cache."""


class _Window:
    """What every output of a phase sees: planes (P, H, W, I), with 0 outside."""

    def __init__(self, planes: Tensor, places: list[tuple[int, int]], rows: int, columns: int, stride: int) -> None:
        """places: of the inputs, from the output's own. rows, columns: of outputs."""
        height, width = planes.shape[1:3]
        top, left = (max(0, -min(place[axis] for place in places)) for axis in (0, 1))
        last = [(n - 1) * stride + max(place[axis] for place in places) for axis, n in ((0, rows), (1, columns))]
        bottom, right = max(0, last[0] + 1 - height), max(0, last[1] + 1 - width)
        self._padded = functional.pad(planes, (0, 0, left, right, top, bottom))
        self._corners = [(top + dy, left + dx) for dy, dx in places]
        self._columns, self._stride = columns, stride

    def gathered(self, first: int, end: int) -> Tensor:
        """(P, n, places I): the inputs of the outputs in the rows first .. end - 1, row by row."""
        planes, step = self._padded, self._stride
        count, inputs = len(planes), planes.shape[-1]
        out = planes.new_empty(count, end - first, self._columns, len(self._corners), inputs)
        tall, wide = (end - first - 1) * step + 1, (self._columns - 1) * step + 1
        for i, (top, x) in enumerate(self._corners):
            y = top + first * step
            out[:, :, :, i] = planes[:, y : y + tall : step, x : x + wide : step]
        return out.view(count, (end - first) * self._columns, -1)


def _phases(g: Geometry) -> Iterator[tuple[int, int, list[tuple[int, int, int, int]]]]:
    """Row, column and taps of each phase."""
    if not g.transposed:
        kernel = range(g.kernel)
        yield 0, 0, [(u, v, u - g.padding, v - g.padding) for u in kernel for v in kernel]
        return
    for row, column in itertools.product(range(g.stride), repeat=2):
        yield row, column, [(u, v, dy, dx) for u, dy in _meeting(g, row) for v, dx in _meeting(g, column)]


def _meeting(g: Geometry, phase: int) -> list[tuple[int, int]]:
    """Along one axis: places in the kernel, and how far away the input is that meets the output there."""
    distance = {u: phase + g.padding - u for u in range(g.kernel)}
    return [(u, d // g.stride) for u, d in distance.items() if d % g.stride == 0]


class RowLayer(_Requantised):
    """One integer product on rows, requantised, with an optional LeakyReLU behind it: positions in rows, not columns.

    A 1x1 convolution, or one with a larger kernel of which the caller has gathered the inputs.
    """

    def __init__(
        self,
        weight: NDArray[np.int16],
        bias: NDArray[np.int64],
        shift: NDArray[np.int32],
        activation: bool,
        device: str | torch.device = "cpu",
    ) -> None:
        """weight: (O, ...), inputs in the order of the rows; bias, shift: (O,). UnsupportedError: as `Layer`."""
        super().__init__(weight, bias, shift, activation, device)
        self._product = product(weight.reshape(len(weight), -1), device)

    def __call__(self, a: Tensor) -> Tensor:
        """a: (n, I) int32. Returns (n, O) int32."""
        if len(a) <= _BAND:
            return self._finished(self._product(self._product.planes(a)))
        out = a.new_empty(len(a), self.outputs)
        for start in range(0, len(a), _BAND):
            part = a[start : start + _BAND]
            out[start : start + _BAND] = self._finished(self._product(self._product.planes(part)))
        return out


class DepthwiseLayer(_Requantised):
    """One integer convolution of each channel with a kernel of its own, stride 1, zero padding, requantised."""

    def __init__(
        self,
        weight: NDArray[np.int16],
        bias: NDArray[np.int64],
        shift: NDArray[np.int32],
        device: str | torch.device = "cpu",
    ) -> None:
        """weight: (C, 1, k, k), k odd; bias, shift: (C,). UnsupportedError: as `Layer`."""
        super().__init__(weight, bias, shift, False, device)
        self._kernel = torch.from_numpy(weight[:, 0].transpose(1, 2, 0).astype(np.float64)).to(device)  # (k, k, C)
        self.reach = weight.shape[-1] // 2

    def __call__(self, a: Tensor, rows: slice | None = None) -> Tensor:
        """a: (H, W, C) int32. rows: those to compute. Returns (rows, W, C) int32."""
        first, end = (0, len(a)) if rows is None else (rows.start, rows.stop)
        columns = min(a.shape[1], _DEPTHWISE_BAND)
        band = _DEPTHWISE_BAND // max(1, columns)
        out = a.new_empty(end - first, *a.shape[1:])
        for row in range(first, end, band):
            own = slice(row, min(row + band, end))
            for column in range(0, a.shape[1], columns):
                across = slice(column, min(column + columns, a.shape[1]))
                out[own.start - first : own.stop - first, across] = self._part(a, own, across)
        return out

    def _part(self, a: Tensor, rows: slice, columns: slice) -> Tensor:
        seen, missing = a, list[int]()
        for axis, own in enumerate((rows, columns)):
            low, high = own.start - self.reach, own.stop + self.reach
            missing[:0] = max(0, -low), max(0, high - a.shape[axis])
            seen = seen.narrow(axis, max(0, low), min(high, a.shape[axis]) - max(0, low))
        padded = functional.pad(seen.double(), (0, 0, *missing))
        height, width = rows.stop - rows.start, columns.stop - columns.start
        acc = torch.zeros((height, width, a.shape[2]), dtype=torch.float64, device=a.device)
        for u, of_row in enumerate(self._kernel):
            for v, weight in enumerate(of_row):
                acc.addcmul_(padded[u : u + height, v : v + width], weight)
        return self._finished(acc)


_DEPTHWISE_BAND = 1 << 8
"""Positions that a depthwise layer computes at a time, in float64: what they take stays in the processor's cache."""
