"""How much memory a picture takes, before any is taken, and the tiles with which it fits.

Arrays are counted in bytes for each position of y, which stands for 16 x 16 pixels, stage by stage; the stage that
holds most of them counts. docs/decisions.md has what was measured beside it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from twcodec.codec import refine, resources
from twcodec.codec.allocator import give_back_freed_memory
from twcodec.errors import LimitError
from twcodec.exact.wavefront import MOST_POSITIONS, PART, TAPS
from twcodec.models.footprint import TILE

if TYPE_CHECKING:
    from twcodec.codec.grid import Window
    from twcodec.codec.settings import Settings
    from twcodec.models.footprint import Footprint
    from twcodec.models.model import Model

TILES = (TILE, 48, 32, 16)
"""Latents a side, the largest first: smaller ones compute more of their neighbours."""

LARGE = 1 << 24
"""Pixels from which what is not needed any more makes room: y_hat of the default model takes 5 bytes for each."""

_FIRST_CALL = 20_000_000
"""Bytes that torch, oneDNN and copies of weights take when networks first run."""

_THREAD = 2_000_000
"""Bytes of a thread: its stack, its part of malloc, and oneDNN's scratch. Measured: 1.9 MB of 16, 0.9 MB of 512."""

_H_S, _H_S_TILE = 12, 136**2
"""Bytes for each number that h_s gives while it runs on a tile, and the positions of y that such a tile sees."""

_PRODUCT, _BAND = 14_000, 1 << 11
"""Bytes a row of an integer product: its inputs in bytes, its sums in 32 bits and in float64; and the rows at once."""

_NEAR = 12
"""Bytes for each number that a serial context sees of a position's neighbours: gathered, and as they are multiplied."""

_PIECE, _PIECES = 32, 1 << 20
"""Bytes a number where costs and differences are summed, and how many numbers are summed at once."""

_CODED, _DECODED, _ESCAPED = 8, 5, 3
"""Bytes a symbol while an encoder, or a decoder, puts symbols in the order of coding; and an escape beside."""

BADLY_USED = 1.15
"""What malloc has from the system for each byte that it gives out, measured: freed pieces are not always of use."""

_HOLES = 2 * (64 << 20)
"""Bytes of freed pieces that nothing happens to fit in, by which runs of the same differ: measured up to two of the
largest that malloc keeps (`allocator.py`); for small pictures up to two fifths of what they take."""

_REFINED, _REFINED_BY_MODULES = 4, 9
"""How much more than a network on a tile refining takes, which keeps every layer's numbers for the way back.
Measured for 48 x 48 latents: 440 MiB of `default`, 400 of `default-1`, 950 of mbt2018-mean by CompressAI's modules."""

_SSIM = {1: 36, 3: 26}
"""Pictures in float32 that MS-SSIM holds at once, by channels: a dozen, and two that oneDNN pads to 16 channels."""

_WRITTEN = 10
"""Bytes a pixel when a picture was decoded: Pillow's image, a copy of it, and the file. Not WebP's and AVIF's encoders,
which take 30 and 45."""


@dataclass(frozen=True)
class Size:
    """Of a picture: height, width, channels; bytes of a sample as a tensor holds it: 1, or 4 for 16 bits.

    beside: bytes that are decoded with it, an alpha plane. coded: bytes of its coded symbols.
    """

    height: int
    width: int
    channels: int
    sample: int = 1
    beside: int = 0
    coded: int = 0

    @property
    def pixels(self) -> int:
        """Height times width."""
        return self.height * self.width


@dataclass(frozen=True)
class Held:
    """Bytes for all of a picture at the stages that take most: while networks run on a tile, and at others."""

    with_tile: int
    without: int


def for_encoding(model: Model, size: Size, settings: Settings, scoring: torch.dtype, budget: int | None) -> int:
    """The tile with which encoding fits. scoring: as `Job` has it. budget: `plan`'s. LimitError: none does."""
    measured = settings.measure and scoring != torch.float32 and size.pixels <= LARGE
    itemsize = scoring.itemsize + (torch.float32.itemsize if measured else 0)
    grid = _grid(model, size)
    return plan(model, grid, _encoding(model.family.footprint, grid, size, settings), itemsize, budget)


