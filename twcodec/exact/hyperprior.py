"""The mean-scale hyperprior (Minnen et al. 2018, without context) on integers: from z to the coded bytes.

Symbols, means and table indices are integers and the same on every device. Latents that come in are floats: any y is
codable, so what makes it need not be exact.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from twcodec.errors import CorruptError, UnsupportedError
from twcodec.exact import coder
from twcodec.exact.arithmetic import ONE
from twcodec.exact.tables import SYMBOL_LIMIT, Tables
from twcodec.exact.tiles import tiled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from twcodec.exact.layers import Layer

Z_LIMIT = 1023
"""|symbol of z|: with `MEDIAN_LIMIT`, z_hat stays within the activations' range, so every layer's bound holds."""

MEDIAN_LIMIT = 1 << 20

STRIDE = 4
"""y positions to one z position, on each axis."""

_TILE, _REACH = 32, 2
"""h_s runs on tiles of z this large; an output depends on z positions no further away than `_REACH`."""


@dataclass(frozen=True)
class Symbols:
    """What is coded for one picture or branch.

    y: (M, h, w), z: (N, ceil(h / 4), ceil(w / 4)), both int32. levels: (M, h, w) uint8, the table of each y symbol.
    y_hat: (M, h, w) float32, the latent that the decoder will have.
    """

    y: Tensor
    z: Tensor
    levels: Tensor
    y_hat: Tensor


class MeanScaleHyperprior:
    """h_s, tables and the coder of one model, on one device."""

    def __init__(
        self,
        h_s: Sequence[Layer],
        y_tables: Tables,
        z_tables: Tables,
        thresholds: NDArray[np.int32],
        medians: NDArray[np.int32],
        device: torch.device,
    ) -> None:
        """h_s: z_hat (N, ...) -> scales and means (2 M, ...). thresholds: (levels - 1,) ascending. medians: (N,).

        UnsupportedError: the parts do not fit (they come from a model file).
        """
        if (np.diff(thresholds) <= 0).any() or len(thresholds) + 1 != len(y_tables) or len(y_tables) > 256:
            raise UnsupportedError("the model's scale thresholds do not fit its tables; the model file is damaged")
        if np.abs(medians.astype(np.int64)).max() >= MEDIAN_LIMIT:
            raise UnsupportedError("the model's medians are out of range; the model file is damaged")
        self._layers = h_s
        self._thresholds = torch.from_numpy(thresholds.astype(np.float32)).to(device)
        self._medians = torch.from_numpy(medians.astype(np.float64)).to(device)[:, None, None]
        self._y_coder, self._z_coder = coder.TableCoder(y_tables), coder.TableCoder(z_tables)
        self._y_cost, self._z_cost = Cost(y_tables, device), Cost(z_tables, device)
        self._z_floor = float(z_tables.cheapest.sum())

    @property
    def levels(self) -> int:
        """Scale levels, each with a table."""
        return len(self._thresholds) + 1

    def quantise(self, y: Tensor, z: Tensor) -> Symbols:
        """Symbols of the latents y: (M, h, w) and z: (N, h / 4, w / 4), floats."""
        centred = z.double() - self._medians / ONE
        z_symbols = centred.round_().clamp_(-Z_LIMIT, Z_LIMIT).nan_to_num_(0)
        levels, means = self._parameters(z_symbols, y.shape[-2], y.shape[-1])
        y_symbols = (y - means).round_().nan_to_num_(0).clamp_(-SYMBOL_LIMIT, SYMBOL_LIMIT)
        return Symbols(y_symbols.int(), z_symbols.int(), levels, y_symbols + means)

    def bits(self, symbols: Symbols) -> Tensor:
        """Length of the coded symbols in bits, escapes and the coder's own losses included. A scalar on the device."""
        channel = torch.arange(len(symbols.z), device=symbols.z.device)[:, None, None].expand_as(symbols.z)
        tables = self._y_cost(symbols.y, symbols.levels) + self._z_cost(symbols.z, channel)
        return tables + coder.SEAL_BITS + coder.LOSS_BITS * (symbols.y.numel() + symbols.z.numel())

    def encode(self, symbols: Symbols) -> bytes:
        """The coded symbols: z, then y."""
        encoder = coder.new_encoder()
        z = symbols.z.cpu().numpy()
        self._z_coder.encode(encoder, z.ravel(), _channels(z.shape))
        self._y_coder.encode(encoder, symbols.y.cpu().numpy().ravel(), symbols.levels.cpu().numpy().ravel())
        payload = coder.finish(encoder)
        self._check_possible(payload, tuple(z.shape))
        return payload

    def verify(self, payload: bytes, symbols: Symbols) -> bool:
        """Whether payload decodes to these symbols, with the table indices that are already known."""
        decoder = coder.new_decoder(payload)
        z = self._z_coder.decode(decoder, _channels(tuple(symbols.z.shape)))
        y = self._y_coder.decode(decoder, symbols.levels.cpu().numpy().ravel())
        same = np.array_equal(z, symbols.z.cpu().numpy().ravel()) and np.array_equal(y, symbols.y.cpu().numpy().ravel())
        coder.check_finished(decoder)
        return same

    def decode(self, payload: bytes, height: int, width: int) -> Symbols:
        """The symbols of a latent of height x width positions.

        CorruptError: payload is too short for what is claimed, which is checked before anything of that size is
        allocated, or it is damaged.
        """
        z_shape = (len(self._medians), -(-height // STRIDE), -(-width // STRIDE))
        self._check_possible(payload, z_shape)
        decoder = coder.new_decoder(payload)
        z = self._z_coder.decode(decoder, _channels(z_shape)).reshape(z_shape)
        if np.abs(z).max() > Z_LIMIT:
            raise CorruptError("a coded symbol is out of range")
        device = self._medians.device
        z_symbols = torch.from_numpy(z).to(device)
        levels, means = self._parameters(z_symbols.double(), height, width)
        y = self._y_coder.decode(decoder, levels.cpu().numpy().ravel())
        coder.check_finished(decoder)
        y_symbols = torch.from_numpy(y).to(device).view(levels.shape)
        return Symbols(y_symbols, z_symbols, levels, y_symbols.float() + means)

    def _check_possible(self, payload: bytes, z_shape: tuple[int, ...]) -> None:
        """CorruptError if not even the cheapest z symbols of such a picture fit in the payload."""
        if 8 * len(payload) + _STRIPPED_BITS < self._z_floor * z_shape[1] * z_shape[2]:
            raise CorruptError(f"{len(payload)} bytes of coded symbols cannot hold a picture of this size")

    def _parameters(self, z_symbols: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Table index (uint8) and mean (float32, a multiple of 1 / ONE) of every y: (M, height, width)."""
        z_hat = z_symbols * ONE + self._medians
        parameters = tiled(self._h_s, z_hat, _TILE, _REACH, up=STRIDE)[:, :height, :width]
        scales, means = parameters.chunk(2)
        levels = torch.bucketize(scales.contiguous(), self._thresholds, right=True, out_int32=True)
        return levels.to(torch.uint8), means.float().div_(ONE)

    def _h_s(self, z_hat: Tensor) -> Tensor:
        """(N, h, w) to scales and means as float32, in which activations are exact: (2 M, 4 h, 4 w)."""
        for layer in self._layers:
            z_hat = layer(z_hat)
        return z_hat.float()


_STRIPPED_BITS = 64
"""The coder drops zero bytes at the end, by chance more than these once in 2^64 files."""

_PART = 1 << 20
"""Symbols that are costed at a time: bounds the memory for temporary values."""


class Cost:
    """Bits of symbols under a set of tables, on a device."""

    def __init__(self, tables: Tables, device: torch.device) -> None:
        self._cost = torch.from_numpy(tables.cost.astype(np.float32)).to(device)
        self._first = torch.from_numpy(tables.first).to(device)
        self._escape = torch.from_numpy(tables.length - 1).to(device)
        self._start = torch.from_numpy(tables.start.astype(np.int32)).to(device)

    def __call__(self, symbols: Tensor, index: Tensor) -> Tensor:
        """Sum of the bits of `symbols`, each under the table that `index` names, both of one shape."""
        parts = zip(torch.split(symbols.reshape(-1), _PART), torch.split(index.reshape(-1), _PART), strict=True)
        return torch.stack([self._of_part(*part) for part in parts]).sum()

    def _of_part(self, symbols: Tensor, index: Tensor) -> Tensor:
        table = index.int()
        entry = symbols - self._first[table]
        escape = self._escape[table]
        outside = (entry < 0) | (entry >= escape)
        plain = self._cost[self._start[table] + torch.where(outside, escape, entry)]
        return plain.sum(dtype=torch.float64) + (_escape_bits(entry, escape) * outside).sum(dtype=torch.float64)


def _escape_bits(entry: Tensor, escape: Tensor) -> Tensor:
    """Bits of each Exp-Golomb code: class k costs k + 1 (the last one k), and k more for the low bits."""
    v = torch.where(entry < 0, -2 * entry - 1, 2 * (entry - escape)).clamp_min_(0)
    k = torch.frexp((v + 1).float())[1] - 1
    return 2 * k + 1 - (k == coder.ESCAPE_CLASSES - 1).int()


def symbols_crc(symbols: Symbols) -> int:
    """CRC-32 of all symbols, z then y, in (channel, row, column) order, as big-endian 16-bit integers."""
    crc = 0
    for part in (symbols.z, symbols.y):
        crc = zlib.crc32(part.cpu().numpy().astype(">i2").tobytes(), crc)
    return crc


def _channels(shape: tuple[int, ...]) -> NDArray[np.uint16]:
    """The table of each z symbol is its channel."""
    return np.repeat(np.arange(shape[0], dtype=np.uint16), shape[1] * shape[2])
