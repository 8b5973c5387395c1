"""Where a picture may come from, and what is said when it cannot be read."""

from __future__ import annotations

import io
import os
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
import PIL
import pytest
from PIL import Image, ImageFile, PngImagePlugin

from twcodec.errors import LimitError, UnreadableError
from twcodec.imaging import source
from twcodec.imaging.read import read_picture


def piped(data: bytes) -> BinaryIO:
    """The reading end of a pipe that holds `data`."""
    reader, writer = os.pipe()

    def feed() -> None:
        with os.fdopen(writer, "wb") as stream:
            stream.write(data)

    threading.Thread(target=feed, daemon=True).start()
    return os.fdopen(reader, "rb")


def test_path_text_bytes_stream_and_pipe_give_the_same_picture(odd: Path) -> None:
    path = odd / "sharp_Landscape_6.jpg"
    expected = read_picture(path)
    with path.open("rb") as file, piped(path.read_bytes()) as pipe:
        assert not pipe.seekable()
        for each in (str(path), path.read_bytes(), file, pipe, io.BytesIO(path.read_bytes())):
            picture = read_picture(each)
            np.testing.assert_array_equal(picture.samples, expected.samples)
            assert picture.metadata == expected.metadata
        assert not file.closed


def test_a_named_pipe_is_read(odd: Path, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    data = (odd / "sharp_swiss.png").read_bytes()
    threading.Thread(target=fifo.write_bytes, args=(data,), daemon=True).start()
    assert read_picture(fifo).width == 68


@pytest.mark.parametrize("suffix", [".tiff", ".gif", ".webp", ".png", ".jpg"])
def test_no_file_stays_open(suffix: str, odd: Path) -> None:
    for path in odd.glob(f"*{suffix}"):
        try:
            read_picture(path)
        except (UnreadableError, LimitError):
            continue
    descriptors = Path("/proc/self/fd")
    if descriptors.is_dir():
        assert not [link for link in descriptors.iterdir() if link.exists() and odd in link.resolve().parents]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"\x89TWC\r\n\x1a\n\1\0", "TWC file already"),
        (b"#!/bin/sh\necho\n", "no picture format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "render it to PNG"),
        (b"\x89PNG\r\n\x1a\n", "truncated|damaged"),
        (b"GIF89a\1\0\1\0", "truncated|damaged"),
        (b"P6 2 2 255\nabc", "truncated"),
        (b"P6 0 2 255\n", "damaged|no pixels"),
    ],
)
def test_what_is_no_picture_is_refused_in_one_line(data: bytes, message: str) -> None:
    with pytest.raises(UnreadableError, match=message) as caught:
        read_picture(data)
    assert "\n" not in str(caught.value)


def test_a_path_that_cannot_be_opened_is_refused_without_its_name(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match=r"^No such file or directory$"):
        read_picture(tmp_path / "missing.png")
    with pytest.raises(UnreadableError, match=r"^Is a directory$"):
        read_picture(tmp_path)
    forbidden = tmp_path / "forbidden.png"
    forbidden.touch(mode=0)
    with pytest.raises(UnreadableError, match="Permission denied" if os.geteuid() else "empty"):
        read_picture(forbidden)


