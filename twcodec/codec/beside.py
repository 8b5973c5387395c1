"""What a file holds beside the samples, whatever kind of payload they are in. Needs no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twcodec.imaging import alpha, metadata

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from twcodec.container import Container
    from twcodec.imaging.picture import Metadata


def carried(container: Container) -> tuple[NDArray[np.uint8] | None, Metadata]:
    """The alpha plane, and what travels with the picture. CorruptError: damaged."""
    header = container.header
    plane = None if container.alpha is None else alpha.unpack_alpha(container.alpha, header.height, header.width)
    return plane, metadata.from_chunks(container.ancillary)
