import dataclasses
import struct
import subprocess
import sys
import zlib

import pytest

from twcodec.container import Container, Header, Limits, chunks
from twcodec.container.header import AVIF, HEAD_BYTES
from twcodec.errors import CorruptError, LimitError, TwcError, UnreadableError, UnsupportedError

HEADER = Header(
    width=768,
    height=512,
    mode="RGB",
    digest=bytes(range(16)),
    quality=4.125,
    symbols_crc=0xDEADBEEF,
    transformed=True,
    transform=4,
    seed=0xFFFFFFFE,
    ways=8,
)
PLAIN = Container(HEADER, b"coded symbols")


def framed(*parts: tuple[bytes, bytes], version: tuple[int, int] = (1, 0)) -> bytes:
    """A file with valid checksums, whatever is in it: what an attacker would write."""
    data = chunks.MAGIC + bytes(version)
    for kind, payload in parts:
        data += struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))
    closing = b"TEND" + struct.pack(">I", zlib.crc32(data))
    return data + struct.pack(">I", 4) + closing + struct.pack(">I", zlib.crc32(closing))


def head(**changes) -> tuple[bytes, bytes]:
    return b"HEAD", dataclasses.replace(HEADER, **changes).to_bytes()


def patched_head(offset: int, value: bytes) -> tuple[bytes, bytes]:
    payload = HEADER.to_bytes()
    return b"HEAD", payload[:offset] + value + payload[offset + len(value) :]


DATA = (b"DATA", b"coded symbols")


def test_what_is_written_is_read():
    full = Container(
        dataclasses.replace(HEADER, mode="RGBA"), b"x" * 1000, b"\0\xff", ((b"iCCP", b"p"), (b"tEXt", b"q"))
    )
    assert Container.from_bytes(full.to_bytes()) == full


def test_the_frame_costs_92_bytes_at_most_96():
    assert len(PLAIN.to_bytes()) - len(PLAIN.data) == 92 <= 96


def test_the_bytes_of_a_file_are_pinned():
    """These bytes are version 1 of the format: if this fails, old files no longer decode."""
    assert PLAIN.to_bytes().hex() == (
        "895457430d0a1a0a01000000002a48454144000003000000020003080000"
        "0102030405060708090a0b0c0d0e0f0101101d0104fffffffe08deadbeef"
        "46f78d4f0000000d44415441636f6465642073796d626f6c733bce0c5900"
        "00000454454e44c535112ba60a0e01"
    )


def test_the_frame_is_what_plain_struct_and_zlib_make():
    assert framed(head(), DATA) == PLAIN.to_bytes()


def test_truncation_at_every_byte_is_reported():
    data = PLAIN.to_bytes()
    for length in range(len(data)):
        with pytest.raises(TwcError) as caught:
            Container.from_bytes(data[:length])
        assert caught.value.exit_code in (3, 4), length


def test_every_flipped_bit_is_reported():
    data = PLAIN.to_bytes()
    for bit in range(8 * len(data)):
        broken = bytearray(data)
        broken[bit // 8] ^= 1 << bit % 8
        with pytest.raises(TwcError) as caught:
            Container.from_bytes(bytes(broken))
        assert caught.value.exit_code in (3, 4, 5, 6), bit


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n", b"hello", chunks.MAGIC[:5]])
def test_what_is_no_twc_file_is_called_unreadable(data):
    with pytest.raises(UnreadableError):
        Container.from_bytes(data)


def test_a_transfer_in_text_mode_is_recognised():
    with pytest.raises(UnreadableError, match="text mode"):
        Container.from_bytes(PLAIN.to_bytes().replace(b"\r\n", b"\n"))


def test_bytes_behind_the_end_are_reported():
    with pytest.raises(CorruptError, match="follow the closing"):
        Container.from_bytes(PLAIN.to_bytes() + b"\0")


def test_a_later_minor_version_is_read_and_a_longer_head_too():
    kind, payload = head()
    assert Container.from_bytes(framed((kind, payload + b"more"), DATA, version=(1, 7))) == PLAIN


@pytest.mark.parametrize("major", [0, 2, 255])
def test_another_major_version_is_refused(major):
    with pytest.raises(UnsupportedError, match=f"version {major}"):
        Container.from_bytes(framed(head(), DATA, version=(major, 0)))


def test_an_unknown_ancillary_chunk_is_kept_out_of_the_way_and_an_unknown_critical_one_refused():
    assert Container.from_bytes(framed(head(), (b"fuTU", b"?"), DATA)).ancillary == ((b"fuTU", b"?"),)
    with pytest.raises(UnsupportedError, match="FUTU"):
        Container.from_bytes(framed(head(), (b"FUTU", b"?"), DATA))


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [DATA],
        [DATA, head()],
        [head()],
        [head(), head(), DATA],
        [head(), DATA, DATA],
        [head(), (b"iCCP", b""), (b"iCCP", b""), DATA],
        [head(), (b"ALPH", b"\0\xff"), DATA],
        [head(mode="RGBA"), DATA],
        [head(), (b"a\0b1", b""), DATA],
        [(b"HEAD", HEADER.to_bytes()[:-1]), DATA],
        [(b"HEAD", b""), DATA],
    ],
)
def test_a_file_with_the_wrong_chunks_is_corrupt(parts):
    with pytest.raises(CorruptError):
        Container.from_bytes(framed(*parts))