def for_decoding(model: Model, size: Size, dtype: torch.dtype, budget: int | None, window: Window | None = None) -> int:
    """As `for_encoding`. dtype: in which the synthesis computes. window: what is synthesised, None for all."""
    grid, of = _grid(model, size), model.family.footprint
    shown = replace(size, height=_length(window[0]), width=_length(window[1])) if window else size
    picture, copied = _picture(shown), 4 * of.m if of.in_place else 0
    positions, y_hat = grid[0] * grid[1], 4 * of.m
    near = [min(n, m + 2 * model.family.reach) for n, m in zip(grid, _grid(model, shown), strict=True)]
    synthesised = near[0] * near[1]
    held = Held(
        with_tile=size.beside + positions * y_hat + synthesised * copied + picture,
        without=max(
            _symbols_alone(of, grid, size),
            size.beside + positions * y_hat + 2 * picture,
            size.beside + picture + _WRITTEN * shown.pixels,
        ),
    )
    return plan(model, (near[0], near[1]), held, dtype.itemsize, budget)


def _length(span: slice) -> int:
    return int(span.stop - span.start)


def check_symbols(model: Model, size: Size, budget: int | None) -> None:
    """LimitError unless the symbols of a picture can be decoded, without its pixels."""
    grid = _grid(model, size)
    plan(model, grid, Held(0, _symbols_alone(model.family.footprint, grid, size)), 0, budget)


def plan(model: Model, grid: tuple[int, int], held: Held, itemsize: int, budget: int | None) -> int:
    """The largest tile that fits in the budget beside what is held of the picture.

    grid: height and width of y. itemsize: bytes of the numbers in which networks compute on tiles; 0: none does.
    budget: bytes for all of the process, what it has now included; None is `resources.budget`'s. LimitError: not even
    the smallest tile fits. On a GPU there is nothing to choose.
    """
    if model.device.type != "cpu":
        return TILE
    allowed = resources.budget(budget)
    if estimate(model, grid, held, itemsize, TILE) > allowed:
        give_back_freed_memory()  # what earlier pictures left is counted as this process's, used or not
    needed = [estimate(model, grid, held, itemsize, tile) for tile in TILES]
    for tile, total in zip(TILES, needed, strict=True):
        if total <= allowed:
            return tile
    whose = "--max-memory" if budget is not None else "80 % of what is free, and what is taken already"
    raise LimitError(
        f"this picture needs about {resources.at_least(min(needed))}, {resources.at_most(allowed)} are allowed "
        f"({whose}); "
        "allow more, or give a smaller picture"
    )