def test_the_size_is_checked_before_a_pixel_is_decoded(odd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(self: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", decode)
    with pytest.raises(LimitError, match="900x600 is 540000 pixels, the limit is 539999; raise it with --max-pixels"):
        read_picture(odd / "sharp_Flag_of_the_Netherlands-16bit.png", max_pixels=539_999)


def test_the_limit_itself_is_allowed(odd: Path) -> None:
    assert read_picture(odd / "sharp_Flag_of_the_Netherlands-16bit.png", max_pixels=540_000).width == 900
    with Image.open(odd / "sharp_swiss.png") as image, pytest.raises(LimitError):
        read_picture(image, max_pixels=68 * 68 - 1)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow says that the sizes differ
def test_an_icon_that_hides_its_size_is_still_refused(png: Callable[..., bytes]) -> None:
    inner = png((300, 300), 8, 0, [bytes(300)] * 300)
    entry = struct.pack("<4B2H2I", 16, 16, 0, 0, 1, 8, len(inner), 22)
    with pytest.raises(LimitError, match="300x300"):
        read_picture(struct.pack("<3H", 0, 1, 1) + entry + inner, max_pixels=1000)


def test_a_size_that_a_plugin_learns_while_decoding_is_checked_too(odd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def grow(self: PngImagePlugin.PngImageFile) -> None:
        self._size = (3000, 3000)

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", grow)
    with pytest.raises(LimitError, match="3000x3000"):
        read_picture(odd / "sharp_swiss.png", max_pixels=1_000_000)


def test_leaving_out_a_wide_profile_is_said_and_leaving_out_srgb_is_not(odd: Path) -> None:
    from PIL import ImageCms

    wide = read_picture(odd / "sharp_prophoto.png", metadata="none")
    assert any("colours may look different" in line for line in wide.warnings)
    image = Image.new("RGB", (4, 4))
    image.info["icc_profile"] = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert read_picture(image, metadata="none").warnings == ()


def test_a_side_has_its_own_limit(png: Callable[..., bytes]) -> None:
    with pytest.raises(LimitError, match="a side of more than 16777216 pixels"):
        read_picture(png((16_777_217, 1), 8, 0, [b"\0"]))


def test_a_header_beyond_pillows_own_limit_is_refused_by_ours(png: Callable[..., bytes]) -> None:
    data = png((14_000, 14_000), 8, 0, [b"\0"])
    with pytest.raises(LimitError, match="14000x14000 is 196000000 pixels"):
        read_picture(data)
    with pytest.raises(UnreadableError, match=r"truncated|damaged"):
        read_picture(data, max_pixels=196_000_000)


@pytest.mark.skipif(PIL.__version__ < "13", reason="older plugins check their size elsewhere")
def test_a_limit_inside_a_plugin_is_a_limit_here(monkeypatch: pytest.MonkeyPatch, odd: Path) -> None:
    def refuse(size: tuple[int, int], *, error_only: bool = False) -> None:
        raise Image.DecompressionBombError("Image size exceeds limit")

    monkeypatch.setattr(Image, "_decompression_bomb_check", refuse)
    with pytest.raises(LimitError, match="Pillow"):
        read_picture(odd / "pil_iss634.webp")


def test_memory_that_runs_out_is_a_limit(monkeypatch: pytest.MonkeyPatch, odd: Path) -> None:
    def starve(self: object) -> None:
        raise MemoryError

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", starve)
    with pytest.raises(LimitError, match="memory"):
        read_picture(odd / "sharp_swiss.png")


def test_a_pipe_without_an_end_comes_to_one(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(io.RawIOBase):
        blocks = 0

        def read(self, size: int = -1) -> bytes:
            self.blocks += 1
            return b"\xff\xd8\xff\xe0" * (size // 4)

    monkeypatch.setattr(source, "_SMALL_FILE", 3 << 20)
    endless = Endless()
    with pytest.raises(LimitError, match="longer than"):
        read_picture(endless, max_pixels=1000)  # type: ignore[arg-type]
    assert endless.blocks < 6


def test_endless_zeros_are_refused_at_once() -> None:
    with pytest.raises(UnreadableError, match="no picture format"):
        read_picture("/dev/zero")


@pytest.mark.parametrize(
    "name", ["sharp_Landscape_1.jpg", "pil_p_trns_single.png", "pil_multipage.tiff", "pil_iss634.webp"]
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow thinks aloud about damaged tags
def test_a_damaged_file_is_read_or_refused_but_never_breaks(name: str, odd: Path) -> None:
    data = bytearray((odd / name).read_bytes())
    places = np.random.default_rng(7).integers(0, min(len(data), 3000), 60)
    for place in places:
        damaged = bytearray(data)
        damaged[place] ^= 0x55
        for attempt in (bytes(damaged), bytes(data[:place])):
            with suppress(UnreadableError, LimitError):
                assert read_picture(attempt).samples.size > 0


def test_pillow_is_left_as_it_was(odd: Path) -> None:
    before = (Image.MAX_IMAGE_PIXELS, Image.WARN_POSSIBLE_FORMATS, ImageFile.LOAD_TRUNCATED_IMAGES)
    read_picture(odd / "sharp_swiss.png", max_pixels=10**12)
    assert before == (Image.MAX_IMAGE_PIXELS, Image.WARN_POSSIBLE_FORMATS, ImageFile.LOAD_TRUNCATED_IMAGES)
