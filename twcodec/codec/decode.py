"""The decoder: symbols by exact arithmetic, then the synthesis transform and the inverse of the input transform."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from twcodec.codec import grid, memory
from twcodec.errors import CorruptError
from twcodec.exact.symbols import Symbols, symbols_crc
from twcodec.imaging import alpha, metadata
from twcodec.imaging.picture import Metadata, Picture
from twcodec.transforms import IDENTITY, Draw, by_id

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from twcodec.container import Container, Header
    from twcodec.models.model import Model


@torch.inference_mode()
def decode(
    model: Model, container: Container, dtype: torch.dtype = torch.float32, max_memory: int | None = None
) -> Picture:
    """The picture in a file. dtype: in which the synthesis computes. max_memory: see `memory.plan`.

    CorruptError, UnsupportedError: as the container's contents give cause. LimitError: more memory is needed than is
    allowed.
    """
    header, size = container.header, _size(container.header)
    tile = memory.for_decoding(model, size, dtype, max_memory)
    plane, carried = _carried(container)
    y_hat = decode_symbols(model, container).y_hat
    shape, levels = (size.channels, size.height, size.width), (1 << header.depth) - 1
    samples = grid.reconstruct(model, y_hat, header.quality, transform_of(header), shape, levels, dtype, tile)
    return Picture(grid.to_array(samples, header.depth), header.mode, header.depth, plane, carried)


def verify(model: Model, container: Container, max_memory: int | None = None) -> None:
    """Decode all that `decode` does, but for the pixels. Errors as there."""
    memory.check_symbols(model, _size(container.header), max_memory)
    _carried(container)
    decode_symbols(model, container)


@torch.no_grad()
def decode_symbols(model: Model, container: Container) -> Symbols:
    """The integer symbols of a file, checked against the header's CRC: the same on every device.

    CorruptError: damaged, or a decoder that does not agree with the encoder; never a wrong picture.
    """
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


def _size(header: Header) -> memory.Size:
    channels = 1 if header.mode in ("1", "L", "LA", "I;16") else 3
    return memory.Size(header.height, header.width, channels, 4 if header.depth == 16 else 1)


def _carried(container: Container) -> tuple[NDArray[np.uint8] | None, Metadata]:
    """The alpha plane, and what travels with the picture."""
    header = container.header
    plane = None if container.alpha is None else alpha.unpack_alpha(container.alpha, header.height, header.width)
    return plane, metadata.from_chunks(container.ancillary)


def transform_of(header: Header) -> Draw:
    """The member of the transform's set that the header names. UnsupportedError: a later version's transform."""
    if not header.transformed:
        return IDENTITY
    return by_id(header.transform).from_seed(header.seed, header.height, header.width)
