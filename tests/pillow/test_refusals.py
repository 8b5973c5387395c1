"""What cannot be opened or loaded is Pillow's error, and never a wrong picture."""

from __future__ import annotations

import io

import pytest
from PIL import Image, ImageFile, UnidentifiedImageError

import twcodec
import twcodec.pillow
from twcodec.container import Container
from twcodec.errors import CorruptError, LimitError, TwcError, UnsupportedError

from .conftest import MALFORMED


def test_what_is_no_twc_file_is_not_identified():
    for junk in (b"", b"\x89TWC", b"\x89TWC\r\n\x1a\n", b"no picture at all, whatever its name says"):
        with pytest.raises(UnidentifiedImageError):
            Image.open(io.BytesIO(junk))


def test_a_damaged_header_is_not_identified(data):
    broken = bytearray(data)
    broken[20] ^= 1
    with pytest.raises(UnidentifiedImageError):
        Image.open(io.BytesIO(broken))
    with pytest.raises(SyntaxError, match="checksum of the chunk at byte 10"):
        twcodec.pillow.TwcImageFile(io.BytesIO(broken))


def test_a_damaged_chunk_of_metadata_is_not_identified(data):
    broken = bytearray(data)
    at = data.index(b"iCCP") + 10
    broken[at] ^= 1
    with pytest.raises(UnidentifiedImageError):
        Image.open(io.BytesIO(broken))


def test_a_later_version_is_told(data):
    with pytest.raises(OSError, match="format version 2") as caught:
        Image.open(io.BytesIO(data[:8] + b"\x02" + data[9:]))
    assert isinstance(caught.value.__cause__, UnsupportedError)


@pytest.mark.parametrize("anyway", [False, True])
def test_a_truncated_file_is_no_picture(data, anyway, monkeypatch):
    """Not even a wrong one, where LOAD_TRUNCATED_IMAGES asks for what there is; and no second time, either."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", anyway)
    container = Container.from_bytes(data)
    first = data.index(container.data)
    for length in (first - 8, first, first + 20, len(data) - 17, len(data) - 1):
        image = Image.open(io.BytesIO(data[:length]))
        assert image.size == (120, 90)
        for _ in range(2):
            with pytest.raises(OSError, match=r"^image file is truncated") as caught:
                image.load()
            assert isinstance(caught.value.__cause__, CorruptError)
        with pytest.raises(OSError, match="truncated"):
            image.convert("L")


def test_every_truncation_is_refused(data):
    for length in range(0, len(data), 7):
        with pytest.raises(OSError, match=r"."):
            Image.open(io.BytesIO(data[:length])).load()


@pytest.mark.parametrize("anyway", [False, True])
@pytest.mark.parametrize("vector", MALFORMED, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_malformed_files_are_an_oserror(vector, anyway, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", anyway)
    with pytest.raises((OSError, Image.DecompressionBombError)) as caught:
        Image.open(io.BytesIO(vector.read_bytes()), formats=["TWC"]).load()
    assert isinstance(caught.value, UnidentifiedImageError | Image.DecompressionBombError) or isinstance(
        caught.value.__cause__, TwcError
    )


def test_a_file_that_changes_between_opening_and_loading(codec, photo):
    stream = io.BytesIO(codec.encode(photo))
    image = Image.open(stream)
    stream.seek(0)
    stream.write(codec.encode(photo.crop((0, 0, 50, 50))))
    stream.truncate()
    with pytest.raises(OSError, match="changed"):
        image.load()


def claiming(data: bytes, width: int, height: int) -> bytes:
    """The file with another size in its header, checksums and all."""
    from dataclasses import replace

    container = Container.from_bytes(data)
    return replace(container, header=replace(container.header, width=width, height=height)).to_bytes()


def test_pillows_limit_of_pixels_holds(data, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 120 * 90 - 1)
    with pytest.warns(Image.DecompressionBombWarning):
        Image.open(io.BytesIO(data))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(data))
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(claiming(data, 1 << 24, 1 << 24)))


def test_the_codecs_limit_holds_where_pillows_is_off(data, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    image = Image.open(io.BytesIO(claiming(data, 1 << 20, 1 << 20)))
    assert image.size == (1 << 20, 1 << 20)
    with pytest.raises(OSError, match="the limit is 134217728") as caught:
        image.load()
    assert isinstance(caught.value.__cause__, LimitError)


def test_a_header_claims_no_more_pixels_than_the_file_can_hold(data, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(OSError, match=r"."):
        Image.open(io.BytesIO(claiming(data, 8000, 8000))).load()
