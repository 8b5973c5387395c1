"""The golden files of formats/vectors: what every decoder of version 1 makes of them, for ever (its README says how)."""

from __future__ import annotations

import hashlib
import json
import runpy
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import slow_decoder as slow
import torch
from PIL import Image

import twcodec
from twcodec.errors import ExitCode, TwcError
from twcodec.exact import products

FOLDER = Path(__file__).resolve().parents[2] / "formats" / "vectors"
HAS_VNNI = bool(getattr(torch.cpu, "_is_vnni_supported", bool)())
MODEL = FOLDER.parents[1] / "twcodec" / "models" / "weights" / "default-1.safetensors"
MANIFEST = json.loads((FOLDER / "manifest.json").read_text())
VALID, MALFORMED = MANIFEST["valid"], MANIFEST["malformed"]
WITH_PIXELS = [entry for entry in VALID if "pixels" in entry]
LEARNED = [entry for entry in VALID if "symbols" in entry]
GUARDS = [entry for entry in VALID if entry.get("payload") == "avif"]


def name(entry: dict) -> str:
    return Path(entry["file"]).stem


def read(entry: dict) -> bytes:
    return (FOLDER / entry["file"]).read_bytes()


CONDITIONS = {
    f"{threads}-thread{'s' * (threads > 1)}-{'oneDNN' if onednn else 'plain'}": (threads, onednn)
    for threads in (1, 2)
    for onednn in (True, False)
}


pytestmark = pytest.mark.filterwarnings("ignore:TF32 acceleration on top of oneDNN")


@pytest.fixture(scope="module")
def opened():
    """Codecs by the condition under which each was opened."""
    return {}


@pytest.fixture(params=CONDITIONS.values(), ids=CONDITIONS)
def everywhere(request, opened):
    """A codec under each of the conditions; without oneDNN its integer layers are in float64 instead of bytes."""
    threads, onednn = request.param
    with torch.backends.mkldnn.flags(enabled=onednn):  # around one test only: others' codecs must not be opened in it
        if request.param not in opened:
            opened[request.param] = twcodec.open_codec(device="cpu", threads=threads)
        yield opened[request.param]


# --- The files themselves -------------------------------------------------------------------------------------------


def test_the_files_are_those_of_the_manifest():
    listed = [entry["file"] for entry in (*VALID, *MALFORMED)] + [entry["pixels"]["file"] for entry in WITH_PIXELS]
    there = [path.relative_to(FOLDER).as_posix() for path in FOLDER.glob("*/*") if path.suffix in (".twc", ".png")]
    assert sorted(there) == sorted(listed)
    for entry in (*VALID, *MALFORMED):
        assert hashlib.sha256(read(entry)).hexdigest() == entry["sha256"], entry["file"]


def test_they_are_small():
    files = [FOLDER / "manifest.json", *FOLDER.glob("*/*.twc"), *FOLDER.glob("*/*.png")]
    assert sum(path.stat().st_size for path in files) < 250_000


def test_they_cover_the_format():
    transforms = {(entry["transform"]["id"], bool(entry["transform"]["turn"] & 4)) for entry in LEARNED}
    assert {entry["mode"] for entry in VALID} == {"1", "L", "LA", "RGB", "RGBA", "I;16"}
    assert transforms == {(0, False), (1, False), (1, True), (2, False), (3, False), (3, True), (4, False), (4, True)}
    assert any(entry["quality"] % 1000 for entry in LEARNED)
    assert any(entry["symbols"]["escaped_z"] for entry in LEARNED)
    assert {entry["mode"] for entry in GUARDS} == {"1", "L", "RGBA"}
    assert {entry["exit_code"] for entry in MALFORMED} == {3, 4, 5, 6}


def test_they_are_never_made_again():
    before = {path: path.stat().st_mtime_ns for path in FOLDER.rglob("*") if path.suffix != ".pyc"}
    refuse = runpy.run_path(str(FOLDER / "make.py"), run_name="make")["main"]
    with pytest.raises(SystemExit, match="never made again"):
        refuse(FOLDER)
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_nor_are_those_that_were_added(monkeypatch):
    def golden() -> dict[Path, bytes]:
        files = [FOLDER / "manifest.json", *FOLDER.glob("*/*.twc"), *FOLDER.glob("*/*.png")]
        return {path: path.read_bytes() for path in files}

    before = golden()
    monkeypatch.syspath_prepend(str(FOLDER))
    add = runpy.run_path(str(FOLDER / "add_guard.py"), run_name="add_guard")["main"]
    with pytest.raises(FileExistsError):
        add()
    assert golden() == before


