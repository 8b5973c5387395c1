"""`Image.save`: the bytes of `twcodec.encode`, and the errors of Pillow's other writers."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import ExifTags, Image, PngImagePlugin

import twcodec
import twcodec.pillow
from twcodec.container import Container
from twcodec.errors import TwcError

from .conftest import ICC, XMP, in_mode, same, saved


def test_what_is_saved_is_what_encode_gives(codec, full, tmp_path):
    full.save(tmp_path / "a.twc", quality=5, ways=2, seed=1)
    expected = codec.encode(full, quality=5, ways=2, seed=1)
    assert (tmp_path / "a.twc").read_bytes() == expected
    assert expected == twcodec.encode(full, quality=5, ways=2, seed=1, device="cpu")
    assert saved(full, quality=5, seed=1) == expected


@pytest.mark.parametrize(
    "options",
    [
        {"effort": 2, "ways": 1},
        {"transform": "always", "transforms": ("flip-turn",)},
        {"metric": "ms-ssim"},
        {"guard": "avif"},
        {"metadata": "none"},
        {"score": "fast", "verify": False},
    ],
    ids=str,
)
def test_the_options_of_encode_are_those_of_save(codec, astronaut, exif, options):
    image = Image.fromarray(astronaut[:176, :200])
    image.info["exif"] = exif.tobytes()
    assert saved(image, seed=1, **options) == codec.encode(image, seed=1, **options)


def test_another_model(photo):
    made = saved(photo, model="default-1", quality=2)
    assert twcodec.info(made).model == "default-1"
    with Image.open(io.BytesIO(made)) as image:
        assert image.info["twc"]["model"] == "default-1"
        assert same(image, twcodec.decode(made, device="cpu"))


def test_few_codecs_are_kept(photo):
    for name in ("default", "default-1", "default-2", "default-3", "default", "default-context"):
        saved(photo.crop((0, 0, 16, 16)), model=name, ways=1)
    kept = list(twcodec.pillow._codecs._kept)
    assert kept == [("default-2", None), ("default-3", None), ("default", None), ("default-context", None)]
    for quality in (1, 2, 3.5):
        saved(photo.crop((0, 0, 16, 16)), quality=quality, ways=1)
    assert len(twcodec.pillow._codecs._kept) == 4


def test_unknown_options_are_passed_over_as_by_other_formats(photo):
    assert saved(photo, seed=1, optimize=True, subsampling="4:4:4") == saved(photo, seed=1)


@pytest.mark.parametrize(
    "mode", "1 L LA RGB RGBA I;16 I;16B I P PA La RGBa CMYK YCbCr LAB HSV RGBX".split(), ids=lambda mode: mode
)
def test_every_mode_that_encode_takes_is_saved(codec, photo, mode):
    image = in_mode(photo, mode)
    assert image.mode == mode
    made = saved(image, seed=1, ways=1)
    assert made == codec.encode(image, seed=1, ways=1)
    coded = {"I": "I;16", "I;16B": "I;16", "P": "RGB", "PA": "RGBA", "La": "LA", "RGBa": "RGBA"}.get(mode, mode)
    assert Image.open(io.BytesIO(made)).mode == (coded if coded in ("1", "L", "LA", "RGB", "RGBA", "I;16") else "RGB")


def test_other_modes_are_refused_in_pillows_words(photo, tmp_path):
    with pytest.raises(OSError, match=r"^cannot write mode F as TWC$"):
        photo.convert("F").save(tmp_path / "a.twc")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_encoded_is_an_oserror_with_the_reason(photo, tmp_path):
    wide = Image.fromarray(np.full((20, 20), 1 << 20, np.int32))
    with pytest.raises(OSError, match="32 bit samples") as caught:
        wide.save(tmp_path / "a.twc")
    assert isinstance(caught.value.__cause__, TwcError)
    assert list(tmp_path.iterdir()) == []


def test_options_that_cannot_be_meant_are_a_valueerror(photo, tmp_path):
    for options in ({"quality": 75}, {"quality": "best"}, {"ways": 0}, {"effort": 10}, {"metadata": "some"}):
        with pytest.raises(ValueError, match=r"."):
            photo.save(tmp_path / "a.twc", **options)
    assert list(tmp_path.iterdir()) == []


def test_metadata_is_carried_and_can_be_replaced(photo, full):
    other = Image.Exif()
    other[ExifTags.Base.Model] = "Another camera"
    made = Image.open(io.BytesIO(saved(full, exif=other, xmp="<other/>")))
    assert made.getexif() == other
    assert made.info["xmp"] == b"<other/>"
    assert made.info["icc_profile"] == ICC
    assert made.text == {"Title": "A title", "Artist": "N.N."}
    bare = Image.open(io.BytesIO(saved(full, exif=b"", icc_profile=None, xmp=None)))
    assert set(bare.info) == {"Title", "Artist", "twc"}
    given = Image.open(io.BytesIO(saved(photo, exif=other.tobytes(), icc_profile=ICC, xmp=XMP)))
    assert {"exif", "icc_profile", "xmp"} < set(given.info)
    assert full.info["xmp"] == XMP


def test_a_transparent_colour_stays_one_when_metadata_is_given(codec, photo):
    image = photo.convert("P")
    image.info["transparency"] = 3
    assert saved(image, seed=1, xmp=XMP, ways=1) == saved(Image.open(io.BytesIO(png(image, XMP))), seed=1, ways=1)


def png(image: Image.Image, xmp: bytes) -> bytes:
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", xmp.decode())
    held = io.BytesIO()
    image.save(held, "PNG", pnginfo=text)
    return held.getvalue()


def test_opened_and_saved_again_everything_is_carried(codec, path, data):
    """Texts, too, which are taken from the info of few formats: it may hold other strings."""
    with Image.open(path) as image:
        made = saved(image, seed=1)
        assert made == codec.encode(image, seed=1)
    assert Container.from_bytes(made).ancillary == Container.from_bytes(data).ancillary


def test_a_file_may_be_saved_over_itself(path, decoded, codec):
    with Image.open(path) as image:
        image.save(path, seed=1)
    assert path.read_bytes() == codec.encode(decoded, seed=1)


def test_saved_to_other_formats_with_the_metadata(path, decoded, exif):
    with Image.open(path) as image:
        held = io.BytesIO()
        image.save(held, "PNG")
        assert Image.open(held).info["icc_profile"] == ICC
        assert same(Image.open(held), decoded)
        held = io.BytesIO()
        image.save(held, "JPEG", exif=image.getexif())
        assert Image.open(held).getexif() == exif


def test_several_frames_are_refused_as_by_other_formats_of_one_frame(photo):
    for name in ("BMP", "TWC"):
        with pytest.raises(KeyError, match=name):
            photo.save(io.BytesIO(), format=name, save_all=True)
