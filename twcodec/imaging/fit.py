"""What a picture becomes in a file format that cannot hold all of it: its mode, its metadata, its orientation."""

from __future__ import annotations

from dataclasses import replace

from PIL import Image

from twcodec.imaging.carried import tiff_tags
from twcodec.imaging.colour import describes
from twcodec.imaging.formats import Format
from twcodec.imaging.modes import eight_bits
from twcodec.imaging.orientation import orientation, upright
from twcodec.imaging.picture import Metadata

_JPEG_SEGMENT = 65533
"""Bytes of one JPEG marker segment behind its length. EXIF, XMP and a comment have to fit into one each."""
_JPEG_EXIF_PREFIX = 6
_JPEG_XMP_PREFIX = 29
_WHITE = _OPAQUE = 255


def fit(image: Image.Image, metadata: Metadata, name: str, row: Format) -> tuple[Image.Image, Metadata, list[str]]:
    """The image and the metadata that a file of format `name` holds, and a line for each thing that is lost.

    Where the orientation would be lost, the pixels are turned upright instead, so nothing comes back on its side.
    """
    image, warnings = _fit_mode(image, name, row)
    kept = _fit_metadata(metadata, image.mode, name, row)
    lost = [
        label
        for label, before, after in (
            ("its ICC profile", metadata.icc, kept.icc),
            ("its EXIF", metadata.exif, kept.exif),
            ("its XMP", metadata.xmp, kept.xmp),
            ("some of its text", metadata.text, kept.text),
        )
        if before != after
    ]
    if lost:
        warnings.append(f"{name} cannot hold {', '.join(lost)}: left out")
    turn = orientation(metadata)
    if orientation(kept) != turn:
        image = upright(image, turn)
        kept = kept if orientation(kept) == 1 else replace(kept, xmp=None)
    return image, kept, warnings


def _fit_mode(image: Image.Image, name: str, row: Format) -> tuple[Image.Image, list[str]]:
    """From one of `picture.MODES` to one of `row.modes`. Losing nothing needs no warning."""
    warnings = []
    if image.mode == "I;16" and "I;16" not in row.modes:
        image = eight_bits(image)
        warnings.append(f"{name} cannot hold 16 bits a sample: reduced to 8")
    if image.mode in ("LA", "RGBA") and image.mode not in row.modes and "RGBA" not in row.modes:
        if image.getextrema()[-1] != (_OPAQUE, _OPAQUE):
            warnings.append(f"{name} cannot hold transparency: laid on white")
        image = on_white(image)
    if image.mode not in row.modes:
        wider = {"1": ("L", "RGB"), "L": ("RGB",), "LA": ("RGBA",)}[image.mode]
        image = image.convert(next(mode for mode in wider if mode in row.modes))
    if row.loses and image.mode in ("RGB", "RGBA"):
        warnings.append(row.loses)
    return image, warnings


def on_white(image: Image.Image) -> Image.Image:
    """LA -> L, RGBA -> RGB, as the picture looks on paper."""
    *colour, alpha = image.split()
    mode = image.mode[:-1]
    opaque = Image.merge(mode, colour)
    return Image.composite(opaque, Image.new(mode, image.size, (_WHITE,) * len(colour)), alpha)


def _fit_metadata(metadata: Metadata, mode: str, name: str, row: Format) -> Metadata:
    """What of the metadata the format carries, and Pillow can write."""
    carries, segment = row.carries, _JPEG_SEGMENT if name == "JPEG" else None
    icc = metadata.icc if "icc" in carries and describes(metadata.icc or b"", mode) else None
    exif = metadata.exif if "exif" in carries and _fits(metadata.exif, segment, _JPEG_EXIF_PREFIX) else None
    if exif and name in ("TIFF", "AVIF") and not _parses(exif):
        exif = None
    xmp = metadata.xmp if "xmp" in carries and _fits(metadata.xmp, segment, _JPEG_XMP_PREFIX) else None
    text = tuple(pair for pair in metadata.text if _fits_text(pair, segment, carries))
    return Metadata(icc=icc, exif=exif, xmp=xmp, text=text)


def _fits(data: bytes | None, segment: int | None, prefix: int) -> bool:
    return data is not None and (segment is None or prefix + len(data) <= segment)


def _fits_text(pair: tuple[str, str], segment: int | None, carries: frozenset[str]) -> bool:
    """PNG asks for keywords of 1 to 79 Latin-1 characters; the other formats know one comment."""
    keyword, value = pair
    if "text" in carries:
        latin = keyword.encode("latin-1", "replace")
        return latin.decode("latin-1") == keyword and 1 <= len(latin) <= 79 and "\0" not in keyword + value
    return "comment" in carries and keyword == "Comment" and _fits(value.encode(), segment, 0)


def _parses(exif: bytes) -> bool:
    """Whether Pillow, which takes EXIF apart for TIFF and AVIF, can do so and put it together again."""
    tags = Image.Exif()
    try:
        tags.load(exif)
        tiff_tags(tags)
    except Exception:
        return False
    return True
