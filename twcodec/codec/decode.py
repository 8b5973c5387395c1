"""The decoder: symbols by exact arithmetic, then the synthesis transform and the inverse of the input transform."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from twcodec.codec import grid, memory
from twcodec.codec.beside import carried
from twcodec.codec.view import WHOLE, View, deep
from twcodec.container.header import COLOURS
from twcodec.errors import CorruptError
from twcodec.exact.symbols import Symbols, symbols_crc
from twcodec.imaging.picture import Picture
from twcodec.transforms import IDENTITY, Draw, by_id

if TYPE_CHECKING:
    from twcodec.container import Container, Header
    from twcodec.models.model import Model


@torch.inference_mode()
def decode(
    model: Model,
    container: Container,
    dtype: torch.dtype = torch.float32,
    max_memory: int | None = None,
    view: View = WHOLE,
) -> Picture:
    """The picture in a file, or what is wanted of it. max_memory: see `memory.plan`. dtype: of the synthesis.

    All symbols are decoded, but only what the view's crop depends on is synthesised: the pixels are those of the whole
    picture. CorruptError, UnsupportedError: as the container's contents give cause. LimitError: more memory is needed
    than is allowed. UsageError: see `View`.
    """
    header = container.header
    depth = view.depth_of(header.depth)
    size, window = _size(container, depth), view.window(header.height, header.width)
    tile = memory.for_decoding(model, size, dtype, max_memory, window)
    plane, metadata = carried(container)
    y_hat = _symbols(model, container).y_hat
    shape, levels = (size.channels, size.height, size.width), (1 << depth) - 1
    how = shape, levels, dtype, tile, window
    samples = grid.to_array(grid.reconstruct(model, y_hat, header.quality, transform_of(header), *how), depth)
    if plane is not None and window is not None:
        plane = plane[window].copy()
    picture = Picture(samples, header.mode, depth, plane, metadata)
    return view.scaled(picture if depth == header.depth else deep(picture, samples))


def verify(model: Model, container: Container, max_memory: int | None = None) -> None:
    """Decode all that `decode` does, but for the pixels. Errors as there."""
    memory.check_symbols(model, _size(container), max_memory)
    carried(container)
    _symbols(model, container)


def decode_symbols(model: Model, container: Container, max_memory: int | None = None) -> Symbols:
    """The integer symbols of a file, checked against the header's CRC: the same on every device.

    CorruptError: damaged, or a decoder that does not agree with the encoder; never a wrong picture. LimitError: as
    `decode`.
    """
    memory.check_symbols(model, _size(container), max_memory)
    return _symbols(model, container)


@torch.no_grad()
def _symbols(model: Model, container: Container) -> Symbols:
    """As `decode_symbols`, where the memory was checked."""
    header = container.header
    if model.digest != header.digest:
        raise CorruptError(f"the file needs the model {header.digest.hex()}, it was given {model.digest.hex()}")
    low, high = model.qualities
    if not low <= header.quality <= high:
        raise CorruptError(f"the header claims quality {header.quality:g}; its model has {low:g} to {high:g}")
    size = grid.latent_size(transform_of(header), header.height, header.width, model.family.stride)
    symbols = model.family.entropy.decode(container.data, *size, header.quality)
    if symbols_crc(symbols) != header.symbols_crc:
        raise CorruptError("the checksum of the decoded symbols does not match; the file is damaged")
    return symbols


def _size(container: Container, depth: int | None = None) -> memory.Size:
    header = container.header
    depth = depth or header.depth
    beside = 0 if container.alpha is None else header.height * header.width
    shape = header.height, header.width, COLOURS[header.mode]
    return memory.Size(*shape, 4 if depth == 16 else 1, beside, len(container.data))


def transform_of(header: Header) -> Draw:
    """The member of the transform's set that the header names. UnsupportedError: a later version's transform."""
    if not header.transformed:
        return IDENTITY
    return by_id(header.transform).from_seed(header.seed, header.height, header.width)
