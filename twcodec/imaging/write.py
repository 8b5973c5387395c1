"""Pillow image -> the bytes of a picture file, with as much of its metadata as the format carries."""

from __future__ import annotations

import io
from typing import Any, BinaryIO

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from twcodec.errors import OutputError, UsageError
from twcodec.imaging.carried import carried, tiff_tags
from twcodec.imaging.fit import fit
from twcodec.imaging.formats import DEFAULT_FORMAT, FORMATS
from twcodec.imaging.modes import to_coded_mode
from twcodec.imaging.picture import Metadata

_XMP_TAG = 700


def write_image(
    image: Image.Image, fo: BinaryIO, format: str = DEFAULT_FORMAT, metadata: Metadata | None = None
) -> tuple[str, ...]:
    """Write `image` to `fo`, which need not seek, and give a line for each thing that the format could not hold.

    format: a key of `formats.FORMATS`. Where it has no EXIF, the pixels are turned upright. `image` stays as it is,
    and nothing is written before the whole file is made. metadata: what travels along; None for what `image` has.
    Raises UsageError for another format, OutputError when Pillow or the disk refuses; BrokenPipeError as it is.
    """
    row = FORMATS.get(format)
    if row is None:
        raise UsageError(f"cannot write {format} files; choose one of {', '.join(FORMATS)}")
    image.load()
    coded, warnings = to_coded_mode(image, image.info.get("icc_profile"))
    coded, kept, lost = fit(coded, carried(image) if metadata is None else metadata, format, row)
    coded = coded.copy() if coded is image else coded
    coded.info = {}  # Pillow would write from here what was left out
    file = io.BytesIO()
    try:
        coded.save(file, format, **row.options, **_metadata_options(kept, format))
    except Exception as error:  # Pillow's plugins raise whatever their encoders do
        raise OutputError(f"cannot be written as {format}: {' '.join(str(error).split())[:200]}") from error
    deliver(file, fo)
    return (*warnings, *lost)


def _metadata_options(metadata: Metadata, format: str) -> dict[str, Any]:
    """The arguments by which Pillow's plugin of `format` takes what `fit` kept."""
    options: dict[str, Any] = {"icc_profile": metadata.icc} if metadata.icc else {}
    if format == "TIFF":
        return {**options, "exif": _tiff_directory(metadata)}
    if format == "PNG":
        options["pnginfo"] = _png_text(metadata)
    elif metadata.xmp:
        options["xmp"] = metadata.xmp
    if metadata.exif:
        options["exif"] = b"Exif\0\0" + metadata.exif if format == "JPEG" else metadata.exif
    if format != "PNG" and metadata.text:
        options["comment"] = dict(metadata.text)["Comment"].encode()
    return options


def _png_text(metadata: Metadata) -> PngInfo:
    """Text chunks in the order they came. XMP as bytes: a packet that is no UTF-8 is carried, not judged."""
    info = PngInfo()
    if metadata.xmp:
        info.add_itxt("XML:com.adobe.xmp", metadata.xmp)
    for keyword, value in metadata.text:
        info.add_text(keyword, value)
    return info


def _tiff_directory(metadata: Metadata) -> Image.Exif:
    """EXIF and XMP as tags of the TIFF file's own directory, where they do not speak of how the pixels are stored."""
    exif, tags = Image.Exif(), Image.Exif()
    exif.load(metadata.exif or b"")
    tags.load(tiff_tags(exif))
    if metadata.xmp:
        tags[_XMP_TAG] = metadata.xmp
    return tags


def deliver(file: io.BytesIO, fo: BinaryIO) -> None:
    """Write a file that is made. OutputError, BrokenPipeError: as `write_image`."""
    try:
        fo.write(file.getbuffer())
    except BrokenPipeError:
        raise  # the reader has seen enough; the command line knows what that means
    except OSError as error:
        raise OutputError(f"the output cannot be written: {error.strerror or error}") from error
