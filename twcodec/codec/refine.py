"""Refining latents: a few steps on y itself lower the rate and the distortion of this very picture.

The analysis network is good on average (the amortisation gap of Yang, Bamler and Mandt 2020); the model stays as it is
and so do format and decoder. Symbols are whole, so a step is no gradient's small move: a symbol goes up or down by one
where that pays. What it pays is its own cost, from the tables, and what it does to all else, by gradient and curvature.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from twcodec.codec.grid import Input
from twcodec.errors import UnsupportedError, UsageError
from twcodec.exact.tiles import spans

if TYPE_CHECKING:
    from torch import Tensor

    from twcodec.codec.branch import Job
    from twcodec.models.differentiable import Differentiable
    from twcodec.models.model import Model
    from twcodec.transforms import Draw

STEPS = (0, 1, 2, 3, 5, 10, 15, 20, 40, 80)
"""Steps by effort."""

TILE, MARGIN = 32, 8
"""Latents a side that are refined at a time, and that are seen on every side of them: as far as h_s reaches, and nearly
as far as synthesis does. Both are multiples of the 4 latents to one of z, and of the 2 of the checkerboard."""

_LEAST_GAIN = 0.3
"""Bits that a move must promise: the promise is a guess, and many are taken at once."""

_FIRST_SHARE, _MOST, _MORE, _LESS = 0.3, 0.9, 1.3, 0.5
"""Of the moves that promise something a share is made, as they disturb each other: more after a step that gained."""

_PROBE, _FLATTEST = 0.5, 0.3
"""Size of the noise that finds the curvature: a rounding error's; and the least that counts, of the median's."""

_SEED = 0
"""An encoding comes out the same each time."""


def check(model: Model) -> None:
    """UsageError: latents of this model cannot be refined."""
    of = model.family.footprint
    wrong = "its context is serial" if of.serial else "it has a factorised prior" if not of.hyper else ""
    if not wrong:
        try:
            _ = model.differentiable
        except UnsupportedError:
            wrong = "it has gains for every quality"
    if wrong:
        raise UsageError(
            f"--effort needs a model whose context is parallel, like the default, not {model.name}: {wrong}"
        )


def refined(job: Job, draw: Draw, y: Tensor, z: Tensor) -> Tensor:
    """A y with a lower loss, or nearly so: the tables' costs and tiles are approximate. z stays.

    y: (M, h, w). z: (N, h / 4, w / 4). draw: the branch's transform, in whose domain the distortion is measured.
    """
    with torch.inference_mode(False), torch.enable_grad():
        y, noise = y.clone(), torch.Generator().manual_seed(_SEED)
        for tile, seen in _tiles(job, draw, y, z.clone()):
            y[seen] = _descended(tile, y[seen][None], STEPS[job.settings.effort], noise)[0]
        return y


@dataclass(frozen=True)
class _State:
    """y: (1, M, h, w), what is made of it, its loss in bits, and the slope of that but for each symbol's own cost."""

    y: Tensor
    y_hat: Tensor
    symbols: Tensor
    index: Tensor
    loss: float
    slope: Tensor


