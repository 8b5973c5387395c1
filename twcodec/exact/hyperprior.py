"""Hyperpriors on integers: from z to the coded bytes, with and without context.

Symbols, means and table indices are integers and the same on every device. Latents that come in are floats: any y is
codable, so what makes it need not be exact.
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from twcodec.errors import CorruptError, UnsupportedError
from twcodec.exact import coder
from twcodec.exact.arithmetic import ONE, SATURATION
from twcodec.exact.cost import Cost
from twcodec.exact.rounding import Rounding
from twcodec.exact.tiles import tiled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from twcodec.exact.layers import Layer
    from twcodec.exact.tables import Tables

Z_LIMIT = 1023
"""|symbol of z|: with `MEDIAN_LIMIT`, z_hat stays within the activations' range, so every layer's bound holds."""

MEDIAN_LIMIT = 1 << 20

STRIDE = 4
"""y positions to one z position, on each axis."""

TILE, REACH = 32, 2
"""h_s runs on tiles of z this large; an output depends on z positions no further away than `REACH`."""


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


Resolve = Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]
"""(levels, means, part) -> symbols of one coding step: an encoder rounds, a decoder decodes.

levels (uint8), means (multiples of 1 / ONE): of every y, (M, h, w). part: bool, which of them are meant; None: all.
Returns symbols as float32; what they are elsewhere does not matter.
"""


class Hyperprior(ABC):
    """Tables, costs and the coder of one model, on one device; how y's parameters come about is left open.

    levels: scale levels, each with a table.
    """

    def __init__(
        self,
        y_tables: Tables,
        z_tables: Tables,
        thresholds: NDArray[np.int32],
        medians: NDArray[np.int32],
        rate_weight: float,
        device: torch.device,
    ) -> None:
        """thresholds: (levels - 1,) ascending. medians: (N,). rate_weight: of an encoder's rounding, see `Rounding`.

        UnsupportedError: the parts do not fit (they come from a model file).
        """
        ascending = bool((np.diff(thresholds.astype(np.int64)) > 0).all())  # int32 differences could wrap around
        if not ascending or len(thresholds) + 1 != len(y_tables) or len(y_tables) > 256:
            raise UnsupportedError("the model's scale thresholds do not fit its tables; the model file is damaged")
        if np.abs(medians.astype(np.int64)).max() >= MEDIAN_LIMIT:
            raise UnsupportedError("the model's medians are out of range; the model file is damaged")
        self.levels = len(thresholds) + 1
        self._lowest, by_scale = _levels_by_scale(thresholds)
        self._level_of = torch.from_numpy(by_scale).to(device)
        self._medians = torch.from_numpy(medians.astype(np.float64)).to(device)[:, None, None]
        self._y_coder, self._z_coder = coder.TableCoder(y_tables), coder.TableCoder(z_tables)
        self._y_cost, self._z_cost = Cost(y_tables, device), Cost(z_tables, device)
        self._z_floor = float(z_tables.cheapest.sum())
        self._round = Rounding(y_tables, rate_weight, device)

    @abstractmethod
    def _walk(self, z_hat: Tensor, height: int, width: int, resolve: Resolve) -> tuple[Tensor, Tensor, Tensor]:
        """Levels, symbols (float32) and y_hat (float32) of every y, step by step in the order of coding.

        Encoder and decoder share this function. z_hat: integers in float64.
        """

    @abstractmethod
    def _parts(self, shape: tuple[int, ...]) -> tuple[NDArray[np.bool_], ...]:
        """The positions of y: (M, h, w) that each coding step holds."""

    def quantise(self, y: Tensor, z: Tensor) -> Symbols:
        """Symbols of the latents y: (M, h, w) and z: (N, h / 4, w / 4), floats."""
        centred = z.double() - self._medians / ONE
        z_symbols = centred.round_().clamp_(-Z_LIMIT, Z_LIMIT).nan_to_num_(0)

        def resolve(levels: Tensor, means: Tensor, _part: Tensor | None) -> Tensor:
            return self._round(y - means, levels)

        levels, y_symbols, y_hat = self._walk(self._z_hat(z_symbols), y.shape[-2], y.shape[-1], resolve)
        return Symbols(y_symbols.int(), z_symbols.int(), levels, y_hat)

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
        y, levels = symbols.y.cpu().numpy(), symbols.levels.cpu().numpy()
        for part in self._parts(y.shape):
            self._y_coder.encode(encoder, y[part], levels[part])
        payload = coder.finish(encoder)
        self._check_possible(payload, tuple(z.shape))
        return payload

    def verify(self, payload: bytes, symbols: Symbols) -> bool:
        """Whether payload decodes to these symbols, with the table indices that are already known."""
        decoder = coder.new_decoder(payload)
        z = symbols.z.cpu().numpy()
        same = np.array_equal(self._z_coder.decode(decoder, _channels(z.shape)), z.ravel())
        y, levels = symbols.y.cpu().numpy(), symbols.levels.cpu().numpy()
        for part in self._parts(y.shape):
            same = same and np.array_equal(self._y_coder.decode(decoder, levels[part]), y[part])
        if same:
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

        def resolve(levels: Tensor, _means: Tensor, part: Tensor | None) -> Tensor:
            where = torch.ones_like(levels, dtype=torch.bool) if part is None else part
            found = torch.zeros(levels.shape, device=levels.device)
            decoded = self._y_coder.decode(decoder, levels[where].cpu().numpy())
            found[where] = torch.from_numpy(decoded).to(levels.device, torch.float32)
            return found

        z_symbols = torch.from_numpy(z).to(self._medians.device)
        levels, y_symbols, y_hat = self._walk(self._z_hat(z_symbols.double()), height, width, resolve)
        coder.check_finished(decoder)
        return Symbols(y_symbols.int(), z_symbols, levels, y_hat)

    def _z_hat(self, z_symbols: Tensor) -> Tensor:
        return z_symbols * ONE + self._medians

    def _check_possible(self, payload: bytes, z_shape: tuple[int, ...]) -> None:
        """CorruptError if not even the cheapest z symbols of such a picture fit in the payload."""
        if 8 * len(payload) + _STRIPPED_BITS < self._z_floor * z_shape[1] * z_shape[2]:
            raise CorruptError(f"{len(payload)} bytes of coded symbols cannot hold a picture of this size")

    def _levels_and_means(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Table index (uint8) and mean (float32, a multiple of 1 / ONE) of every y, from (2 M, h, w) integers."""
        scales, means = parameters.chunk(2)
        index = scales.sub(self._lowest).clamp_(0, len(self._level_of) - 1).int()
        return self._level_of[index], means.div(ONE)


