"""Hyperpriors on integers: from z to the coded bytes, with and without means and context.

Symbols, means and table indices are integers and the same on every device. Latents that come in are floats: any y is
codable, so what makes it need not be exact.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from twcodec.errors import CorruptError, UnsupportedError
from twcodec.exact import coder, possible
from twcodec.exact.arithmetic import ONE, SATURATION
from twcodec.exact.cost import Cost
from twcodec.exact.rounding import Rounding
from twcodec.exact.symbols import Decoded, Rounded, Symbols
from twcodec.exact.tiles import spans
from twcodec.exact.walk import Lane, Order, Part, Walked

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from twcodec.exact.tables import Tables

Z_LIMIT = 1023
"""|symbol of z|: with `MEDIAN_LIMIT`, z_hat stays within the activations' range, so every layer's bound holds."""

MEDIAN_LIMIT = 1 << 20

STRIDE = 4
"""y positions to one z position, on each axis."""

TILE = 32
"""h_s runs on tiles of z this large."""

REACH = 2
"""How far from an output lie the positions of z that it depends on, with h_s of two 5x5 and a 3x3 layer."""


class Hyperprior(ABC):
    """Tables, costs and the coder of one model, on one device; how y's parameters come about is left open.

    levels: scale levels, each with a table.
    """

    stride = STRIDE
    z_limit = Z_LIMIT
    side_by_side = False
    """Whether `quantise_all` and `decode_all` cost less than one picture after the other."""

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
        self._z_cheapest = z_tables.cheapest
        self._z_floor = float(self._z_cheapest.sum())
        self._round = Rounding(y_tables, rate_weight, device)

    @abstractmethod
    def _walk(self, lane: Lane) -> Walked:
        """Every y, step by step in the order of coding. Encoder and decoder share this function."""

    def _walk_all(self, lanes: Sequence[Lane]) -> list[Walked]:
        """Several pictures; where it pays, side by side."""
        return [self._walk(lane) for lane in lanes]

    def _parts(self, _shape: tuple[int, ...]) -> Iterable[Order]:
        """What each coding step holds of y: (M, h, w)."""
        return (Part(),)

    def quantise(self, y: Tensor, z: Tensor, quality: float = 1.0) -> Symbols:
        """Symbols of the latents y: (M, h, w) and z: (N, h / 4, w / 4), floats."""
        return self.quantise_all([(y, z)], quality)[0]

    def quantise_all(self, latents: Sequence[tuple[Tensor, Tensor]], quality: float = 1.0) -> list[Symbols]:
        """As `quantise`, of several pictures or branches."""
        found = [self._z_symbols(z, quality) for _, z in latents]
        lanes = [self._lane(y, z, quality) for (y, _), z in zip(latents, found, strict=True)]
        return [self._symbols(z, quality, w) for z, w in zip(found, self._walk_all(lanes), strict=True)]

    def _lane(self, y: Tensor, z_symbols: Tensor, quality: float) -> Lane:
        """An encoder's way through y."""
        return Lane(self._z_hat(z_symbols, quality), y.shape[1], y.shape[2], Rounded(y, self._round), quality)

    def estimate(self, y: Tensor, z: Tensor, quality: float = 1.0) -> Symbols:
        """What ranks a branch quickly: symbols that may differ from those that are coded. Here they do not."""
        return self.quantise(y, z, quality)

    def bits(self, symbols: Symbols) -> Tensor:
        """Length of the coded symbols in bits, escapes and the coder's own losses included. A scalar on the device."""
        channel = torch.arange(len(symbols.z), device=symbols.z.device)[:, None, None].expand_as(symbols.z)
        tables = self._y_cost(*(_in_memory(t) for t in (symbols.y, symbols.levels)))
        tables = tables + self._z_cost(symbols.z.reshape(-1), channel.reshape(-1) + symbols.z_first)
        return tables + coder.SEAL_BITS + coder.LOSS_BITS * (symbols.y.numel() + symbols.z.numel())

    def encode(self, symbols: Symbols) -> bytes:
        """The coded symbols: z, then y."""
        encoder = coder.new_encoder()
        z = symbols.z.cpu().numpy()
        self._z_coder.encode(encoder, z.ravel(), _channels(z.shape, symbols.z_first))
        y, levels = _as_walked(symbols.y), _as_walked(symbols.levels)
        for part in self._parts(tuple(symbols.y.shape)):
            self._y_coder.encode(encoder, part.take(y), part.take(levels))
        payload = coder.finish(encoder)
        self._check_possible(payload, tuple(z.shape))
        return payload

    def verify(self, payload: bytes, symbols: Symbols) -> bool:
        """Whether payload decodes to these symbols, with the table indices that are already known."""
        decoder = coder.new_decoder(payload)
        z = symbols.z.cpu().numpy()
        same = np.array_equal(self._z_coder.decode(decoder, _channels(z.shape, symbols.z_first)), z.ravel())
        y, levels = _as_walked(symbols.y), _as_walked(symbols.levels)
        for part in self._parts(tuple(symbols.y.shape)):
            same = same and np.array_equal(self._y_coder.decode(decoder, part.take(levels)), part.take(y))
        if same:
            coder.check_finished(decoder)
        return same

    def decode(self, payload: bytes, height: int, width: int, quality: float = 1.0) -> Symbols:
        """The symbols of a latent of height x width positions.

        CorruptError: payload is too short for what is claimed, which is checked before anything of that size is
        allocated, or it is damaged.
        """
        return self.decode_all([(payload, height, width)], quality)[0]

    def decode_all(self, files: Sequence[tuple[bytes, int, int]], quality: float = 1.0) -> list[Symbols]:
        """As `decode`, of several payloads with their heights and widths."""
        found, decoders, lanes = [], [], []
        for payload, height, width in files:
            shape = (len(self._medians), -(-height // self.stride), -(-width // self.stride))
            self._check_possible(payload, shape)
            decoders.append(coder.new_decoder(payload))
            found.append(self._decode_z(decoders[-1], shape, quality))
            z_hat = self._z_hat(found[-1], quality)
            lanes.append(Lane(z_hat, height, width, Decoded(self._y_coder, decoders[-1]), quality))
        walks = self._walk_all(lanes)
        for decoder in decoders:
            coder.check_finished(decoder)
        return [self._symbols(z, quality, walked) for z, walked in zip(found, walks, strict=True)]

    def _decode_z(self, decoder: Any, shape: tuple[int, ...], quality: float) -> Tensor:
        z = self._z_coder.decode(decoder, _channels(shape, self._z_first(quality))).reshape(shape)
        if np.abs(z).max() > self.z_limit:
            raise CorruptError("a coded symbol is out of range")
        return torch.from_numpy(z.astype(np.int32)).to(self._medians.device)

    def _symbols(self, z: Tensor, quality: float, walked: Walked) -> Symbols:
        y_hat = self._dequantised(walked, quality)
        planes = [part.permute(2, 0, 1) for part in (walked.y, walked.levels, y_hat)]
        return Symbols(planes[0], z, planes[1], planes[2], self._z_first(quality))

    def _dequantised(self, walked: Walked, _quality: float) -> Tensor:
        """y_hat, (h, w, M), in the memory of the means."""
        return walked.y_hat()

    def _z_first(self, _quality: float) -> int:
        """The table of z's first channel."""
        return 0

    def _z_step(self, _quality: float) -> int:
        """The distance of neighbouring symbols of z, in units of 1 / ONE."""
        return ONE

    def _z_symbols(self, z: Tensor, quality: float) -> Tensor:
        """Symbols of z: (N, h', w'), int32."""
        centred = (z.double() - self._medians / ONE) * (ONE / self._z_step(quality))
        return centred.round_().clamp_(-self.z_limit, self.z_limit).nan_to_num_(0).int()

    def _z_hat(self, z_symbols: Tensor, quality: float) -> Tensor:
        """z as the decoder has it: (h', w', N) int32, in units of 1 / ONE."""
        z_hat = z_symbols.double() * self._z_step(quality) + self._medians
        return self._within(z_hat).int().permute(1, 2, 0).contiguous()

    def _within(self, z_hat: Tensor) -> Tensor:
        """z_hat in the range of activations, where symbols and medians alone do not see to it."""
        return z_hat

    def _check_possible(self, payload: bytes, z_shape: tuple[int, ...]) -> None:
        """CorruptError if not even the cheapest z symbols of such a picture fit in the payload."""
        possible.check(len(payload), self._z_floor, z_shape[1] * z_shape[2])

    def _levels_of(self, scales: Tensor) -> Tensor:
        """Table index (uint8) of each scale, int32."""
        entry = scales.sub(self._lowest).clamp_(0, len(self._level_of) - 1)
        return self._level_of.index_select(0, entry.reshape(-1)).view(scales.shape)

    def _levels_and_means(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Levels and means (float32, multiples of 1 / ONE) from scales and means, (..., 2 M) int32."""
        scales, means = parameters.chunk(2, -1)
        return self._levels_of(scales), means.float().div_(ONE)


class ScaleHyperprior(Hyperprior):
    """All of y in one step, around 0 (Ballé et al. 2018)."""

    means = False

    def __init__(self, h_s: Sequence[Network], *shared: Any, reach: int = REACH) -> None:
        """h_s: z_hat (..., N) -> scales (..., M). shared: as `Hyperprior`. reach: of h_s, in positions of z."""
        super().__init__(*shared)
        self._h_s, self._reach = h_s, reach

    def _walk(self, lane: Lane) -> Walked:
        walked: Walked | None = None
        for rows, columns, parameters in upsampled(self._h_s, lane, self._reach):
            channels = parameters.shape[-1] // (2 if self.means else 1)
            walked = walked or Walked(lane.height, lane.width, channels, parameters.device)
            scales = parameters[..., :channels]
            walked.levels[rows, columns] = self._levels_of(self._scaled(scales, lane.quality))
            if self.means:
                walked.means[rows, columns] = parameters[..., channels:].float().div_(ONE)
        assert walked is not None  # a picture has at least one tile
        self._filled(walked, lane)
        return walked

    def _scaled(self, scales: Tensor, _quality: float) -> Tensor:
        """Scales, int32, as they count at a quality."""
        return scales

    def _filled(self, walked: Walked, lane: Lane) -> None:
        """Find the symbols, levels and means given."""
        lane.source.fill(walked, Part())


class MeanScaleHyperprior(ScaleHyperprior):
    """All of y in one step (Minnen et al. 2018, without context): h_s gives scales and means (..., 2 M)."""

    means = True


Network = Callable[[torch.Tensor], torch.Tensor]
"""A layer, or what lies between two: (h, w, C) int32 to the same."""


def upsampled(h_s: Sequence[Network], lane: Lane, reach: int) -> Iterator[tuple[slice, slice, Tensor]]:
    """h_s on a picture's z_hat, tile by tile: rows and columns of y's grid, and what h_s gives there, (h, w, C)."""
    height, width = lane.z_hat.shape[:2]
    for rows, seen_rows in spans(height, TILE, reach):
        for columns, seen_columns in spans(width, TILE, reach):
            out = lane.z_hat[seen_rows, seen_columns]
            for layer in h_s:
                out = layer(out)
            where, inner = zip(
                _on_y(rows, seen_rows.start, lane.height), _on_y(columns, seen_columns.start, lane.width), strict=True
            )
            yield where[0], where[1], out[inner]


def _on_y(span: slice, seen_from: int, size: int) -> tuple[slice, slice]:
    """Where a tile's positions of z lie on y's grid of `size`, and in what h_s gives for the tile."""
    start, stop = STRIDE * span.start, min(STRIDE * span.stop, size)
    return slice(start, stop), slice(start - STRIDE * seen_from, stop - STRIDE * seen_from)


def features_of(h_s: Sequence[Network], lane: Lane, reach: int) -> Tensor:
    """h_s on all of a picture's z_hat: (h, w, F) int32."""
    whole: Tensor | None = None
    for rows, columns, out in upsampled(h_s, lane, reach):
        if whole is None:
            whole = out.new_empty(lane.height, lane.width, out.shape[-1])
        whole[rows, columns] = out
    assert whole is not None  # a picture has at least one tile
    return whole


def _levels_by_scale(thresholds: NDArray[np.int32]) -> tuple[int, NDArray[np.uint8]]:
    """A lowest scale, and the number of thresholds <= scale for it and all that follow, up to where it grows no more.

    A look-up takes a fifth of the time of a search among the thresholds.
    """
    reached = thresholds.clip(-SATURATION, SATURATION)  # no scale lies beyond
    lowest, highest = (int(reached[0]) - 1, int(reached[-1])) if len(reached) else (0, 0)
    return lowest, np.searchsorted(thresholds, np.arange(lowest, highest + 1), side="right").astype(np.uint8)


def _in_memory(t: Tensor) -> Tensor:
    """(M, h, w) flat, in the order in which it lies in memory."""
    return t.permute(1, 2, 0).reshape(-1)


def _as_walked(t: Tensor) -> NDArray[Any]:
    """(M, h, w) to (h, w, M)."""
    return t.permute(1, 2, 0).cpu().numpy()


def _channels(shape: tuple[int, ...], first: int) -> NDArray[np.uint16]:
    """The table of each z symbol follows its channel."""
    return np.repeat(np.arange(first, first + shape[0], dtype=np.uint16), shape[1] * shape[2])
