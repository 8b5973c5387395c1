"""Encoding to a size or a PSNR: what comes out is measured on the file, not taken from the report."""

import math

import numpy as np
import pytest

import twcodec
from twcodec.codec import target
from twcodec.codec.settings import Settings
from twcodec.container import Container
from twcodec.errors import LimitError, UsageError
from twcodec.imaging.picture import Metadata, Picture


def psnr(picture, decoded) -> float:
    """Of 8-bit samples."""
    return 10 * math.log10(255**2 / np.mean((picture.samples.astype(float) - decoded.samples) ** 2))


@pytest.fixture(scope="module")
def picture(astronaut):
    return Picture(np.ascontiguousarray(astronaut[:256, 128:384]), "RGB")


@pytest.mark.parametrize("bpp", [0.35, 0.6, 1.05])
@pytest.mark.parametrize("ways", [1, 2])
def test_bits_a_pixel_are_within_a_percent(codec, picture, bpp, ways):
    data, report = codec.encode_picture(picture, Settings(target_bpp=bpp, ways=ways))
    assert abs(8 * len(data) / 256**2 / bpp - 1) < 0.01
    assert report.quality == Container.from_bytes(data).header.quality
    assert not report.warnings


@pytest.mark.parametrize("size", [2_500, 5_001, 9_000])
def test_a_size_is_a_limit_and_is_used_to_the_last_percent(codec, picture, size):
    data, _ = codec.encode_picture(picture, Settings(target_size=size))
    assert 0.99 * size <= len(data) <= size


@pytest.mark.parametrize("wanted", [29.5, 33.0, 37.25])
def test_psnr_is_within_five_hundredths_as_the_decoder_has_it(codec, picture, wanted):
    data, report = codec.encode_picture(picture, Settings(target_psnr=wanted))
    found = psnr(picture, codec.decode_picture(data))
    assert abs(found - wanted) <= 0.05
    assert report.psnr == pytest.approx(found, abs=0.002)


def test_alpha_and_metadata_count(codec, picture):
    alpha = (np.arange(256**2, dtype=np.uint32) * 40503 >> 8).astype(np.uint8).reshape(256, 256)
    heavy = Picture(picture.samples, "RGBA", alpha=alpha, metadata=Metadata(xmp=b"x" * 3000))
    plain = len(codec.encode_picture(heavy, Settings(1.0))[0])
    size = plain + 5_000
    data, _ = codec.encode_picture(heavy, Settings(target_size=size))
    assert 0.99 * size <= len(data) <= size
    with pytest.raises(LimitError, match="out of reach"):
        codec.encode_picture(heavy, Settings(target_size=plain - 100))


@pytest.mark.parametrize("goal", [{"target_bpp": 0.01}, {"target_size": 150}, {"target_psnr": 60.0}])
def test_a_promise_that_cannot_be_kept_is_an_error(codec, picture, goal):
    with pytest.raises(LimitError, match="out of reach; the closest that the model comes is"):
        codec.encode_picture(picture, Settings(**goal))


def test_a_file_that_is_better_than_asked_for_is_made_with_a_warning(codec, picture):
    best = len(codec.encode_picture(picture, Settings(7.0))[0])
    for goal in ({"target_bpp": 9.0}, {"target_psnr": 12.0}):
        data, report = codec.encode_picture(picture, Settings(**goal))
        assert report.quality == (7 if "target_bpp" in goal else 1)
        assert "the file has" in report.warnings[-1]
    data, report = codec.encode_picture(picture, Settings(target_size=10**6))
    assert len(data) <= best * 1.02
    assert not report.warnings  # a limit is kept by less


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 200), (17, 16)])
def test_tiny_pictures_come_as_close_as_they_can(codec, crop, height, width):
    small = crop(height, width)
    sweep = [len(codec.encode_picture(small, Settings(q / 4, ways=1))[0]) for q in range(4, 29)]
    size = (min(sweep) + max(sweep)) // 2 + 1
    data, report = codec.encode_picture(small, Settings(target_size=size, ways=1))
    assert max(n for n in sweep if n <= size) - 4 <= len(data) <= size
    assert (len(data) < 0.99 * size) <= bool(report.warnings)


def test_the_nearest_is_taken_be_it_above_or_below_but_for_a_limit():
    for limit, quality in ((False, 5.0), (True, 4.0)):
        walk = target._Walk(target._Aim(30.0, 29.96, 30.04, 1.7, limit), 1.0, 7.0)
        walk.seen = {4.0: 29.4, 5.0: 30.2, 6.0: 33.0}
        assert walk.best == quality


