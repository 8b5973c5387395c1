"""Exact integer matrix products, (n, K) times (K, O), on whatever the device does fastest.

In float64 every sum below 2^53 is exact. Where the processor multiplies bytes natively (VNNI), an activation of 22 bits
is the sum of three signed bytes times 1, 2^8 and 2^16, and a weight of two: six products of bytes, summed exactly in 32
bits, take a fraction of the time. Both give the same integers; which one runs is nobody's business but the clock's.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch.nn import functional

from twcodec.exact.arithmetic import SATURATION

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


class Product(Protocol):
    """A matrix of weights that multiplies activations, which are first split into the planes that it works on."""

    def planes(self, a: Tensor) -> Tensor:
        """(...) int32 of under 22 bits to (P, ...), which may be gathered and padded with 0."""

    def __call__(self, planes: Tensor) -> Tensor:
        """(P, n, K) to (n, O), sums in float64."""


def product(weight: NDArray[np.int16], device: str | torch.device) -> Product:
    """The fastest product on this device. weight: (O, K)."""
    return maker(weight, device)(weight)


def maker(weight: NDArray[np.int16], device: str | torch.device) -> Callable[[NDArray[np.int16]], Product]:
    """What makes the fastest product of weight: (O, K), or of some of its columns: all then work on the same planes."""
    if has_byte_products(torch.device(device)) and ByteProduct.covers(weight):
        return ByteProduct
    return partial(FloatProduct, device=device)


class FloatProduct:
    """In float64, in one plane."""

    def __init__(self, weight: NDArray[np.int16], device: str | torch.device) -> None:
        """weight: (O, K)."""
        self._matrix = torch.from_numpy(weight.astype(np.float64)).to(device)

    def planes(self, a: Tensor) -> Tensor:
        """See `Product`."""
        return a.double()[None]

    def __call__(self, planes: Tensor) -> Tensor:
        """See `Product`."""
        return functional.linear(planes[0], self._matrix)


class ByteProduct:
    """In bytes, summed in 32 bits: exact up to K = 2^16, since |sum| <= K 2^14."""

    def __init__(self, weight: NDArray[np.int16]) -> None:
        """weight: (O, K), which `covers` must allow."""
        self._outputs = len(weight)
        sign = np.where(weight.max(axis=1) > _HIGHEST, -1, 1).astype(np.int16)
        signed = weight if (sign > 0).all() else weight * sign[:, None]
        low = signed.astype(np.int8)  # the bytes wrap around, as they must
        high = (signed - low >> 8).astype(np.int8)
        self._matrix = _packed(torch.from_numpy(np.concatenate([low, high])).t())  # (K, 2 O)
        largest = int(np.abs(weight.astype(np.int32)).sum(axis=1, dtype=np.int64).max())
        self._narrow = largest + 128 * weight.shape[1] < _NARROW
        self._sign = None if signed is weight else torch.from_numpy(sign.astype(np.float64))

    @staticmethod
    def covers(weight: NDArray[np.int16]) -> bool:
        """Whether two signed bytes hold every weight, or its negative, of each row."""
        highest, lowest = weight.max(axis=1), weight.min(axis=1)
        return weight.shape[1] <= _MOST_INPUTS and bool(((highest <= _HIGHEST) | (lowest >= -_HIGHEST)).all())

    def planes(self, a: Tensor) -> Tensor:
        """See `Product`. Three planes, or two where they hold all of a."""
        low, high = torch.aminmax(a) if a.numel() else (a.new_zeros(()), a.new_zeros(()))
        count = 2 if int(low) >= -_HIGHEST and int(high) <= _HIGHEST else 3
        digits = a.new_empty((count, *a.shape), dtype=torch.int8)  # not on the caller's default device
        # the bytes of the sum, less 128, are signed digits; what is narrowed to a byte wraps around, as it must
        shifted = a.add(_MIDDLE[count])
        for i in range(count):
            digits[i] = shifted if i == 0 else shifted.bitwise_right_shift_(8)
        return digits.bitwise_xor_(-128)

    def __call__(self, planes: Tensor) -> Tensor:
        """See `Product`."""
        n, rows = planes.shape[1], max(1, _PART // self._outputs)
        if n <= rows:
            return self._sums(planes)
        out = planes.new_empty((n, self._outputs), dtype=torch.float64)
        for start in range(0, n, rows):
            out[start : start + rows] = self._sums(planes[:, start : start + rows])
        return out

    def _sums(self, planes: Tensor) -> Tensor:
        count, n, inputs = planes.shape
        sums = torch._int_mm(planes.reshape(count * n, inputs).contiguous(), self._matrix)
        low, high = torch.split(sums if self._narrow else sums.double(), self._outputs, 1)
        by_plane = torch.add(low, high, alpha=256).double().view(count, n, self._outputs)
        total = by_plane[-1]
        for i in reversed(range(count - 1)):
            total = torch.add(by_plane[i], total, alpha=256)
        return total if self._sign is None else total.mul_(self._sign)


def _packed(a: Tensor) -> Tensor:
    """A copy without gaps. `contiguous` keeps odd strides of axes of size 1, which `_int_mm` takes at their word."""
    return a.clone(memory_format=torch.contiguous_format)


_MIDDLE = {2: 0x8080, 3: 0x808080}
_HIGHEST = 127 * 256 + 127
_MOST_INPUTS = 1 << 16
_NARROW = 1 << 24
"""Below this sum of |weights| and 128 for each, sums of products with a signed byte, and 2^8 times those of the high
bytes alone, are less than 2^31."""

_PART = 1 << 18
"""Sums that are computed at a time, from 24 bytes and more each: bounds the memory, and keeps it in the cache."""


def has_byte_products(device: torch.device) -> bool:
    """Whether this device multiplies bytes natively, and right."""
    if device.type != "cpu" or sys.byteorder != "little" or not hasattr(torch, "_int_mm"):
        return False
    onednn: Any = torch.backends.mkldnn  # without it the same function is a plain loop
    if not (onednn.is_available() and onednn.enabled):
        return False
    return bool(getattr(torch.cpu, "_is_vnni_supported", bool)()) and _right()


_checked: list[bool] = []


def _right() -> bool:
    """Whether products of extreme bytes are exact; on processors without VNNI some libraries saturate at 16 bits."""
    if not _checked:
        k = 515
        weight = np.where(np.arange(3 * k).reshape(3, k) % 7 < 3, -32767, _HIGHEST).astype(np.int16)
        ends = np.array([[1 - SATURATION], [SATURATION - 1], [-0x180000 - 0x8080], [0x177F7F]])
        inwards = np.array([[1], [-1], [1], [-1]]) * (np.arange(k) % 2)
        a = torch.from_numpy((ends + inwards).astype(np.int32))  # torch's own would go to the caller's default device
        found = []
        for kind in (ByteProduct(weight), FloatProduct(weight, "cpu")):
            found.append(torch.cat([kind(kind.planes(part)) for part in (a, a.clamp(-_HIGHEST, _HIGHEST))]))
        _checked.append(bool(torch.equal(*found)))
    return _checked[0]
