"""Payloads of the container's chunks: what is packed comes back, and what was not packed is refused."""

from __future__ import annotations

import struct
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twcodec.errors import CorruptError, LimitError
from twcodec.imaging.alpha import pack_alpha, unpack_alpha
from twcodec.imaging.metadata import MAX_PAYLOAD, from_chunks, pack, to_chunks, unpack
from twcodec.imaging.picture import Metadata

from .conftest import chunk

SIGNATURE = b"\x89PNG\r\n\x1a\n"
TEXT = st.text(st.characters(exclude_characters="\0", codec="utf-8"))
OPTIONAL = st.none() | st.binary(min_size=1)


@given(st.binary())
def test_data_comes_back(data: bytes) -> None:
    assert unpack(pack(data)) == data


@settings(max_examples=50)
@given(OPTIONAL, OPTIONAL, OPTIONAL, st.lists(st.tuples(TEXT, TEXT)))
def test_metadata_comes_back(
    icc: bytes | None, exif: bytes | None, xmp: bytes | None, text: list[tuple[str, str]]
) -> None:
    metadata = Metadata(icc=icc, exif=exif, xmp=xmp, text=tuple(text))
    assert from_chunks(to_chunks(metadata)) == metadata


@given(st.binary())
def test_any_bytes_unpack_or_are_refused(payload: bytes) -> None:
    with suppress(CorruptError, LimitError):
        assert isinstance(unpack(payload), bytes)


def test_a_payload_looks_as_the_format_says() -> None:
    assert pack(b"ab") == b"\0" + b"\0\0\0\2" + b"ab"
    long = b"ab" * 100
    assert pack(long) == b"\1" + b"\0\0\0\xc8" + zlib.compress(long, 9)
    kinds = [kind for kind, _ in to_chunks(Metadata(b"i", b"e", b"x", (("k", "v"), ("k", "w"))))]
    assert kinds == [b"iCCP", b"eXIf", b"xMPd", b"tEXt"]
    assert to_chunks(Metadata(text=(("λ", "ü"),))) == [(b"tEXt", pack("λ\0ü".encode()))]


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\0\0\0\0",
        b"\2\0\0\0\1a",
        b"\0\0\0\0\2a",
        b"\0\0\0\0\1ab",
        b"\1\0\0\0\1a",
        b"\1\0\0\0\2" + zlib.compress(b"a"),
        b"\1\0\0\0\1" + zlib.compress(b"ab"),
        b"\1\0\0\0\1" + zlib.compress(b"a") + b"!",
        b"\1\0\0\0\1" + zlib.compress(b"a")[:-1],
        b"\1\0\0\0\0" + zlib.compress(b"a"),
    ],
)
def test_a_payload_that_is_off_is_corrupt(payload: bytes) -> None:
    with pytest.raises(CorruptError):
        unpack(payload)


def test_a_bomb_is_refused_before_it_goes_off() -> None:
    bomb = zlib.compress(bytes(40 << 20), 9)
    tracemalloc.start()
    with pytest.raises(LimitError):
        unpack(b"\1" + struct.pack(">I", 40 << 20) + bomb)
    with pytest.raises(CorruptError):
        unpack(b"\1" + struct.pack(">I", 1000) + bomb)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_a_few_kilobytes_cannot_become_millions_of_pairs() -> None:
    payload = pack(b"\0".join([b"a"] * 2 * 5000))
    with pytest.raises(LimitError, match="5000 pairs"):
        from_chunks([(b"tEXt", payload)])
    with pytest.raises(LimitError, match="--metadata none"):
        to_chunks(Metadata(text=(("a", "b"),) * 5000))
    assert len(from_chunks(to_chunks(Metadata(text=(("a", "b"),) * 4096))).text) == 4096


def test_too_much_metadata_is_refused_with_advice() -> None:
    with pytest.raises(LimitError, match="--metadata none"):
        to_chunks(Metadata(icc=bytes(MAX_PAYLOAD + 1)))
    assert len(unpack(pack(bytes(MAX_PAYLOAD)))) == MAX_PAYLOAD


def test_other_chunks_are_passed_over_and_double_ones_refused() -> None:
    assert from_chunks([(b"DATA", b"whatever"), (b"iCCP", pack(b"i"))]) == Metadata(icc=b"i")
    with pytest.raises(CorruptError, match="two iCCP"):
        from_chunks([(b"iCCP", pack(b"i"))] * 2)


@pytest.mark.parametrize("data", [b"no separator", b"two\0separators\0", b"\xff\0latin"])
def test_text_that_is_no_pair_is_corrupt(data: bytes) -> None:
    with pytest.raises(CorruptError):
        from_chunks([(b"tEXt", pack(data))])


def test_a_nul_in_text_is_left_out() -> None:
    assert from_chunks(to_chunks(Metadata(text=(("a\0b", "c\0"),)))).text == (("ab", "c"),)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1), st.integers(1, 256))
