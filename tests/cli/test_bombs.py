"""Small files that claim large pictures are refused before torch is imported. benchmarks/faults.py bomb: the figures."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from twcodec.container import Container
from twcodec.errors import CorruptError, UnsupportedError
from twcodec.models import beforehand, catalogue
from twcodec.models.model import Model

CHECK = """
import sys
from twcodec.cli.main import _code_of
code = _code_of(sys.argv[1:])
assert not {"torch", "numpy"} & set(sys.modules)
peak = open("/proc/self/status").read().split("VmHWM:")[1].split()[0]
assert int(peak) < 150_000, peak  # kB; ru_maxrss would begin with that of whoever started this
sys.exit(code)
"""


def bomb(coded_bytes: bytes, **changes) -> Container:
    """134 megapixels in some 150 bytes, all checksums right."""
    container = Container.from_bytes(coded_bytes)
    header = replace(container.header, **{"width": 11585, "height": 11585, **changes})
    return replace(container, header=header, data=container.data[:40])


@pytest.mark.parametrize("command", ["decode", "verify", "compare"])
@pytest.mark.parametrize(
    ("what", "code"), [("within the limit", 4), ("any size", 4), ("alpha", 4), ("no model", 5), ("too large", 6)]
)
def test_a_bomb_is_refused_without_torch_and_without_memory(coded_bytes, tmp_path, command, what, code):
    made = bomb(coded_bytes)
    if what == "alpha":
        made = replace(bomb(coded_bytes, mode="RGBA"), alpha=b"\0\xff")
    elif what == "no model":
        made = bomb(coded_bytes, digest=bytes(16))
    elif what in ("too large", "any size"):
        made = bomb(coded_bytes, width=65535, height=65535)
    options = ["--max-pixels", str(1 << 40)] if what == "any size" else []
    (tmp_path / "bomb.twc").write_bytes(made.to_bytes())
    assert (tmp_path / "bomb.twc").stat().st_size <= 200
    arguments = [command, *options, "bomb.twc", *([] if command == "verify" else ["out.png"])]
    done = subprocess.run([sys.executable, "-c", CHECK, *arguments], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == code, done.stderr
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize("entry", catalogue.EMBEDDED, ids=lambda entry: entry.name)
def test_what_is_known_of_a_model_without_torch_is_what_the_model_says(entry):
    model = Model(entry.read(), entry.name, __import__("torch").device("cpu"))
    assert beforehand._floor(entry.digest) == pytest.approx(model.family.entropy._z_floor)


def test_ordinary_files_are_not_looked_into(coded_bytes, monkeypatch):
    monkeypatch.setattr(beforehand, "_floor", None)
    beforehand.check(Container.from_bytes(coded_bytes), "default")


def test_a_small_file_of_a_small_picture_is_possible(codec):
    from PIL import Image

    flat = codec.encode(Image.new("RGB", (500, 300), "teal"), quality=1)
    beforehand.check(Container.from_bytes(flat), "default")


def test_the_least_size_is_the_models(coded_bytes):
    container = Container.from_bytes(coded_bytes)
    floor = beforehand._floor(container.header.digest)
    most = int((8 * 40 + 64) / floor) * 64
    beforehand.check(bomb(coded_bytes, width=most, height=64), "default")
    with pytest.raises(CorruptError, match="40 bytes of coded symbols cannot hold"):
        beforehand.check(bomb(coded_bytes, width=most + 1, height=64), "default")


def test_a_model_that_is_given_is_taken_whatever_the_file_needs(coded_bytes):
    stranger = bomb(coded_bytes, digest=bytes(16), width=64, height=64)
    beforehand.check(stranger, "mine.safetensors")
    with pytest.raises(UnsupportedError, match="needs the model with digest 0000"):
        beforehand.check(stranger, "default")


@pytest.mark.parametrize(
    "damage", [lambda d: d[:4000], lambda d: b"", lambda d: b"\xff" * 100, lambda d: b"\2\0\0\0\0\0\0\0{}"]
)
def test_of_a_damaged_model_nothing_is_said(coded_bytes, monkeypatch, damage):
    read = catalogue.read_by_digest
    monkeypatch.setattr(catalogue, "read_by_digest", lambda digest: ("it", damage(read(digest)[1])))
    beforehand.check(bomb(coded_bytes), "default")