class MeanScaleHyperprior(Hyperprior):
    """All of y in one step (Minnen et al. 2018, without context)."""

    def __init__(self, h_s: Sequence[Layer], *shared: Any) -> None:
        """h_s: z_hat (N, ...) -> scales and means (2 M, ...). shared: as `Hyperprior`."""
        super().__init__(*shared)
        self._h_s = h_s

    def _walk(self, z_hat: Tensor, height: int, width: int, resolve: Resolve) -> tuple[Tensor, Tensor, Tensor]:
        parameters = tiled(chain(self._h_s), z_hat, TILE, REACH, up=STRIDE)[:, :height, :width]
        levels, means = self._levels_and_means(parameters)
        y = resolve(levels, means, None)
        return levels, y, y + means

    def _parts(self, shape: tuple[int, ...]) -> tuple[NDArray[np.bool_], ...]:
        return (np.ones(shape, bool),)


def _levels_by_scale(thresholds: NDArray[np.int32]) -> tuple[int, NDArray[np.uint8]]:
    """A lowest scale, and the number of thresholds <= scale for it and all that follow, up to where it grows no more.

    A look-up takes a fifth of the time of a search among the thresholds.
    """
    reached = thresholds.clip(-SATURATION, SATURATION)  # no scale lies beyond
    lowest, highest = (int(reached[0]) - 1, int(reached[-1])) if len(reached) else (0, 0)
    return lowest, np.searchsorted(thresholds, np.arange(lowest, highest + 1), side="right").astype(np.uint8)


def chain(layers: Sequence[Layer]) -> Callable[[Tensor], Tensor]:
    """Layers one behind the other, from integers in any float type to float32, in which activations are exact."""

    def run(a: Tensor) -> Tensor:
        a = a.double()
        for layer in layers:
            a = layer(a)
        return a.float()

    return run


_STRIPPED_BITS = 64
"""The coder drops zero bytes at the end, by chance more than these once in 2^64 files."""


def symbols_crc(symbols: Symbols) -> int:
    """CRC-32 of all symbols, z then y, in (channel, row, column) order, as big-endian 16-bit integers."""
    crc = 0
    for part in (symbols.z, symbols.y):
        crc = zlib.crc32(part.cpu().numpy().astype(">i2").tobytes(), crc)
    return crc


def _channels(shape: tuple[int, ...]) -> NDArray[np.uint16]:
    """The table of each z symbol is its channel."""
    return np.repeat(np.arange(shape[0], dtype=np.uint16), shape[1] * shape[2])
