"""What each file format gives back: pixels, metadata, orientation, and a word about what it cannot hold."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from twcodec.errors import OutputError, UsageError
from twcodec.imaging.formats import DEFAULT_FORMAT, FORMATS, format_for
from twcodec.imaging.orientation import orientation
from twcodec.imaging.picture import Metadata, Picture
from twcodec.imaging.present import to_image
from twcodec.imaging.read import read_picture
from twcodec.imaging.write import write_image

MODES = ("1", "L", "LA", "RGB", "RGBA", "I;16")
TURNED = [name for name, row in FORMATS.items() if "exif" not in row.carries]


class Pipe(io.RawIOBase):
    """A stream that cannot seek and remembers what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.data = b""

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        self.data += bytes(data)  # type: ignore[call-overload]
        return len(bytes(data))  # type: ignore[call-overload]


def written(image: Image.Image, format: str = DEFAULT_FORMAT) -> tuple[bytes, tuple[str, ...]]:
    file = io.BytesIO()
    warnings = write_image(image, file, format)
    return file.getvalue(), warnings


@pytest.fixture
def pictures(photo: Image.Image, ramp: NDArray[np.uint16]) -> dict[str, Image.Image]:
    """One picture of each mode, with every step of alpha."""
    made = {mode: photo.convert(mode).crop((0, 0, 200, 100)) for mode in MODES if mode != "I;16"}
    alpha = Image.fromarray(np.repeat(np.linspace(0, 255, 100).astype(np.uint8)[:, None], 200, axis=1))
    made["LA"].putalpha(alpha)
    made["RGBA"].putalpha(alpha)
    made["I;16"] = Image.fromarray(ramp)
    for image in made.values():
        image.info = {}
    return made


def test_png_gives_back_all_metadata_byte_for_byte(pictures: dict[str, Image.Image], metadata: Metadata) -> None:
    samples = np.asarray(pictures["RGB"])
    data, warnings = written(to_image(Picture(samples, "RGB", metadata=metadata)))
    assert warnings == ()
    assert read_picture(data).metadata == metadata


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "AVIF", "TIFF"])
def test_other_formats_give_back_icc_exif_and_xmp(
    format: str, pictures: dict[str, Image.Image], metadata: Metadata
) -> None:
    upright = Metadata(icc=metadata.icc, exif=_with_orientation(metadata.exif, 1), xmp=metadata.xmp)
    data, warnings = written(to_image(Picture(np.asarray(pictures["RGB"]), "RGB", metadata=upright)), format)
    back = read_picture(data).metadata
    assert warnings == ()
    assert (back.icc, back.xmp) == (upright.icc, upright.xmp)
    if format in ("JPEG", "WEBP"):
        assert back.exif == upright.exif
    else:  # taken apart and put together again: the same tags
        tags = Image.Exif()
        tags.load(back.exif or b"")
        assert (tags[271], float(tags.get_ifd(0x8769)[0x829A])) == ("Camera", 0.125)


def test_a_jpeg_comment_travels_as_text(pictures: dict[str, Image.Image], saved: Callable[..., bytes]) -> None:
    picture = read_picture(saved(pictures["RGB"], "JPEG", comment="Grüße"))
    assert picture.metadata.text == (("Comment", "Grüße"),)
    data, _ = written(to_image(picture), "JPEG")
    assert read_picture(data).metadata.text == picture.metadata.text


def test_tags_of_a_tiff_travel_but_not_those_of_its_storage(
    pictures: dict[str, Image.Image], saved: Callable[..., bytes]
) -> None:
    data = saved(pictures["L"], "TIFF", tiffinfo={270: "A picture", 315: "Somebody"}, compression="tiff_lzw")
    tags = Image.Exif()
    tags.load(read_picture(data).metadata.exif or b"")
    assert dict(tags) == {270: "A picture", 315: "Somebody"}


def test_tiff_tags_that_cannot_be_put_together_do_not_cost_the_pixels(
    odd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Image.Exif, offset: int = 8) -> bytes:
        raise TypeError("a value of another kind")

    monkeypatch.setattr(Image.Exif, "tobytes", refuse)
    assert read_picture(odd / "pil_multipage.tiff").metadata == Metadata()


def test_exif_written_as_png_text_by_older_programs_is_found(
    pictures: dict[str, Image.Image], exif: bytes, png: Callable[..., bytes]
) -> None:
    text = f"Raw profile type exif\0\nexif\n{len(exif):8}\n{exif.hex()}\n".encode()
    assert read_picture(png((1, 1), 8, 0, [b"\7"], (b"tEXt", text))).metadata == Metadata(exif=exif)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("turn", range(1, 9))
