"""The picture files that `twc decode` writes: what each can hold. One row a format; imports no Pillow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath

from twcodec.errors import UsageError


@dataclass(frozen=True)
class Format:
    """What a file format holds, as Pillow writes it."""

    extensions: tuple[str, ...]
    modes: frozenset[str]
    """Of `picture.MODES`, those that it stores without loss of meaning."""
    carries: frozenset[str] = frozenset()
    """Of icc, exif, xmp, text and comment."""
    options: Mapping[str, object] = field(default_factory=dict)
    loses: str = ""
    """One line about what the format itself does to the samples, where a user may not expect it."""


def _format(extensions: str, modes: str, carries: str = "", loses: str = "", **options: object) -> Format:
    return Format(tuple(extensions.split()), frozenset(modes.split()), frozenset(carries.split()), options, loses)


FORMATS: Mapping[str, Format] = {
    # Level 1 of zlib takes 0.04 s for a 768x512 photograph, level 6 0.12 s for a file of the same size.
    "PNG": _format(".png .apng", "1 L LA RGB RGBA I;16", "icc exif xmp text", compress_level=1),
    "JPEG": _format(".jpg .jpeg .jpe .jfif", "L RGB", "icc exif xmp comment", quality=95, subsampling="4:4:4"),
    # `exact` keeps the colours below full transparency.
    "WEBP": _format(".webp", "RGB RGBA", "icc exif xmp", lossless=True, exact=True),
    # Not compressed: Pillow compresses through libtiff, which refuses directories of EXIF.
    "TIFF": _format(".tif .tiff", "1 L LA RGB RGBA I;16", "icc exif xmp", compression="raw"),
    "AVIF": _format(".avif", "L RGB RGBA", "icc exif xmp", quality=95, subsampling="4:4:4"),
    "JPEG2000": _format(".jp2 .j2k .jpc .jpf .jpx .j2c", "L LA RGB RGBA I;16"),
    "BMP": _format(".bmp", "1 L RGB"),
    "PPM": _format(".ppm .pgm .pbm .pnm", "1 L RGB I;16"),
    "TGA": _format(".tga .icb .vda .vst", "1 L LA RGB RGBA"),
    "GIF": _format(".gif", "1 L RGB RGBA", "comment", "GIF holds 256 colours, and no partial transparency"),
}
"""By Pillow's name. Documents (PDF, EPS) and icons, which change the size, are no place for a picture to come back."""

DEFAULT_FORMAT = "PNG"


def format_for(name: str) -> str | None:
    """The format that the extension of a file name asks for, or None for one that is not written, .twc included."""
    extension = PurePath(name).suffix.lower()
    return next((format for format, row in FORMATS.items() if extension in row.extensions), None)


def named(name: str) -> str:
    """Pillow's name of a format that was typed: "jpg" is "JPEG", as any extension is. UsageError: there is none."""
    found = name.upper() if name.upper() in FORMATS else format_for(f"x.{name}")
    if found is None:
        raise UsageError(f"unknown format {name!r}; there are: {', '.join(FORMATS)}")
    return found
