"""The metadata that Pillow found in a picture, from wherever the plugin of each format puts it."""

from __future__ import annotations

import re

from PIL import ExifTags, Image

from twcodec.imaging.picture import Metadata

TIFF_TAGS = frozenset(
    {269, 270, 271, 272, 274, 282, 283, 285, 296, 305, 306, 315, 316, 18246, 18249, 33432, 33723, 34665, 34853}
    | {33550, 33922, 34264, 34735, 34736, 34737}  # GeoTIFF: they speak of the pixel grid, which stays
    | set(range(40091, 40096))  # XPTitle .. XPSubject
)
"""Tags of a TIFF file's own directory that speak of the picture, not of how the file stores it."""

_IFD_TAGS = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
_RAW_EXIF = "Raw profile type exif"
_XMP_KEYWORD = "XML:com.adobe.xmp"
_NO_TEXT = frozenset({_RAW_EXIF, _XMP_KEYWORD, "xmp", "exif", "icc_profile", "compression", "comment"})


_PILLOWS_OWN = frozenset(
    "adobe adobe_transform aspect background bbox blend chromaticity comment compression default_image disposal dpi "
    "duration exif extension gamma icc_profile interlace jfif jfif_density jfif_unit jfif_version loop photoshop "
    "progression progressive quality raw_mode resolution srgb timestamp transparency version xmp".split()
)
"""Keys of `info` by which Pillow's plugins mean numbers and bytes: a text of that name, from a stranger's file, would
be taken for one of them when the image is converted or saved."""


def as_info(metadata: Metadata) -> dict[str, object]:
    """The other way: what Pillow's plugins would have in `info`.

    It holds `icc_profile`, `exif` (with the prefix that JPEG wants), `xmp` as bytes, and each text under its keyword.
    """
    info: dict[str, object] = {keyword: value for keyword, value in metadata.text if keyword not in _PILLOWS_OWN}
    if metadata.icc:
        info["icc_profile"] = metadata.icc
    if metadata.exif:
        info["exif"] = b"Exif\0\0" + metadata.exif
    if metadata.xmp:
        info["xmp"] = metadata.xmp
    return info


def carried(image: Image.Image) -> Metadata:
    """Everything that travels with `image`, which must be decoded: PNG puts text behind its pixels.

    EXIF, XMP and ICC are the file's own bytes. TIFF has no EXIF block: the tags in `TIFF_TAGS` are written as one.
    """
    icc = image.info.get("icc_profile")
    return Metadata(
        icc=icc if isinstance(icc, bytes) and icc else None, exif=_exif(image), xmp=_xmp(image), text=_text(image)
    )


def tiff_tags(tags: Image.Exif) -> bytes:
    """A TIFF structure of those tags that are in `TIFF_TAGS`, directories of EXIF and GPS included; empty for none."""
    kept = Image.Exif()
    kept.endian = tags.endian
    for tag in TIFF_TAGS.intersection(tags):
        kept[tag] = tags.get_ifd(tag) if tag in _IFD_TAGS else tags[tag]
    return kept.tobytes() if len(kept) else b""


def _exif(image: Image.Image) -> bytes | None:
    exif = image.info.get("exif")
    if not isinstance(exif, bytes):
        exif = _hexadecimal(image.info.get(_RAW_EXIF))
    if not exif and hasattr(image, "tag_v2"):
        exif = _tiff_exif(image)
    return re.sub(rb"\A(?:Exif\0\0){1,2}", b"", exif) or None


def _tiff_exif(image: Image.Image) -> bytes:
    """The tags of a TIFF file as EXIF. Damaged ones are no reason to refuse the pixels."""
    try:
        return tiff_tags(image.getexif())
    except Exception:  # Pillow raises whatever the types of the values lead to
        return b""


def _hexadecimal(profile: object) -> bytes:
    """EXIF as older programs put it into PNG text: a newline, a name, a length, and hexadecimal digits."""
    if not isinstance(profile, str):
        return b""
    try:
        return bytes.fromhex("".join(profile.split("\n")[3:]))
    except ValueError:
        return b""


def _xmp(image: Image.Image) -> bytes | None:
    xmp = image.info.get("xmp") or image.info.get(_XMP_KEYWORD)
    if isinstance(xmp, str):
        xmp = xmp.encode()
    return xmp if isinstance(xmp, bytes) and xmp else None


def _text(image: Image.Image) -> tuple[tuple[str, str], ...]:
    """The text of PNG and TWC, and the comment of a JPEG or GIF file under PNG's keyword for it."""
    pairs: list[tuple[str, str]] = []
    if image.format in ("PNG", "TWC", None):  # a Pillow image that was copied has forgotten its format
        for keyword, value in image.info.items():
            if isinstance(keyword, str) and isinstance(value, str) and keyword not in _NO_TEXT:
                pairs.append((keyword, str(value)))
    comment = image.info.get("comment") if image.format != "JPEG2000" else None  # its encoders sign there
    if isinstance(comment, bytes) and comment.rstrip(b"\0") and "Comment" not in dict(pairs):
        pairs.append(("Comment", _decoded(comment.rstrip(b"\0"))))
    return tuple(pairs)


def _decoded(comment: bytes) -> str:
    try:
        return comment.decode()
    except UnicodeDecodeError:
        return comment.decode("latin-1")
