"""A codec for a TWC file, which may be a stranger's: what can be known to be wrong without torch is found out first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twcodec.cli import options

if TYPE_CHECKING:
    from twcodec.codec.codec import Codec
    from twcodec.codec.settings import Precision
    from twcodec.container import Container


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
