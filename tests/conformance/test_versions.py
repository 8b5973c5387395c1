"""Section 3.2 of the format: files of versions that do not exist yet, row by row of its table."""

from __future__ import annotations

import json
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import slow_decoder as slow

import twcodec
from twcodec.cli.main import _code_of
from twcodec.errors import ExitCode, TwcError

ROOT = Path(__file__).resolve().parents[2]
VECTORS = ROOT / "formats" / "vectors"
TABLE = (ROOT / "formats" / "twc-1.md").read_text().split("| In the file | A decoder of version 1.0 |\n")[1]
ROWS = dict(re.findall(r"^\| (.+?) \| (.+?) \|$", TABLE.split("\n\n")[0], re.MULTILINE))

BASES = {name: (VECTORS / "valid" / f"{name}.twc").read_bytes() for name in ("specification", "guard-rgba-28x20")}
Chunks = list[tuple[bytes, bytes]]


def framed(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


def join(chunks: Chunks, minor: int, major: int = 1) -> bytes:
    """A file with every checksum right."""
    body = slow.MAGIC + bytes([major, minor]) + b"".join(framed(*chunk) for chunk in chunks)
    return body + framed(b"TEND", struct.pack(">I", zlib.crc32(body)))


def with_head(chunks: Chunks, at: int, value: bytes) -> Chunks:
    (kind, head), *others = chunks
    return [(kind, head[:at] + value + head[at + len(value) :]), *others]


def later_minor(base: Chunks) -> Iterator[bytes]:
    yield from (join(base, minor) for minor in (1, 7, 255))


def longer_head(base: Chunks) -> Iterator[bytes]:
    for more in (b"\0", b"\xff" * 22, bytes(100_000)):
        yield join([(b"HEAD", base[0][1] + more), *base[1:]], 1)


def ancillary(base: Chunks) -> Iterator[bytes]:
    """Some with names like those that have a meaning; the case of each letter counts."""
    new = [
        (b"nEWc", b"1"),
        (b"dATA", b"\xff" * 99),
        (b"hEAD", b""),
        (b"tEND", bytes(4)),
        (b"iccp", b"x"),
        (b"nEWc", b"2"),
    ]
    yield join([base[0], *new, *base[1:]], 3)
    yield join([*base, *new], 3)
    yield join([base[0], *(pair for chunk in base[1:] for pair in (new[0], chunk, new[1]))], 3)
    yield join([base[0], *[(b"aBCd", b"")] * 1000, *base[1:]], 3)


def critical(base: Chunks) -> Iterator[bytes]:
    yield join([base[0], (b"NEWc", b""), *base[1:]], 1)
    yield join([*base, (b"Data", b"")], 0)
    yield join([base[0], (b"DATB", b"in place of DATA")], 9)


def reserved_kinds(base: Chunks) -> Iterator[bytes]:
    for at, value in ((10, 2), (10, 255), (27, 2), (27, 255), (28, 2), (28, 255)):
        yield join(with_head(base, at, bytes([value])), 1)
    yield join(with_head(base, 0, b"\xff" * 42), 1)
    yield join(with_head(base, 0, bytes(10) + b"\x02" + bytes(31)), 1)
    yield join([(b"HEAD", b"\xff" * 60)], 1)


def reserved_modes(base: Chunks) -> Iterator[bytes]:
    yield from (join(with_head(base, 8, bytes([mode])), 1) for mode in (6, 255))
    if base[0][1][10] == 0:  # payload kind 1 has no transform at all
        yield from (join(with_head(base, 31, bytes([1, transform])), 1) for transform in (5, 255))


def other_major(base: Chunks) -> Iterator[bytes]:
    yield from (join(base, 0, major) for major in (0, 2, 255))
    yield slow.MAGIC + b"\x02\x00"
    yield slow.MAGIC + b"\x02\x00another frame altogether"


MADE_UP = {
    "a minor version above 0, and nothing else that is new": later_minor,
    "a longer HEAD": longer_head,
    "unknown ancillary chunks, anywhere between HEAD and TEND, any number of a type": ancillary,
    "an unknown critical chunk": critical,
    "a reserved payload kind, arithmetic or coder, whatever the rest of HEAD is": reserved_kinds,
    "a reserved mode or transform": reserved_modes,
    "another major version, whatever follows it": other_major,
}
DECODED = [row for row, what in ROWS.items() if what == "decodes it"]
REFUSED = [row for row, what in ROWS.items() if what == "refuses it: unsupported"]


def files(row: str, base: str) -> list[bytes]:
    return list(MADE_UP[row](slow.read_frame(BASES[base])[:-1]))


@pytest.fixture(scope="module")
def codec():
    return twcodec.open_codec(model="default-1", device="cpu")


def test_every_row_of_the_table_has_its_files():
    assert {*DECODED, *REFUSED} == set(ROWS) == set(MADE_UP)
    assert len(ROWS) == 7


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("row", DECODED)
def test_what_is_new_and_may_be_ignored_changes_nothing(codec, row, base):
    expected = codec.decode_picture(BASES[base])
    for data in files(row, base):
        codec.verify(data)
        found = codec.decode_picture(data)
        assert np.array_equal(found.samples, expected.samples)
        assert found.alpha is expected.alpha or np.array_equal(found.alpha, expected.alpha)
        assert found.metadata == expected.metadata
        ours, theirs = (twcodec.info(file).to_json() for file in (data, BASES[base]))
        changed = {key for key in ours if ours[key] != theirs[key]}
        assert changed <= {"file_bytes", "bpp", "chunks", "layout"}


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("row", REFUSED)
def test_what_is_new_and_must_be_known_is_refused(codec, row, base):
    for data in files(row, base):
        for call in (codec.decode, codec.verify):
            with pytest.raises(TwcError) as caught:
                call(data)
            assert caught.value.exit_code == ExitCode.UNSUPPORTED == 5, caught.value
            assert re.search("with a (later|matching) twc", str(caught.value))


@pytest.mark.parametrize("row", MADE_UP)
def test_the_decoder_of_the_text_agrees(row):
    expected = slow.read_chunks(BASES["specification"])
    for data in files(row, "specification"):
        if row in DECODED:
            head, chunks = slow.read_chunks(data)
            assert (head, chunks[b"DATA"]) == (expected[0], expected[1][b"DATA"])
            continue
        with pytest.raises(slow.Refused) as caught:
            slow.read_chunks(data)
        assert caught.value.kind == slow.UNSUPPORTED


@pytest.mark.parametrize("row", MADE_UP)
def test_so_does_the_command_line(row, tmp_path, capsys):
    for i, data in enumerate(files(row, "guard-rgba-28x20")):
        source, target = tmp_path / f"{i}.twc", tmp_path / f"{i}.png"
        source.write_bytes(data)
        assert _code_of(["decode", str(source), str(target)]) == (0 if row in DECODED else 5)
        assert target.exists() is (row in DECODED)


def test_the_encoder_writes_the_lowest_minor_version(codec, crop):
    from twcodec.codec.settings import Settings

    assert codec.encode_picture(crop(16, 16), Settings(4))[0][8:10] == b"\x01\x00"
    manifest = json.loads((VECTORS / "manifest.json").read_text())
    minors = {entry["file"]: (VECTORS / entry["file"]).read_bytes()[9] for entry in manifest["valid"]}
    assert {name for name, minor in minors.items() if minor} == {"valid/later-minor.twc"}
