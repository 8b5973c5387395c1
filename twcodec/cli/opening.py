"""What decodes a TWC file, which may be a stranger's: what is known to be wrong without torch is found out first."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from twcodec.cli import options
from twcodec.codec.view import WHOLE, View
from twcodec.container.header import AVIF

if TYPE_CHECKING:
    from twcodec.codec.codec import Codec
    from twcodec.codec.settings import Precision
    from twcodec.container import Container
    from twcodec.imaging.picture import Picture


def codec_for(
    container: Container,
    model: str,
    device: str,
    precision: Precision = "auto",
    threads: int | None = None,
    max_memory: int | None = None,
    *,
    opened: Codec | None = None,
) -> Codec:
    """The codec that decodes a file's symbols. opened: one of these options, for another file, which is taken then.

    Errors as `beforehand.check`, `options.make_ready` and `open_codec`.
    """
    from twcodec.models import beforehand

    beforehand.check(container, model)
    options.make_ready()
    from twcodec.codec.codec import open_codec

    return opened or open_codec(
        model, device, precision, threads, digest=container.header.digest, max_memory=max_memory
    )


def decoder(
    container: Container,
    model: str,
    device: str,
    precision: Precision = "auto",
    threads: int | None = None,
    max_memory: int | None = None,
    view: View = WHOLE,
) -> Callable[[], Picture]:
    """What decodes a file's picture, ready to be called. The guard's needs neither torch nor a model.

    Errors as `codec_for`; of the call, as `Codec.decode_picture`.
    """
    if container.header.kind == AVIF:
        options.make_numpy_ready()
        from twcodec.codec import guard

        return partial(guard.decode, container, max_memory, view)
    codec = codec_for(container, model, device, precision, threads, max_memory)
    return partial(codec.decode_picture, container, view=view)