@dataclass(frozen=True)
class _Tile:
    """A part of a picture. z: (1, N, h', w'). x: (C, H, W), the pixels that count, `pixels` of what is synthesised.

    free: (h, w), which latents may change. weight: bits that a squared error of 1 is worth.
    """

    model: Differentiable
    quality: float
    z: Tensor
    x: Tensor
    pixels: tuple[slice, slice]
    free: Tensor
    weight: float

    def state(self, y: Tensor, last: bool = False) -> _State:
        """Rate, distortion and, unless this is the last, their slope."""
        with torch.set_grad_enabled(not last):
            y = y.detach().requires_grad_(not last)
            rated = self.model.rate(y, self.z)
            loss = rated.bits.sum() + self._distortion(rated.y_hat, clip=True)
            total = torch.zeros_like(y) if last else torch.autograd.grad(loss, y)[0]
        assert rated.index is not None  # `check` has seen to it
        y, y_hat, symbols = y.detach(), rated.y_hat.detach(), rated.symbols.detach()
        slope = total - self.model.slope(symbols, rated.index)
        return _State(y, y_hat, symbols, rated.index, float(loss.detach()), slope)

    def curvature(self, y_hat: Tensor, noise: torch.Generator) -> Tensor:
        """(M, 1, 1): of the distortion, a channel's mean, by one probe of Hutchinson's (1989)."""
        probe = (torch.rand(y_hat.shape, generator=noise) < 0.5).to(y_hat) * 2 - 1
        change = self._slope_of_distortion(y_hat + _PROBE * probe) - self._slope_of_distortion(y_hat)
        found = (probe * change).mean((0, 2, 3)) / _PROBE
        return found.clamp(min=float(found.median()) * _FLATTEST)[:, None, None]

    def moved(self, state: _State, curvature: Tensor, share: float, noise: torch.Generator) -> Tensor:
        """y after a share of the moves that promise a gain."""
        symbols, index = state.symbols, state.index
        now, best, move = self.model.cost(symbols, index), torch.full_like(symbols, -_LEAST_GAIN), 0 * symbols
        for delta in (-1.0, 1.0):
            own = self.model.cost(symbols + delta, index) - now
            change = delta * state.slope + curvature / 2 + own
            move = torch.where(change < best, delta, move)
            best = torch.minimum(best, change)
        drawn = torch.rand(symbols.shape, generator=noise).to(symbols.device) < share
        return torch.where((move != 0) & drawn & self.free, state.y_hat + move, state.y)

    def _slope_of_distortion(self, y_hat: Tensor) -> Tensor:
        y_hat = y_hat.detach().requires_grad_()
        return torch.autograd.grad(self._distortion(y_hat, clip=False), y_hat)[0]

    def _distortion(self, y_hat: Tensor, clip: bool) -> Tensor:
        """In bits. clip: as the decoder does, where it leaves no slope."""
        x_hat = self.model.synthesise(y_hat, self.quality)[0][:, self.pixels[0], self.pixels[1]]
        if len(self.x) == 1:
            x_hat = x_hat.mean(0, keepdim=True)
        return self.weight * ((x_hat.clamp(0, 1) if clip else x_hat) - self.x).square().sum()


def _descended(tile: _Tile, y: Tensor, steps: int, noise: torch.Generator) -> Tensor:
    """The best y that is found in so many steps. A step that gains nothing is taken back."""
    best, share = tile.state(y), _FIRST_SHARE
    curvature = tile.curvature(best.y_hat, noise)
    for left in range(steps - 1, -1, -1):
        state = tile.state(tile.moved(best, curvature, share, noise), last=left == 0)
        gained = state.loss < best.loss
        best, share = (state, min(_MOST, share * _MORE)) if gained else (best, share * _LESS)
    return best.y


def _tiles(job: Job, draw: Draw, y: Tensor, z: Tensor) -> Iterator[tuple[_Tile, tuple[slice, slice, slice]]]:
    """The tiles of a picture, and the part of y that each sees."""
    model, channels = job.model, len(job.samples)
    stride, ratio = model.family.stride, model.family.entropy.stride
    x = Input(job.samples, job.levels, draw, stride)
    first, last = draw.size(0, 0), draw.size(job.samples.shape[1], job.samples.shape[2])  # what is not cropped
    weight = model.lambda_(job.quality) * 255**2 / channels
    for rows, seen_rows in spans(y.shape[1], TILE, MARGIN):
        for columns, seen_columns in spans(y.shape[2], TILE, MARGIN):
            seen = (slice(None), seen_rows, seen_columns)
            counted_rows = slice(max(first[0], seen_rows.start * stride), min(last[0], seen_rows.stop * stride))
            counted_columns = slice(
                max(first[1], seen_columns.start * stride), min(last[1], seen_columns.stop * stride)
            )
            free = torch.zeros_like(y[0][seen[1:]], dtype=torch.bool)
            free[_within(rows, seen_rows.start), _within(columns, seen_columns.start)] = True
            yield (
                _Tile(
                    model=model.differentiable,
                    quality=job.quality,
                    z=z[None, :, _down(seen_rows, ratio), _down(seen_columns, ratio)],
                    x=x[:, counted_rows, counted_columns][:channels],
                    pixels=(
                        _within(counted_rows, seen_rows.start * stride),
                        _within(counted_columns, seen_columns.start * stride),
                    ),
                    free=free,
                    weight=weight,
                ),
                seen,
            )


def _within(span: slice, start: int) -> slice:
    return slice(span.start - start, span.stop - start)


def _down(span: slice, ratio: int) -> slice:
    return slice(span.start // ratio, -(-span.stop // ratio))