def test_alpha_comes_back(height: int, width: int, seed: int, levels: int) -> None:
    alpha = np.random.default_rng(seed).integers(0, levels, (height, width)).astype(np.uint8)
    back = unpack_alpha(pack_alpha(alpha), height, width)
    np.testing.assert_array_equal(back, alpha)
    assert back.dtype == np.uint8
    assert back.flags.writeable


def test_constant_alpha_takes_two_bytes() -> None:
    assert pack_alpha(np.full((500, 700), 255, np.uint8)) == b"\0\xff"


@pytest.fixture
def gradient() -> bytes:
    return pack_alpha(np.arange(40, dtype=np.uint8).reshape(5, 8))


def test_alpha_of_another_size_is_corrupt(gradient: bytes) -> None:
    for height, width in ((8, 5), (5, 7), (6, 8), (1, 40)):
        with pytest.raises(CorruptError, match=f"{width}x{height}"):
            unpack_alpha(gradient, height, width)


def test_every_flipped_bit_and_every_cut_of_alpha_is_corrupt(gradient: bytes) -> None:
    for place in range(len(gradient)):
        for bit in range(8):
            damaged = bytearray(gradient)
            damaged[place] ^= 1 << bit
            with pytest.raises(CorruptError):
                unpack_alpha(bytes(damaged), 5, 8)
        with pytest.raises(CorruptError):
            unpack_alpha(gradient[:place], 5, 8)


ROWS = [b"\1\2\3"] * 2


@pytest.mark.parametrize(
    "make",
    [
        lambda png: png((3, 2), 8, 0, ROWS) + b"!",
        lambda png: png((3, 2), 8, 0, ROWS) + chunk(b"IEND", b""),
        lambda png: png((3, 2), 8, 0, ROWS, interlace=1),
        lambda png: png((3, 2), 16, 0, [b"\1\2\3\4\5\6"] * 2),
        lambda png: png((3, 2), 8, 2, [b"\1\2\3" * 3] * 2),
        lambda png: png((3, 2), 8, 0, [*ROWS, b"\1\2\3"]),
        lambda png: png((3, 2), 8, 0, ROWS[:1]),
        lambda png: png((3, 2), 8, 0, ROWS, (b"tRNS", b"\0\1")),
        lambda png: png((3, 2), 8, 0, ROWS, (b"tEXt", b"a\0b")),
        lambda png: png((3, 2), 8, 0, ROWS).replace(SIGNATURE, b""),
        lambda png: SIGNATURE + chunk(b"IHDR", struct.pack(">II5B", 3, 2, 8, 0, 0, 0, 0)) + chunk(b"IEND", b""),
        lambda png: png((3, 2), 8, 0, ROWS)[:-12] + chunk(b"IEND", b"!"),
        lambda png: SIGNATURE,
        lambda png: b"",
    ],
)
def test_a_png_that_the_format_does_not_allow_is_corrupt(
    make: Callable[[Callable[..., bytes]], bytes], png: Callable[..., bytes]
) -> None:
    assert unpack_alpha(b"\1" + png((3, 2), 8, 0, ROWS), 2, 3).tolist() == [[1, 2, 3]] * 2
    with pytest.raises(CorruptError):
        unpack_alpha(b"\1" + make(png), 2, 3)


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (zlib.compress(b"\5\1\2\3" * 2), "unknown filter"),
        (zlib.compress(b"\0\1\2\3" * 2) + b"!", "its own size"),
        (zlib.compress(b"\0\1\2\3" * 3), "its own size"),
        (b"", "its own size"),
        (b"junk", "damaged"),
    ],
)
def test_an_idat_that_the_format_does_not_allow_is_corrupt(stream: bytes, message: str) -> None:
    header = chunk(b"IHDR", struct.pack(">II5B", 3, 2, 8, 0, 0, 0, 0))
    with pytest.raises(CorruptError, match=message):
        unpack_alpha(b"\1" + SIGNATURE + header + chunk(b"IDAT", stream) + chunk(b"IEND", b""), 2, 3)


@given(st.binary(max_size=80))
def test_any_bytes_are_alpha_or_corrupt(payload: bytes) -> None:
    with suppress(CorruptError):
        assert unpack_alpha(payload, 3, 4).shape == (3, 4)


def test_an_alpha_bomb_is_refused_before_it_goes_off() -> None:
    header = chunk(b"IHDR", struct.pack(">II5B", 3, 2, 8, 0, 0, 0, 0))
    bomb = b"\1" + SIGNATURE + header + chunk(b"IDAT", zlib.compress(bytes(40 << 20), 9)) + chunk(b"IEND", b"")
    tracemalloc.start()
    with pytest.raises(CorruptError):
        unpack_alpha(bomb, 2, 3)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_metadata_needs_neither_numpy_nor_pillow() -> None:
    modules = "twcodec.imaging.metadata, twcodec.imaging.formats"
    code = f"import sys, {modules}; print(sorted({{'numpy', 'PIL'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout == "[]\n"