def estimate(model: Model, grid: tuple[int, int], held: Held, itemsize: int, tile: int) -> int:
    """Bytes of the process at its peak. As in `plan`."""
    working = model.family.footprint.tile(tile, *grid, itemsize) if itemsize else 0
    most = max(held.with_tile + working, held.without)
    once = resources.resident() + _FIRST_CALL + _THREAD * torch.get_num_threads()
    return once + int(BADLY_USED * most) + min(_HOLES, most * 2 // 5)


def _grid(model: Model, size: Size) -> tuple[int, int]:
    """Height and width of y, with the rows and columns that a shift adds."""
    return -(-size.height // model.family.stride) + 1, -(-size.width // model.family.stride) + 1


def _encoding(of: Footprint, grid: tuple[int, int], size: Size, settings: Settings) -> Held:
    """The stages of the last branch, as `branch.run` has them."""
    positions, picture, large = grid[0] * grid[1], _picture(size), size.pixels > LARGE
    ways = 1 if settings.transform == "never" else settings.ways
    samples = picture if size.sample > 1 else 0  # bytes stay where they are
    turned = picture if ways > 1 or settings.transform == "always" else 0
    y, y_hat, symbols = 4 * of.m + of.n, 4 * of.m, _symbols(of)
    copied = 4 * of.m if of.in_place else 0
    several = of.serial and ways > 1 and not large
    side_by_side, estimated = several and settings.score == "exact", several and settings.score == "fast"
    together = min(ways, max(1, MOST_POSITIONS // positions)) if side_by_side else 1
    latents = ways * y if several else y
    kept = (ways - 1 + estimated) * (symbols + (0 if large else y_hat))  # of the branches before
    if settings.effort:  # the plain branch beside the refined one
        kept += symbols + (0 if large else y_hat)
        latents += 4 * of.m
    if settings.target:  # y at the quality of the search beside y at others
        latents += 4 * of.m
    quantise = latents + kept + symbols + y_hat + together * _context(of)
    synthesise = kept + symbols + y_hat + (latents if estimated or settings.effort or settings.target else 0)
    code = kept + symbols + (0 if large else y_hat) + _coded_at_once(of, _CODED)
    ssim = _SSIM[size.channels] * 4 * size.channels * size.pixels if settings.metric == "ms-ssim" else 0
    compared = min(_PIECES, max(size.pixels * size.channels, positions * of.m)) * _PIECE
    return Held(
        with_tile=samples + max(positions * (latents + kept) + turned, positions * (synthesise + copied) + picture),
        without=samples
        + max(
            positions * quantise + _entropy(of, positions),
            positions * synthesise + picture + max(turned, ssim, compared),
            positions * code + compared,
            positions * (latents + kept) + turned + _refining(of, grid) if settings.effort else 0,
        ),
    )


def _refining(of: Footprint, grid: tuple[int, int]) -> int:
    """Bytes for refining one tile."""
    rows, columns = (min(size, refine.TILE + 2 * refine.MARGIN) for size in grid)
    return (_REFINED if of.in_place else _REFINED_BY_MODULES) * of.working(rows * columns, torch.float32.itemsize)[1]


def _symbols_alone(of: Footprint, grid: tuple[int, int], size: Size) -> int:
    """Bytes for all symbols, which are decoded in pieces of the order of coding, and for what is decoded before.

    The stream is there as it came, in words, and in the decoder. An alpha plane's PNG is inflated twice.
    """
    positions = grid[0] * grid[1]
    escapes = min(positions * _coded_at_once(of, _ESCAPED), 8 * size.coded * _ESCAPED)  # of a bit each
    a_position = _symbols(of) + 4 * of.m + _context(of) + _coded_at_once(of, _DECODED)
    return size.beside + max(
        4 * size.beside, _entropy(of, positions) + positions * a_position + escapes + 3 * size.coded
    )


def _entropy(of: Footprint, positions: int) -> int:
    """Bytes for what networks on integers compute at a time: h_s on a tile, and then others on a band of rows."""
    features = of.features or 2 * of.m
    tile, rows = min(_H_S_TILE, positions), min(_BAND, positions)
    band = rows * 8 * (features + 2 * of.m) if of.features else 0
    if of.serial:
        band += min(PART, positions) * _NEAR * len(TAPS) * of.m
    return rows * _PRODUCT + max(_H_S * features * tile, band)


def _picture(size: Size) -> int:
    return size.pixels * size.channels * size.sample


def _symbols(of: Footprint) -> int:
    """Symbols, int16, and levels, a byte; those of z, int32. With a factorised prior all are z's."""
    return 3 * of.m + of.n // 4 if of.hyper else 4 * of.m


def _context(of: Footprint) -> int:
    """What leads to levels and means, where all of it is held: int32.

    A serial context has features twice while they are put together, what is known of y, and where each position and
    its twelve neighbours are, in 8 bytes each. A factorised prior has float64 in between.
    """
    if not of.hyper:
        return 24 * of.m
    return 8 * of.features + 4 * of.m + 160 if of.serial else 4 * of.features


def _coded_at_once(of: Footprint, size: int) -> int:
    """What the coder has of a step, `size` bytes a symbol: all of y, half of it, or with a serial context little."""
    return 0 if of.serial else size * of.m // (2 if of.features else 1)
