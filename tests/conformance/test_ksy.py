"""formats/twc-1.ksy as a second parser: what it makes of the golden files, against the decoder of the text."""

from __future__ import annotations

import json
from pathlib import Path

import ksy
import pytest
import slow_decoder as slow

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "formats" / "vectors"
MANIFEST = json.loads((FOLDER / "manifest.json").read_text())
SEEN = """
    empty magic-cut magic-png text-mode-lf text-mode-crlf text-mode-7-bits cut-prefix cut-head cut-data cut-tend no-tend
    behind-tend flip-length length-huge later-major major-0 head-short width-0 height-huge later-kind later-arithmetic
    later-coder transformed-2 ways-0 alpha-empty xmp-4-bytes guard-arithmetic guard-coder guard-later-kind
""".split()
"""Malformed files that it refuses. In the others wrong is what Kaitai cannot see: checksums, symbols, AV1, which chunks
there are, and whether they and the fields of HEAD agree."""


@pytest.fixture(scope="module")
def description() -> ksy.Description:
    return ksy.Description(ROOT / "formats" / "twc-1.ksy")


def read(entry: dict) -> bytes:
    return (FOLDER / entry["file"]).read_bytes()


def name(entry: dict) -> str:
    return Path(entry["file"]).stem


@pytest.mark.parametrize("entry", MANIFEST["valid"], ids=name)
def test_it_finds_the_chunks_and_checksums_of_sound_files(description, entry):
    found, data = description.parse(read(entry)), read(entry)
    chunks = [found["head"], *found["chunks"]]
    frame = slow.read_frame(data)
    assert [chunk["type"].encode() for chunk in chunks] == [kind for kind, _ in frame]
    assert [chunk["length"] for chunk in chunks] == [len(payload) for _, payload in frame]
    assert chunks[-1]["payload"]["file_crc"].to_bytes(4, "big") == frame[-1][1]
    for chunk, (kind, payload) in zip(chunks, frame, strict=True):
        assert chunk["crc"] == slow.zlib.crc32(kind + payload)
        if isinstance(chunk["payload"], bytes):
            assert chunk["payload"] == payload


@pytest.mark.parametrize("entry", MANIFEST["valid"], ids=name)
def test_it_finds_the_fields_of_head(description, entry):
    head = description.parse(read(entry))["head"]["payload"]
    assert (head["width"], head["height"]) == (entry["width"], entry["height"])
    assert head["mode"] == ("1", "L", "LA", "RGB", "RGBA", "I;16").index(entry["mode"])
    assert head["has_alpha"] is (entry["mode"] in ("LA", "RGBA"))
    crc = f"{head['symbols_crc']:08x}"
    if "payload" in entry:
        assert (head["payload_kind"], head["model_digest"], crc) == (1, bytes(16), entry["samples"]["crc32"])
        return
    assert head["model_digest"].hex() == entry.get("model", MANIFEST["model"])
    assert (head["quality"], crc) == (entry["quality"] / 1000, entry["symbols"]["crc32"])
    assert (head["transform"], head["seed"]) == (entry["transform"]["id"], entry["transform"]["seed"])
    assert (head["later"] == b"") is (name(entry) != "later-minor")


@pytest.mark.parametrize("entry", [e for e in MANIFEST["valid"] if "metadata" in e], ids=name)
def test_it_unpacks_metadata(description, entry):
    packed = {
        c["type"]: c["payload"] for c in description.parse(read(entry))["chunks"] if c["type"] in entry["metadata"]
    }
    data = {kind: body["stored"] if "stored" in body else body["deflated"] for kind, body in packed.items()}
    assert {kind: found.hex() for kind, found in data.items()} == entry["metadata"]
    assert all(body["unpacked_length"] == len(data[kind]) for kind, body in packed.items())


@pytest.mark.parametrize("entry", MANIFEST["malformed"], ids=name)
def test_it_refuses_what_it_can_see(description, entry):
    try:
        description.parse(read(entry))
    except ksy.Invalid:
        refused = True
    else:
        refused = False
    assert refused is (name(entry) in SEEN)


def test_the_interpreter_passes_over_nothing_that_it_does_not_know(tmp_path):
    text = (ROOT / "formats" / "twc-1.ksy").read_text()
    (tmp_path / "a.ksy").write_text(text.replace("size-eos: true", "size-till-full-moon: true", 1))
    with pytest.raises(AssertionError):
        ksy.Description(tmp_path / "a.ksy").parse(read(MANIFEST["valid"][0]))


def test_its_enums_are_those_of_the_text():
    text = (ROOT / "formats" / "twc-1.md").read_text()
    enums = ksy.Description(ROOT / "formats" / "twc-1.ksy").enums
    for label, number in enums["transform"].items():
        assert number == 0 or f"| {number} | {label.replace('_', '-')} |" in text
    assert len(enums["mode"]) == len(slow.MODES)