@pytest.mark.parametrize(
    ("offset", "value", "error"),
    [
        (0, bytes(4), CorruptError),
        (4, bytes(4), CorruptError),
        (0, b"\xff\xff\xff\xff", CorruptError),
        (0, b"\x01\x00\x00\x00\x01\x00\x00\x00", LimitError),
        (8, b"\x06", UnsupportedError),
        (9, b"\x10", CorruptError),
        (10, b"\x01", UnsupportedError),
        (27, b"\x02", UnsupportedError),
        (28, b"\x02", UnsupportedError),
        (31, b"\x02", CorruptError),
        (31, b"\x00", CorruptError),
        (32, b"\x00", CorruptError),
        (37, b"\x00", CorruptError),
    ],
)
def test_header_fields_that_cannot_be_are_refused(offset, value, error):
    with pytest.raises(error):
        Container.from_bytes(framed(patched_head(offset, value), DATA))


GUARD = dataclasses.replace(
    HEADER, kind=AVIF, digest=bytes(16), quality=0.0, transformed=False, transform=0, seed=0, mode="RGBA"
)


def guard_head(offset: int = 0, value: bytes = b"") -> bytes:
    payload = GUARD.to_bytes()
    return framed(
        (b"HEAD", payload[:offset] + value + payload[offset + len(value) :]), (b"ALPH", b"\0\xff"), (b"DATA", b"stream")
    )


def test_the_head_of_a_guard_is_read_and_its_bytes_are_pinned():
    assert Container.from_bytes(guard_head()).header == GUARD
    assert GUARD.to_bytes().hex() == (
        "0000030000000200040801" + 16 * "00" + "0000" + "0000" + "0000" + "00000000" + "08" + "deadbeef"
    )


@pytest.mark.parametrize(
    ("offset", "value", "error"),
    [
        (8, b"\x05\x10", CorruptError),
        (10, b"\x02", UnsupportedError),
        *((at, b"\x01", CorruptError) for at in (11, 20, 26, 29, 30, 31, 32, 33, 36)),
        (31, b"\x01\x01", CorruptError),
        (27, b"\x01", UnsupportedError),
        (28, b"\x01", UnsupportedError),
        (37, b"\x00", CorruptError),
    ],
)
def test_a_guard_that_speaks_of_a_model_is_refused(offset, value, error):
    """Arithmetic and coder 0 are the only ones there are with kind 1; of what else says something, all must be 0."""
    with pytest.raises(error):
        Container.from_bytes(guard_head(offset, value))


def test_limits_are_checked():
    data = PLAIN.to_bytes()
    with pytest.raises(LimitError, match="--max-pixels"):
        Container.from_bytes(data, Limits(pixels=768 * 512 - 1))
    with pytest.raises(LimitError):
        Container.from_bytes(data, Limits(file_bytes=len(data) - 1))
    with pytest.raises(LimitError):
        Container.from_bytes(framed(head(), *[(b"fuTU", b"")] * 2000, DATA))


def test_thin_pictures_count_as_what_they_are_coded_as():
    thin = framed(head(width=1 << 23, height=1), DATA)
    with pytest.raises(LimitError, match="is coded as 134217728 pixels"):
        Container.from_bytes(thin, Limits(pixels=(1 << 27) - 1))
    assert Container.from_bytes(thin, Limits(pixels=1 << 27)).header.width == 1 << 23
    assert Container.from_bytes(framed(head(width=3, height=3), DATA), Limits(pixels=9)).header.width == 3


def test_a_chunk_cannot_claim_more_than_is_there():
    data = PLAIN.to_bytes()
    with pytest.raises(CorruptError, match="claims 4294967295 bytes"):
        Container.from_bytes(data[:10] + b"\xff\xff\xff\xff" + data[14:])


def test_head_is_42_bytes():
    assert len(HEADER.to_bytes()) == HEAD_BYTES == 42


def test_the_container_imports_neither_torch_nor_numpy():
    code = "import sys, twcodec.container; print(sorted({'torch', 'numpy', 'PIL'} & set(sys.modules)))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