# --- Level A: the symbols ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", LEARNED, ids=name)
def test_symbols(everywhere, entry):
    symbols, expected = everywhere.decode_symbols(read(entry)), entry["symbols"]
    assert (symbols.z.numel(), symbols.y.numel()) == (expected["z"], expected["y"])
    coded = b"".join(part.cpu().numpy().astype(">i2").tobytes() for part in (symbols.z, symbols.y))
    assert f"{zlib.crc32(coded):08x}" == expected["crc32"]
    assert hashlib.sha256(coded).hexdigest() == expected["sha256"]


@pytest.mark.parametrize("onednn", [True, False])
def test_the_conditions_multiply_in_two_ways_where_the_processor_has_byte_products(onednn):
    with torch.backends.mkldnn.flags(enabled=onednn):
        assert products.has_byte_products(torch.device("cpu")) is (onednn and HAS_VNNI)


@pytest.mark.parametrize("entry", GUARDS, ids=name)
def test_samples_of_the_guard(codec, entry):
    info, coded = twcodec.info(read(entry)), codec.decode_picture(read(entry)).samples.tobytes()
    assert (info.width, info.height, info.mode, info.payload) == (
        entry["width"],
        entry["height"],
        entry["mode"],
        "avif",
    )
    assert f"{zlib.crc32(coded):08x}" == entry["samples"]["crc32"]
    assert hashlib.sha256(coded).hexdigest() == entry["samples"]["sha256"]


@pytest.mark.parametrize("entry", LEARNED, ids=name)
def test_header_and_transform(entry):
    info = twcodec.info(read(entry))
    assert (info.width, info.height, info.mode) == (entry["width"], entry["height"], entry["mode"])
    assert round(info.quality * 1000) == entry["quality"]
    assert info.seed == entry["transform"]["seed"]
    turn, dy, dx = (entry["transform"][key] for key in ("turn", "dy", "dx"))
    if info.parameters:
        assert info.parameters == {
            "transpose": bool(turn & 4),
            "flip_rows": bool(turn & 2),
            "flip_columns": bool(turn & 1),
            "shift_down": dy,
            "shift_right": dx,
        }
    else:
        assert (turn, dy, dx) == (0, 0, 0)


@pytest.mark.parametrize("entry", [e for e in VALID if "metadata" in e], ids=name)
def test_metadata(codec, entry):
    found = codec.decode_picture(read(entry)).metadata
    expected = {kind: bytes.fromhex(data) for kind, data in entry["metadata"].items()}
    assert (found.icc, found.exif, found.xmp) == tuple(expected.get(kind) for kind in ("iCCP", "eXIf", "xMPd"))
    assert [list(pair) for pair in found.text] == entry["text"]


# --- Level B: the pixels ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", WITH_PIXELS, ids=name)
def test_pixels(everywhere, entry):
    found = everywhere.decode(read(entry))
    with Image.open(FOLDER / entry["pixels"]["file"]) as reference:
        assert (found.mode, found.size) == (reference.mode, reference.size)
        ours, theirs = np.asarray(found).astype(int), np.asarray(reference).astype(int)
    if found.mode in ("LA", "RGBA"):
        np.testing.assert_array_equal(ours[..., -1], theirs[..., -1])
        ours, theirs = ours[..., :-1], theirs[..., :-1]
    assert np.abs(ours - theirs).max() <= entry["pixels"]["peak"]
    assert np.sqrt(np.mean((ours - theirs) ** 2)) <= entry["pixels"]["rms"]


# --- Level C: malformed files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", MALFORMED, ids=name)
def test_refusal(codec, entry):
    with pytest.raises(TwcError) as caught:
        codec.decode(read(entry))
    assert caught.value.exit_code == ExitCode(entry["exit_code"]), caught.value
    with pytest.raises(TwcError) as caught:
        codec.verify(read(entry))
    assert caught.value.exit_code == ExitCode(entry["exit_code"]), caught.value


def test_no_refusal_takes_much_memory(codec):
    for entry in MALFORMED:
        data = read(entry)
        tracemalloc.start()
        with pytest.raises(TwcError):
            codec.verify(data)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2 << 20, entry["file"]


def test_the_slow_decoder_refuses_them_for_the_same_kind_of_reason():
    model = slow.Model(MODEL.read_bytes())
    for entry in MALFORMED:
        with pytest.raises(slow.Refused) as caught:
            slow.decode(read(entry), model)
        without_av1 = slow.UNSUPPORTED if entry.get("payload") == "avif" else entry["kind"]
        assert caught.value.kind == without_av1, (entry["file"], caught.value)
