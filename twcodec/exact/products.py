"""Exact integer matrix products, (n, K) times (K, O), on whatever the device does fastest.

In float64 every sum below 2^53 is exact. Where the processor multiplies bytes natively (VNNI), an activation of 22 bits
is the sum of three signed bytes times 1, 2^8 and 2^16, and a weight of two: six products of bytes, summed exactly in 32
bits, take a quarter of the time. Both give the same integers; which one runs is nobody's business but the clock's.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch.nn import functional

from twcodec.exact.arithmetic import SATURATION

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


class Product(Protocol):
    """(n, K) integers of under 22 bits, in any float type, to (n, O) sums in float64."""

    def __call__(self, a: Tensor) -> Tensor: ...  # noqa: D102


def product(weight: NDArray[np.int16], device: str | torch.device) -> Product:
    """The fastest product on this device. weight: (O, K)."""
    if has_byte_products(torch.device(device)) and ByteProduct.covers(weight):
        return ByteProduct(weight)
    return FloatProduct(weight, device)


class FloatProduct:
    """In float64."""

    def __init__(self, weight: NDArray[np.int16], device: str | torch.device) -> None:
        self._matrix = torch.from_numpy(weight.astype(np.float64)).to(device)

    def __call__(self, a: Tensor) -> Tensor:
        """See `Product`."""
        return functional.linear(a.double(), self._matrix)


class ByteProduct:
    """In bytes, summed in 32 bits: exact up to K = 2^16, since |sum| <= K 2^14."""

    def __init__(self, weight: NDArray[np.int16]) -> None:
        """weight: (O, K), which `covers` must allow."""
        wide = weight.astype(np.int32)
        self._outputs = len(wide)
        sign = np.where(wide.max(axis=1) > _HIGHEST, -1, 1)[:, None]
        low = (wide * sign + 128 & 255) - 128
        high = wide * sign - low >> 8
        pair = np.concatenate([low, high]).astype(np.int8)  # (2 O, K)
        self._matrix = _packed(torch.from_numpy(pair).t())
        self._sign = torch.from_numpy(sign[:, 0].astype(np.float64))

    @staticmethod
    def covers(weight: NDArray[np.int16]) -> bool:
        """Whether two signed bytes hold every weight, or its negative, of each row."""
        wide, largest = weight.astype(np.int32), weight.shape[1] <= _MOST_INPUTS
        return largest and bool(((wide.max(axis=1) <= _HIGHEST) | (wide.min(axis=1) >= -_HIGHEST)).all())

    def __call__(self, a: Tensor) -> Tensor:
        """See `Product`."""
        n, inputs = a.shape
        shifted = a.int().add_(_MIDDLE).view(torch.int8).view(n, inputs, 4)  # its bytes less 128 are the signed ones
        signed = _packed(shifted[..., :3].permute(2, 0, 1)).bitwise_xor_(-128)
        sums = torch._int_mm(signed.view(3 * n, inputs), self._matrix).double().view(3, n, -1)
        both = torch.add(sums[0], torch.add(sums[1], sums[2], alpha=256), alpha=256)  # (n, 2 O)
        low, high = torch.split(both, self._outputs, 1)
        return torch.add(low, high, alpha=256).mul_(self._sign)


def _packed(a: Tensor) -> Tensor:
    """A copy without gaps. `contiguous` keeps odd strides of axes of size 1, which `_int_mm` takes at their word."""
    return a.clone(memory_format=torch.contiguous_format)


_MIDDLE = 0x808080
_HIGHEST = 127 * 256 + 127
_MOST_INPUTS = 1 << 16


def has_byte_products(device: torch.device) -> bool:
    """Whether this device multiplies bytes natively, and right."""
    if device.type != "cpu" or sys.byteorder != "little" or not hasattr(torch, "_int_mm"):
        return False
    return bool(getattr(torch.cpu, "_is_vnni_supported", bool)()) and _right()


_checked: list[bool] = []


def _right() -> bool:
    """Whether products of extreme bytes are exact; on processors without VNNI some libraries saturate at 16 bits."""
    if not _checked:
        k = 515
        weight = np.where(np.arange(3 * k).reshape(3, k) % 7 < 3, -32767, _HIGHEST).astype(np.int16)
        ends = [[1 - SATURATION], [SATURATION - 1], [-0x180000 - 0x8080], [0x177F7F]]
        a = (torch.tensor(ends).expand(4, k) + torch.tensor([[1], [-1], [1], [-1]]) * (torch.arange(k) % 2)).double()
        _checked.append(bool(torch.equal(ByteProduct(weight)(a), FloatProduct(weight, "cpu")(a))))
    return _checked[0]