def test_a_picture_never_comes_back_on_its_side(
    turn: int, format: str, exif: bytes, pictures: dict[str, Image.Image]
) -> None:
    source = pictures["RGB"]
    source.info["exif"] = b"Exif\0\0" + _with_orientation(exif, turn)
    expected = np.asarray(ImageOps.exif_transpose(source).convert("L")).astype(int)
    before = (source.tobytes(), dict(source.info))
    data, _ = written(source, format)
    with Image.open(io.BytesIO(data)) as image:
        assert np.abs(np.asarray(ImageOps.exif_transpose(image).convert("L")) - expected).mean() < 8
    again = read_picture(data, metadata="none")
    assert np.abs(np.asarray(to_image(again).convert("L")) - expected).mean() < 8
    assert (source.tobytes(), dict(source.info)) == before


def test_xmp_alone_can_say_which_way_is_up() -> None:
    assert orientation(Metadata(xmp=b'<rdf:Description tiff:Orientation="8"/>')) == 8
    assert orientation(Metadata(xmp=b"<tiff:Orientation>6</tiff:Orientation>")) == 6


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow thinks aloud about it
@pytest.mark.parametrize("broken", [b"", b"II*\0", b"MM\0*\0\0\0\x08\0\x01", b"II*\0\xff\xff\xff\xff", b"\0" * 99])
def test_exif_that_is_none_is_carried_and_counts_as_upright(
    broken: bytes, pictures: dict[str, Image.Image], saved: Callable[..., bytes]
) -> None:
    assert orientation(Metadata(exif=broken)) == 1
    if broken:
        picture = read_picture(saved(pictures["L"], "PNG", exif=broken))
        assert picture.metadata.exif == broken
        for format in FORMATS:
            written(to_image(picture), format)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("mode", MODES)
def test_every_format_takes_every_mode_and_says_what_it_lost(
    mode: str, format: str, pictures: dict[str, Image.Image]
) -> None:
    image = pictures[mode]
    data, warnings = written(image, format)
    with Image.open(io.BytesIO(data)) as back:
        back.load()
        assert back.size == image.size
        if mode in FORMATS[format].modes and format not in ("GIF", "AVIF", "JPEG"):
            assert warnings == ()
            np.testing.assert_array_equal(np.asarray(to_image(read_picture(back))), np.asarray(image))
        if mode == "I;16" and mode not in FORMATS[format].modes:
            assert "16 bits" in warnings[0]
        if mode in ("LA", "RGBA") and not FORMATS[format].modes & {"LA", "RGBA"}:
            assert "transparency" in warnings[0]
            lightness = np.abs(np.asarray(back.convert("L")).astype(int) - np.asarray(image.convert("L")))
            assert np.asarray(back.convert("L"))[0].min() > 240, "transparent, so white"
            assert lightness[-1].mean() < 12, "opaque, so itself"


def test_opaque_alpha_is_dropped_without_a_word(photo: Image.Image) -> None:
    photo.info = {}
    _, warnings = written(photo.convert("RGBA"), "JPEG")
    assert warnings == ()


def test_metadata_that_a_format_cannot_hold_is_named(pictures: dict[str, Image.Image], metadata: Metadata) -> None:
    image = to_image(Picture(np.asarray(pictures["RGB"]), "RGB", metadata=metadata))
    _, warnings = written(image, "BMP")
    assert warnings == ("BMP cannot hold its ICC profile, its EXIF, its XMP, some of its text: left out",)


def test_exif_too_long_for_jpeg_is_named_and_the_picture_still_upright(
    pictures: dict[str, Image.Image], exif: bytes
) -> None:
    image = pictures["RGB"]
    image.info |= {"exif": b"Exif\0\0" + exif + bytes(70_000), "xmp": b"x" * 65_505}
    data, (warning,) = written(image, "JPEG")
    assert "its EXIF, its XMP" in warning
    assert read_picture(data).width == image.height


