"""`twc decode --crop --scale --depth --icc` and `twc encode --target-... --icc`, on the command line."""

import io
import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms


def array_of(path) -> np.ndarray:
    return np.asarray(Image.open(path))


def sixteen_bits(path) -> np.ndarray:
    """(H, W, C) of a PNG of 16 bits, without Pillow, which gives 8."""
    data, at, chunks = path.read_bytes(), 8, []
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        payload = data[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", data, at + 8 + length)[0] == zlib.crc32(kind + payload)
        chunks.append((kind, payload))
        at += 12 + length
    width, height, depth, colour = struct.unpack_from(">IIBB", chunks[0][1])
    assert depth == 16
    channels = {2: 3, 4: 2, 6: 4}[colour]
    raw = zlib.decompress(b"".join(payload for kind, payload in chunks if kind == b"IDAT"))
    rows = np.frombuffer(raw, np.uint8).reshape(height, 1 + 2 * channels * width)
    assert set(rows[:, 0]) == {1}
    steps = rows[:, 1:].reshape(height, width, 2 * channels)
    return np.cumsum(steps, axis=1, dtype=np.uint8).reshape(height, -1).view(">u2").reshape(height, width, channels)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("views")


@pytest.fixture(scope="module")
def photo(folder):
    import skimage.data

    path = folder / "photo.png"
    Image.fromarray(np.ascontiguousarray(skimage.data.astronaut()[64:192, 64:224])).save(path)
    return path


@pytest.fixture(scope="module")
def coded(folder, photo, codec):
    path = folder / "photo.twc"
    path.write_bytes(codec.encode(photo, seed=3))
    return path


def test_crop_and_scale(twc, coded, tmp_path):
    assert twc("decode", coded, tmp_path / "whole.png").code == 0
    done = twc("decode", "--json", "--crop", "10,20,64,50", "--scale", "1/2", coded, tmp_path / "part.png")
    assert done.code == 0, done.err
    assert (json.loads(done.out)["width"], json.loads(done.out)["height"]) == (32, 25)
    wanted = Image.open(tmp_path / "whole.png").crop((10, 20, 74, 70)).reduce(2)
    assert np.array_equal(array_of(tmp_path / "part.png"), np.asarray(wanted))


def test_the_same_in_a_sandbox(twc, coded, tmp_path):
    options = "--crop", "0,7,33,44", "--depth", "16", "--threads", "1"
    assert twc("decode", *options, coded, tmp_path / "a.png").code == 0
    assert twc("decode", *options, "--sandbox", coded, tmp_path / "b.png").code == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_sixteen_bits_in_colour(twc, coded, codec, tmp_path):
    assert twc("decode", "--depth", "16", coded, tmp_path / "deep.png").code == 0
    found, plain = sixteen_bits(tmp_path / "deep.png"), np.asarray(codec.decode(coded.read_bytes()))
    assert np.abs(found.astype(int) - plain.astype(int) * 257).max() <= 129
    assert len(np.unique(found % 257)) > 100


def test_sixteen_bits_with_alpha_and_metadata(twc, folder, codec, tmp_path):
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (20, 30, 4)).astype(np.uint8), "RGBA")
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image.info["icc_profile"] = profile
    (tmp_path / "a.twc").write_bytes(codec.encode(image))
    assert twc("decode", "--depth", "16", tmp_path / "a.twc", tmp_path / "a.png").code == 0
    assert np.array_equal(sixteen_bits(tmp_path / "a.png")[..., 3], np.asarray(image)[..., 3].astype(int) * 257)
    with Image.open(tmp_path / "a.png") as found:
        assert found.info["icc_profile"] == profile


