"""Configuring the plugin, and what it leaves as it is: twc's own reading."""

from __future__ import annotations

import ast
import io
import struct
import zlib

import pytest
from PIL import Image

import twcodec
import twcodec.pillow
from twcodec.errors import MissingError, TwcError, UsageError

from .conftest import ROOT, VECTORS, saved


def test_the_configuration_holds_for_loading_and_saving(data, photo):
    twcodec.pillow.configure(device="cpu", threads=1, max_pixels=1000)
    with pytest.raises(OSError, match="the limit is 1000"):
        Image.open(io.BytesIO(data)).load()
    with pytest.raises(OSError, match="the limit is 1000"):
        saved(photo)
    twcodec.pillow.configure(model="default-1", device="cpu")
    assert twcodec.info(saved(photo)).model == "default-1"
    twcodec.pillow.configure(device="cpu")
    assert twcodec.info(saved(photo)).model == twcodec.info(data).model


def test_the_limit_of_pixels_holds_for_files_without_a_model():
    twcodec.pillow.configure(device="cpu", max_pixels=28 * 20 - 1)
    with (
        Image.open(VECTORS / "valid" / "guard-rgba-28x20.twc") as image,
        pytest.raises(OSError, match="the limit is 559"),
    ):
        image.load()


def test_a_device_that_is_not_there_is_told_when_it_is_needed(data):
    twcodec.pillow.configure(device="cuda:99")
    image = Image.open(io.BytesIO(data))
    with pytest.raises(OSError, match="cuda:99") as caught:
        image.load()
    assert isinstance(caught.value.__cause__, MissingError)
    twcodec.pillow.configure(device="cpu")
    assert image.load() is not None


def test_what_cannot_be_meant_is_refused(data):
    with pytest.raises(UsageError):
        twcodec.pillow.configure(max_memory=5)


def test_twc_still_refuses_its_own_files_as_input(codec, path):
    with pytest.raises(TwcError, match="this is a TWC file already"):
        codec.encode(path)
    with pytest.raises(TwcError, match="this is a TWC file already"):
        codec.encode(path.read_bytes())


def test_twc_encodes_an_image_that_the_plugin_has_opened(codec, path, decoded):
    with Image.open(path) as image:
        assert codec.encode(image, seed=1) == codec.encode(decoded, seed=1)


def test_no_part_of_twc_imports_the_plugin():
    for source in (ROOT / "twcodec").rglob("*.py"):
        for node in ast.walk(ast.parse(source.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            module = getattr(node, "module", None) or ""
            assert "twcodec.pillow" not in (module, *names), source
            assert not (module == "twcodec" and "pillow" in names), source


def test_a_chunk_that_claims_more_than_there_is_takes_no_memory(data):
    claims = data[:64] + struct.pack(">I4s", 0xFFFFFFF0, b"iCCP") + bytes(100)
    assert zlib.crc32(claims[14:60]) == int.from_bytes(claims[60:64], "big")
    with pytest.raises(OSError, match=r"^image file is truncated"):
        Image.open(io.BytesIO(claims)).load()