def test_a_profile_for_other_samples_is_left_out_with_a_warning(
    pictures: dict[str, Image.Image], metadata: Metadata, saved: Callable[..., bytes]
) -> None:
    picture = read_picture(saved(pictures["L"], "PNG", icc_profile=metadata.icc))
    assert picture.metadata.icc is None
    assert "ICC profile" in picture.warnings[0]
    assert metadata.icc is not None
    image = pictures["L"].copy()
    image.info["icc_profile"] = metadata.icc
    data, (warning,) = written(image)
    assert "its ICC profile" in warning
    with Image.open(io.BytesIO(data)) as back:
        assert "icc_profile" not in back.info
    grey = metadata.icc[:16] + b"GRAY" + metadata.icc[20:]
    assert read_picture(saved(pictures["L"], "PNG", icc_profile=grey)).metadata.icc == grey


def test_cmyk_goes_through_its_profile(cmyk_profile: bytes, saved: Callable[..., bytes]) -> None:
    magenta = Image.new("CMYK", (2, 2), (0, 255, 0, 0))
    for format in ("TIFF", "JPEG"):
        picture = read_picture(saved(magenta, format, icc_profile=cmyk_profile))
        red, green, blue = picture.samples[0, 0].tolist()
        assert green > red + 80
        assert green > blue + 80
        assert (picture.metadata.icc, picture.warnings) == (None, ("CMYK was converted to sRGB with its ICC profile",))
    paper = read_picture(saved(Image.new("CMYK", (1, 1)), "TIFF", icc_profile=cmyk_profile))
    assert paper.samples.min() >= 254
    assert "plain formula" in read_picture(magenta).warnings[0]


def test_a_broken_cmyk_profile_falls_back_to_the_plain_formula(
    photo: Image.Image, metadata: Metadata, saved: Callable[..., bytes]
) -> None:
    assert metadata.icc is not None
    for icc in (metadata.icc[:16] + b"CMYK" + metadata.icc[20:], metadata.icc):
        picture = read_picture(saved(photo.convert("CMYK"), "TIFF", icc_profile=icc))
        assert (picture.mode, picture.metadata.icc) == ("RGB", None)
        assert "plain formula" in picture.warnings[0]


def test_text_that_png_cannot_hold_is_left_out(pictures: dict[str, Image.Image]) -> None:
    image = pictures["L"]
    image.info = {"λ": "keyword beyond Latin-1", "k" * 80: "too long", "": "empty", "ok": "kept", "nul": "a\0b"}
    data, (warning,) = written(image)
    assert "text" in warning
    assert read_picture(data).metadata.text == (("ok", "kept"),)


def test_a_pipe_is_written_in_one_piece(pictures: dict[str, Image.Image]) -> None:
    for format in FORMATS:
        pipe = Pipe()
        write_image(pictures["RGB"], pipe, format)  # type: ignore[arg-type]
        assert pipe.data == written(pictures["RGB"], format)[0]


def test_what_pillow_cannot_write_is_an_output_error() -> None:
    file = io.BytesIO()
    with pytest.raises(OutputError, match="cannot be written as WEBP") as caught:
        write_image(Image.new("RGB", (20_000, 1)), file, "WEBP")
    assert "\n" not in str(caught.value)
    assert file.getvalue() == b""
    with pytest.raises(UsageError, match="PNG, JPEG"):
        write_image(Image.new("RGB", (1, 1)), file, "PDF")


def test_a_full_disk_is_an_output_error() -> None:
    with Path("/dev/full").open("wb", buffering=0) as full, pytest.raises(OutputError, match="No space left"):
        write_image(Image.new("RGB", (1, 1)), full)


def test_a_reader_that_went_away_is_left_to_the_caller() -> None:
    class Closed(Pipe):
        def write(self, data: object) -> int:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        write_image(Image.new("RGB", (1, 1)), Closed())  # type: ignore[arg-type]


def test_the_extension_chooses_the_format() -> None:
    assert format_for("a/photo.PNG") == "PNG"
    assert format_for("photo.tar.jpeg") == "JPEG"
    assert [format_for(name) for name in ("photo.twc", "photo", "photo.pdf", "-", ".png")] == [None] * 5


def test_the_extensions_are_those_that_pillow_gives_its_formats() -> None:
    registered = Image.registered_extensions()
    for name, row in FORMATS.items():
        assert name in Image.SAVE
        assert [registered[extension] for extension in row.extensions] == [name] * len(row.extensions)


def _with_orientation(exif: bytes | None, turn: int) -> bytes:
    tags = Image.Exif()
    tags.load(exif or b"")
    tags.get_ifd(0x8769)
    tags[274] = turn
    return tags.tobytes().removeprefix(b"Exif\0\0")
