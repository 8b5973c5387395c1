"""The guard: an AVIF stream that is sent where all learned branches fail, and what is refused when one is read."""

import dataclasses
import io
import random
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from twcodec.codec import choice, guard
from twcodec.codec.info import info
from twcodec.codec.settings import Settings
from twcodec.container import Container
from twcodec.container.header import AVIF, LATENTS
from twcodec.errors import CorruptError, LimitError, MissingError, TwcError, UsageError
from twcodec.imaging import avif
from twcodec.imaging.picture import Metadata, Picture

GUARD = {"guard": "avif", "measure": True}
SIZES = [(1, 1), (300, 7), (7, 300), (33, 47)]

PINNED = bytes.fromhex(
    "895457430d0a1a0a01000000002a48454144000000060000000403080100000000000000000000000000000000000000"
)
"""The beginning of a guard file, up to the transform flag, for 6 x 4 pixels of RGB."""


def blocks(height: int, width: int, mode: str = "RGB", side: int = 4) -> Picture:
    """Random black and white squares, as of a QR code: nothing that the model has learnt."""
    rng = np.random.default_rng(height * width)
    cells = rng.integers(0, 2, (-(-height // side), -(-width // side)))
    plane = np.kron(cells, np.ones((side, side), int))[:height, :width, None].astype(np.uint8)
    depth = 1 if mode == "1" else 8
    samples = np.repeat(plane * (1 if depth == 1 else 255), 3 if mode.startswith("RGB") else 1, axis=2)
    alpha = (np.arange(height * width) % 251).astype(np.uint8).reshape(height, width) if mode.endswith("A") else None
    return Picture(samples, mode, depth, alpha, Metadata(xmp=b"<x/>", text=(("Title", "squares"),)))


@pytest.fixture
def hopeless(monkeypatch):
    """The guard wins whatever it costs."""
    monkeypatch.setattr(guard, "THRESHOLD", 0.0)


@pytest.fixture(scope="module")
def file(codec):
    data, report = codec.encode_picture(blocks(40, 56), Settings(4, seed=1, **GUARD))
    assert report.chosen.transform == "guard"
    return data


def loss_of_file(codec, picture, data: bytes, quality: float) -> float:
    """Nothing that the encoder said is believed."""
    levels = (1 << picture.depth) - 1
    error = np.mean((codec.decode_picture(data).samples.astype(float) - picture.samples) ** 2) / levels**2
    return 8 * len(data) / (picture.width * picture.height) + codec.model.lambda_(quality) * 255**2 * float(error)


# --- The choice ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["astronaut", "camera", "chelsea", "coffee", "rocket", "coins"])
@pytest.mark.parametrize("quality", [2, 7])
def test_a_photograph_never_chooses_it_and_its_file_does_not_change(codec, name, quality):
    import skimage.data

    samples = getattr(skimage.data, name)()[:256, :256]
    picture = Picture(
        np.ascontiguousarray(samples.reshape(*samples.shape[:2], -1)), "RGB" if samples.ndim == 3 else "L"
    )
    data, report = codec.encode_picture(picture, Settings(quality, seed=1, **GUARD))
    assert report.branches[-1].transform == "guard"
    assert not report.branches[-1].chosen
    assert data == codec.encode_picture(picture, Settings(quality, seed=1, measure=True))[0]


@pytest.mark.parametrize("quality", [2, 4, 6])
def test_squares_that_no_network_has_learnt_choose_it(codec, quality):
    picture = blocks(96, 120)
    data, report = codec.encode_picture(picture, Settings(quality, **GUARD))
    *learned, conventional = report.branches
    assert report.chosen is conventional
    assert min(branch.loss for branch in learned) > guard.THRESHOLD * conventional.loss
    assert report.to_json()["branches"][report.to_json()["chosen"]]["transform"] == "guard"
    assert report.loss == pytest.approx(loss_of_file(codec, picture, data, quality), rel=1e-9)
    assert (report.bytes, report.precision) == (len(data), "fp32")
    without, _ = codec.encode_picture(picture, Settings(quality))
    assert loss_of_file(codec, picture, without, quality) > guard.THRESHOLD * report.loss


@pytest.mark.parametrize("metric", ["mse", "ms-ssim"])
def test_no_file_costs_more_than_the_threshold_allows(codec, crop, metric):
    for picture in (crop(64, 80), blocks(64, 80), blocks(64, 80, "L", 1)):
        _, report = codec.encode_picture(picture, Settings(4, metric=metric, **GUARD))
        assert report.loss <= guard.THRESHOLD * report.branches[-1].loss


def test_it_is_sent_exactly_above_the_threshold(codec, crop, monkeypatch):
    picture, settings = crop(64, 80), Settings(4, seed=1, **GUARD)
    *learned, conventional = codec.encode_picture(picture, settings)[1].branches
    ratio = min(branch.loss for branch in learned) / conventional.loss
    for threshold, sent in ((ratio * 1.0001, False), (ratio * 0.9999, True)):
        monkeypatch.setattr(guard, "THRESHOLD", threshold)
        data, report = codec.encode_picture(picture, settings)
        assert (report.chosen.transform == "guard") is sent
        assert Container.from_bytes(data).header.kind == (AVIF if sent else LATENTS)


def test_a_model_that_fails_is_what_it_is_for(codec, crop, monkeypatch):
    """What an attack does: the same photograph, and every branch's loss is large."""
    score = choice.score
    monkeypatch.setattr(
        choice, "score", lambda *args: [dataclasses.replace(s, loss=4 * s.loss, penalty=0.0) for s in score(*args)]
    )
    picture = crop(64, 80)
    data, report = codec.encode_picture(picture, Settings(4, precision="fp32", **GUARD))
    assert report.chosen.transform == "guard"
    assert np.abs(codec.decode_picture(data).samples.astype(int) - picture.samples).mean() < 8


def test_without_the_option_it_is_not_tried(codec, monkeypatch):
    monkeypatch.setattr(guard, "find", None)
    monkeypatch.setattr(avif, "check_support", None)
    _, report = codec.encode_picture(blocks(32, 32), Settings(4))
    assert all(branch.transform != "guard" for branch in report.branches)


@pytest.mark.parametrize("dip", [3, 6, 48, 51, 96, 99])
def test_the_search_finds_the_only_dip(dip, monkeypatch):
    tried = []
    monkeypatch.setattr(
        guard, "_made", lambda _, quality, speed: tried.append((quality, speed)) or guard.Guard(b"", quality, None)
    )
    assert guard.find(blocks(1, 1), lambda made: abs(made.quality - dip)).quality == dip
    assert len(tried) == len(set(tried)) == 8
    assert [speed for _, speed in tried] == 7 * [guard.SEARCH_SPEED] + [guard.SPEED]


def test_sixteen_bits_are_encoded_without_it_and_it_is_said(codec):
    samples = (np.arange(32 * 32) * 60).astype(np.uint16).reshape(32, 32, 1)
    data, report = codec.encode_picture(Picture(samples, "I;16", 16), Settings(4, **GUARD))
    assert report.warnings == ("no guard: AVIF holds 8 bits a sample, the picture has 16",)
    assert (len(report.branches), Container.from_bytes(data).header.kind) == (2, LATENTS)


def test_what_does_not_fit_is_encoded_without_it_and_it_is_said(monkeypatch):
    thin = Picture(np.zeros((1, 32769, 1), np.uint8), "L")
    assert "longer than the 32768 pixels" in guard.obstacle(thin)
    monkeypatch.setattr(guard.resources, "budget", lambda most: most)
    monkeypatch.setattr(guard.resources, "resident", lambda: 100 << 20)
    small = blocks(1000, 1000)
    assert guard.obstacle(small, 200 << 20) is None
    assert guard.obstacle(small, 120 << 20) == "no guard: coding it as AVIF takes about 148M, 120M are allowed"


def test_a_pillow_without_avif_is_missing(codec, file, monkeypatch):
    monkeypatch.setattr(avif.features, "check", lambda name: name != "avif")
    for call in (
        lambda: codec.decode(file),
        lambda: codec.verify(file),
        lambda: codec.encode_picture(blocks(8, 8), Settings(4, **GUARD)),
    ):
        with pytest.raises(MissingError, match="needs AVIF"):
            call()


def test_another_guard_cannot_be_meant():
    with pytest.raises(UsageError, match="none, avif"):
        Settings(guard="jpeg")


# --- What is written is read ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA"])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_every_mode_and_size_comes_back_as_it_was_measured(codec, hopeless, mode, height, width):
    picture = blocks(height, width, mode)
    data, report = codec.encode_picture(picture, Settings(6, **GUARD))
    codec.verify(data)
    back = codec.decode_picture(data)
    assert (back.mode, back.depth, back.metadata) == (picture.mode, picture.depth, picture.metadata)
    assert back.samples.shape == picture.samples.shape
    assert back.alpha is picture.alpha is None or np.array_equal(back.alpha, picture.alpha)
    assert report.loss == pytest.approx(loss_of_file(codec, picture, data, 6), rel=1e-9)
    assert zlib.crc32(back.samples.tobytes()) == Container.from_bytes(data).header.symbols_crc
    assert codec.decode(data).mode == mode


def test_the_header_names_no_model_and_info_says_what_it_is(codec, file):
    header = Container.from_bytes(file).header
    assert (header.kind, header.digest, header.quality, header.transformed) == (AVIF, bytes(16), 0.0, False)
    found = info(file)
    assert (found.payload, found.model, found.width, found.height) == ("avif", None, 56, 40)
    with pytest.raises(UsageError, match="no symbols"):
        codec.decode_symbols(file)


def test_the_beginning_of_a_file_is_pinned(codec, hopeless):
    data, _ = codec.encode_picture(Picture(np.zeros((4, 6, 3), np.uint8), "RGB"), Settings(4, **GUARD))
    assert data.startswith(PINNED)


def test_colours_are_the_formulas_of_the_format_not_a_librarys(codec, crop):
    """Against real numbers: BT.601 in full range, as every library has it, give or take a rounding."""
    stream = avif.pack_avif(crop(48, 64).samples, 70, 9)
    ours = avif.unpack_avif(stream, 48, 64, 3).astype(int)
    with Image.open(io.BytesIO(avif._as_planes(stream))) as image:
        v, y, u = np.moveaxis(np.asarray(image).astype(float), 2, 0) - [[[128]], [[0]], [[128]]]
    exact = np.stack([y + 1.402 * v, y - 0.344136286 * u - 0.714136286 * v, y + 1.772 * u], axis=2)
    assert np.abs(ours - np.clip(exact, 0, 255)).max() < 0.51
    with Image.open(io.BytesIO(stream)) as image:
        assert np.abs(ours - np.asarray(image)).max() <= 1


def test_the_stream_is_an_avif_file_that_holds_nothing_else(codec, file):
    with Image.open(io.BytesIO(Container.from_bytes(file).data)) as image:
        assert (image.format, image.size, image.mode) == ("AVIF", (56, 40), "RGB")
        assert not {"exif", "icc_profile", "xmp"} & set(image.info)


def test_no_torch_is_imported_for_one(file, tmp_path):
    (tmp_path / "a.twc").write_bytes(file)
    code = (
        "import sys; from twcodec.cli.main import _code_of\n"
        "for args in (['info', 'a.twc'], ['verify', 'a.twc'], ['decode', 'a.twc', 'a.png']):\n"
        "    assert _code_of(args) == 0\n"
        "    assert args[0] != 'info' or 'PIL' not in sys.modules\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, capture_output=True)
    assert (tmp_path / "a.png").is_file()


# --- Files from strangers -------------------------------------------------------------------------------------------------


def forged(file: bytes, data: bytes | None = None, **changes) -> bytes:
    """With valid checksums of chunks and file, as an attacker would make them."""
    container = Container.from_bytes(file)
    header = dataclasses.replace(container.header, **changes)
    return dataclasses.replace(container, header=header, data=container.data if data is None else data).to_bytes()


def refused(codec, data: bytes, words: str | None = None) -> None:
    for call in (codec.decode, codec.verify):
        with pytest.raises(CorruptError, match=words):
            call(data)


def test_truncation_at_every_byte_is_reported(codec, file):
    for length in range(len(file)):
        with pytest.raises(TwcError) as caught:
            codec.decode(file[:length])
        assert caught.value.exit_code in (3, 4), length


def test_flipped_bits_are_reported(codec, file):
    for bit in range(0, 8 * len(file), 3):
        broken = bytearray(file)
        broken[bit // 8] ^= 1 << bit % 8
        with pytest.raises(TwcError) as caught:
            codec.decode(bytes(broken))
        assert caught.value.exit_code in (3, 4, 5, 6), bit


def test_a_stream_that_was_changed_under_valid_checksums_is_reported_or_decodes_to_the_same_samples(codec, file):
    """Some bytes mean nothing here: brands, names, primaries. The checksum of the samples tells what matters."""
    stream, rng = Container.from_bytes(file).data, random.Random(0)
    expected = codec.decode_picture(file).samples
    for _ in range(1500):
        broken = bytearray(stream)
        for _ in range(rng.randint(1, 3)):
            broken[rng.randrange(len(broken))] = rng.randrange(256)
        try:
            found = codec.decode_picture(forged(file, bytes(broken))).samples
        except CorruptError:
            continue
        assert np.array_equal(found, expected)


@pytest.mark.parametrize("cut", [0, 1, 30, 100, -1])
def test_a_stream_that_was_cut_under_valid_checksums_is_reported(codec, file, cut):
    refused(codec, forged(file, Container.from_bytes(file).data[:cut]))


@pytest.mark.parametrize("changes", [{"width": 57}, {"height": 39}, {"width": 40, "height": 56}, {"width": 11585}])
def test_a_header_of_another_size_is_reported_before_anything_is_decoded(codec, file, changes, monkeypatch):
    monkeypatch.setattr("PIL.AvifImagePlugin.AvifImageFile", None)
    refused(codec, forged(file, **changes), "not one of")


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "BMP"])
def test_another_format_in_its_place_is_reported(codec, file, form):
    out = io.BytesIO()
    Image.new("RGB", (56, 40)).save(out, form)
    refused(codec, forged(file, out.getvalue()))


def as_avif(image: Image.Image, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, "AVIF", speed=9, **options)
    return out.getvalue()


def test_other_kinds_of_avif_are_reported(codec, file):
    image = Image.new("RGB", (56, 40), (10, 200, 30))
    frames = {"save_all": True, "append_images": [Image.new("RGB", (56, 40))]}
    for stream in (
        as_avif(image, subsampling="4:2:0"),
        as_avif(image, subsampling="4:4:4", range="limited"),
        as_avif(image.convert("RGBA"), subsampling="4:4:4"),
        as_avif(image.convert("L")),
        as_avif(image, subsampling="4:4:4", **frames),
        as_avif(image, subsampling="4:4:4", exif=Image.Exif().tobytes() + bytes(4)),
    ):
        refused(codec, forged(file, stream))
    with pytest.raises(CorruptError, match="checksum of the decoded samples"):
        codec.decode(forged(file, as_avif(image, subsampling="4:4:4")))


def test_a_wrapper_that_claims_less_than_the_av1_inside_is_reported_and_costs_nothing(codec, file, monkeypatch):
    """781 bytes of AVIF can hold 8192 x 8192 pixels, and a wrapper that says 16 x 16: libavif would scale."""
    big = avif.pack_avif(np.full((1024, 1024, 3), 90, np.uint8), 1, 10)
    small = big.replace(struct.pack(">II", 1024, 1024), struct.pack(">II", 40, 40))
    assert small != big
    monkeypatch.setattr("PIL.AvifImagePlugin.AvifImageFile", None)
    refused(codec, forged(file, small, width=40), "not one of 40x40 pixels")


def test_a_wrapper_that_claims_more_is_reported(codec, file):
    stream = Container.from_bytes(file).data
    wrong = stream.replace(struct.pack(">II", 56, 40), struct.pack(">II", 57, 40))
    refused(codec, forged(file, wrong), "57x40 pixels, the header claims 56x40")


def test_memory_is_checked_before_it_is_taken(codec, file, monkeypatch):
    monkeypatch.setattr(guard.resources, "budget", lambda most: 10)
    with pytest.raises(LimitError, match="this picture needs about"):
        guard.decode(Container.from_bytes(file))


def test_a_wrong_checksum_of_the_samples_is_reported(codec, file):
    refused(codec, forged(file, symbols_crc=Container.from_bytes(file).header.symbols_crc ^ 1), "decoded samples")