@pytest.mark.parametrize(
    ("options", "name", "message"),
    [
        (("--crop", "1,2,3"), "x.png", "left,top,width,height"),
        (("--crop", "100,0,61,10"), "x.png", "reaches beyond the picture, 160x128 pixels"),
        (("--crop", "0,0,0,10"), "x.png", "a crop is"),
        (("--scale", "1/3"), "x.png", "1/8"),
        (("--depth", "16"), "x.jpg", "written as PNG, not as JPEG"),
        (("--depth", "16", "--icc", "srgb"), "x.png", "leave --icc or --depth out"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(twc, coded, tmp_path, options, name, message):
    done = twc("decode", *options, coded, tmp_path / name)
    assert (done.code, message in done.err) == (2, True), done.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "holds"),
    [
        (("--target-size", "1.5K"), lambda size: 0.99 * 1536 <= size <= 1536),
        (("--target-bpp", "0.7"), lambda size: abs(8 * size / (128 * 160) / 0.7 - 1) < 0.01),
        (("--target-psnr", "34"), None),
    ],
)
def test_targets(twc, photo, tmp_path, options, holds):
    done = twc("encode", "--json", *options, photo, tmp_path / "t.twc")
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert holds(report["bytes"]) if holds else abs(report["psnr"] - 34) <= 0.05
    assert (tmp_path / "t.twc").stat().st_size == report["bytes"]


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--target-size", "100"), 6, "the target of 100 bytes is out of reach; the closest"),
        (("--target-psnr", "70"), 6, "the target of 70 dB is out of reach"),
        (("--target-bpp", "0"), 2, "no number above 0"),
        (("--target-bpp", "1", "-q", "3"), 2, "give one of quality, target"),
        (("--target-size", "lots"), 2, "is no size"),
    ],
)
def test_targets_that_cannot_be(twc, photo, tmp_path, options, code, message):
    done = twc("encode", *options, photo, tmp_path / "t.twc")
    assert (done.code, message in done.err) == (code, True), done.err
    assert not list(tmp_path.iterdir())


@pytest.fixture
def wide(tmp_path):
    """A picture in other colours: a profile whose red and blue have changed places with sRGB's."""
    image = Image.new("RGBA", (32, 32), (200, 80, 40, 120))
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    red, blue = lab.index(b"rXYZ"), lab.index(b"bXYZ")
    swapped = bytearray(lab)
    swapped[red + 4 : red + 12], swapped[blue + 4 : blue + 12] = lab[blue + 4 : blue + 12], lab[red + 4 : red + 12]
    path = tmp_path / "wide.png"
    image.save(path, icc_profile=bytes(swapped))
    return path


@pytest.mark.parametrize("where", ["encode", "decode"])
def test_colours_become_srgb_when_asked_for(twc, wide, tmp_path, where):
    to_srgb = ("--icc", "srgb")
    done = twc("encode", "-q", "7", *(to_srgb if where == "encode" else ()), wide, tmp_path / "a.twc")
    assert done.code == 0, done.err
    done = twc("decode", *(to_srgb if where == "decode" else ()), tmp_path / "a.twc", tmp_path / "a.png")
    assert done.code == 0, done.err
    image = Image.open(tmp_path / "a.png")
    assert "icc_profile" not in image.info
    assert np.abs(np.asarray(image)[16, 16].astype(int) - (40, 80, 200, 120)).max() <= 6


def test_sixteen_bit_grey_is_left_as_it_is(twc, codec, tmp_path):
    deep = Image.fromarray(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16)
    (tmp_path / "a.twc").write_bytes(codec.encode(deep))
    done = twc("decode", "--icc", "srgb", tmp_path / "a.twc", tmp_path / "a.png")
    assert done.code == 0, done.err
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "I;16"


def test_they_stay_as_they_are_when_not(twc, wide, tmp_path):
    twc("encode", "-q", "7", wide, tmp_path / "a.twc")
    assert twc("decode", tmp_path / "a.twc", tmp_path / "a.png").code == 0
    with Image.open(tmp_path / "a.png") as image, Image.open(wide) as given:
        assert image.info["icc_profile"] == given.info["icc_profile"]
        image.load()
    assert np.abs(np.asarray(image)[16, 16].astype(int) - (200, 80, 40, 120)).max() <= 6


def test_a_broken_profile_is_said_and_left(twc, photo, tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    broken = profile[:128] + b"\xff" * 20 + profile[148:]
    buffer = io.BytesIO()
    Image.open(photo).save(buffer, "PNG", icc_profile=broken)
    (tmp_path / "b.png").write_bytes(buffer.getvalue())
    done = twc("encode", "--icc", "srgb", tmp_path / "b.png", tmp_path / "b.twc")
    assert done.code == 0
    assert "the colours were left as they are: the ICC profile is broken" in done.err