def test_a_guard_and_a_target_are_not_asked_for_together():
    with pytest.raises(UsageError, match="leave one of them out"):
        Settings(target_size=1500, guard="avif")


def test_one_that_is_there_at_both_ends_of_a_flat_stretch_is_no_failure():
    walk = target._Walk(target._share(1000, 0.008, 0.0, limit=True), 1.0, 7.0)
    walk.go(4.0, lambda quality: math.log(900 if quality < 5 else 901), 8)
    assert (walk.short, walk.beyond, walk.at_an_end) == (True, False, True)


def test_a_flat_picture_that_is_better_than_asked_for_at_the_lowest_quality(codec):
    flat = Picture(np.full((32, 32, 3), 128, np.uint8), "RGB")
    lowest = psnr(flat, codec.decode_picture(codec.encode_picture(flat, Settings(1.0))[0]))
    data, report = codec.encode_picture(flat, Settings(target_psnr=lowest - 5))
    assert Container.from_bytes(data).header.quality == 1
    assert psnr(flat, codec.decode_picture(data)) == pytest.approx(lowest, abs=0.5)
    assert "the file has" in report.warnings[-1]


@pytest.mark.parametrize("model", ["default-1", "default-context"])
@pytest.mark.parametrize("goal", [{"target_bpp": 0.8}, {"target_psnr": 33.0}])
def test_other_embedded_models_can_do_it(picture, model, goal):
    other = twcodec.open_codec(model, device="cpu")
    data, report = other.encode_picture(picture, Settings(**goal))
    if "target_bpp" in goal:
        assert abs(8 * len(data) / 256**2 / 0.8 - 1) < 0.01
    else:
        assert abs(report.psnr - 33.0) <= 0.05


def test_effort_is_taken_into_account(codec, picture):
    small = Picture(np.ascontiguousarray(picture.samples[:128, :128]), "RGB")
    data, _ = codec.encode_picture(small, Settings(target_bpp=1.0, effort=2))
    assert abs(8 * len(data) / 128**2 - 1) < 0.01


def test_sixteen_bits_and_grey(codec, crop):
    grey = crop(128, 128, 1)
    deep = Picture(grey.samples.astype(np.uint16) * 257, "I;16", depth=16)
    for picture in (grey, deep):
        _, report = codec.encode_picture(picture, Settings(target_psnr=36.0))
        assert abs(report.psnr - 36.0) <= 0.05


def test_the_search_costs_a_few_looks_and_mostly_one_encoding(codec, picture, monkeypatch):
    counts = {"looks": 0, "runs": 0}
    original_bits, original_run = target.branch.Probe.bits, target.encoding.run

    def bits(self, quality):
        counts["looks"] += 1
        return original_bits(self, quality)

    def run(*args, **more):
        counts["runs"] += 1
        return original_run(*args, **more)

    monkeypatch.setattr(target.branch.Probe, "bits", bits)
    monkeypatch.setattr(target.encoding, "run", run)
    for bpp in (0.3, 0.5, 0.8, 1.1):
        codec.encode_picture(picture, Settings(target_bpp=bpp))
    assert counts["looks"] <= 4 * 5
    assert counts["runs"] <= 4 + 2


@pytest.mark.parametrize(
    "goal",
    [
        {"target_bpp": 0},
        {"target_bpp": -1.0},
        {"target_psnr": math.nan},
        {"target_psnr": math.inf},
        {"target_size": "9"},
        {"target_bpp": 10**400},
        {"target_bpp": 1.0, "target_size": 5},
        {"target_bpp": 1.0, "quality": 4},
    ],
)
def test_what_cannot_be_meant_is_refused(goal):
    with pytest.raises(UsageError, match="target"):
        Settings(**goal)


def test_a_model_of_one_quality_has_nothing_to_search(picture, monkeypatch, codec):
    monkeypatch.setattr(type(codec.model), "qualities", (4.0, 4.0))
    with pytest.raises(UsageError, match="has one quality"):
        codec.encode_picture(picture, Settings(target_bpp=1.0))


def test_the_library_takes_targets(codec, picture):
    data = codec.encode(_image(picture), target_size=9_000)
    assert 8_900 < len(data) <= 9_000


def _image(picture):
    from PIL import Image

    return Image.fromarray(picture.samples)
