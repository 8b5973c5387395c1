"""twc: a learned image codec that decodes bit-exactly everywhere and defends itself by two-way compression.

    import twcodec
    codec = twcodec.open_codec()
    data = codec.encode("photo.png", quality=4)
    image = codec.decode(data)

`twcodec.encode` and `twcodec.decode` are the one-shot forms, `twcodec.info` reads a file's header without torch.
Importing this module imports nothing heavy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

    from twcodec.codec.codec import Codec
    from twcodec.codec.info import Info

__version__ = "0.1.0"
__all__ = ["__version__", "decode", "encode", "info", "open_codec"]


def open_codec(
    model: str = "default",
    device: str = "auto",
    precision: Any = "auto",
    threads: int | None = None,
    *,
    quality: float | None = None,
    max_memory: int | None = None,
) -> Codec:
    """A codec with a model loaded, for many pictures; threads may share it. See `twcodec.codec.codec.open_codec`."""
    from twcodec.codec import resources

    resources.check_room_to_load()
    from twcodec.codec import codec

    return codec.open_codec(model, device, precision, threads, quality=quality, max_memory=max_memory)


def encode(
    image: Any, quality: float | None = None, *, model: str = "default", device: str = "auto", **options: Any
) -> bytes:
    """Compress one picture (a PIL image, a path, bytes or a stream) to the bytes of a TWC file. See `Codec.encode`."""
    return open_codec(model, device, quality=quality).encode(image, quality, **options)


def decode(data: bytes, *, model: str = "default", device: str = "auto", **options: Any) -> Image:
    """The picture in the bytes of one TWC file, as a PIL image. See `Codec.decode`."""
    return open_codec(model, device).decode(data, **options)


def info(data: bytes) -> Info:
    """The header of a TWC file, from its bytes, without torch. See `twcodec.codec.info.Info`."""
    from twcodec.codec.info import info as read_info

    return read_info(data)
