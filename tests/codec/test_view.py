"""Parts of pictures, smaller ones and deeper ones: against the whole picture that was decoded."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import twcodec
from twcodec.codec.settings import Settings
from twcodec.codec.view import View
from twcodec.container import Container
from twcodec.errors import UsageError
from twcodec.imaging.picture import Picture
from twcodec.imaging.reduce import reduced
from twcodec.transforms import BY_NAME
from twcodec.transforms.placement import Placement


def crops(height: int, width: int, count: int = 6):
    """Corners, a pixel, all of it, and some by chance."""
    rng = np.random.default_rng(height * width)
    yield from ((0, 0, 1, 1), (width - 1, height - 1, 1, 1), (0, 0, width, height), (width // 2, 0, 1, height))
    for _ in range(count):
        left, top = int(rng.integers(width)), int(rng.integers(height))
        yield left, top, int(rng.integers(1, width - left + 1)), int(rng.integers(1, height - top + 1))


def assert_crops_agree(codec, data: bytes) -> None:
    whole = codec.decode_picture(data)
    for crop in crops(whole.height, whole.width):
        left, top, width, height = crop
        part = codec.decode_picture(data, view=View(crop))
        assert np.array_equal(part.samples, whole.samples[top : top + height, left : left + width])
        assert (part.alpha is None) == (whole.alpha is None)
        if part.alpha is not None:
            assert np.array_equal(part.alpha, whole.alpha[top : top + height, left : left + width])
        assert (part.mode, part.depth, part.metadata) == (whole.mode, whole.depth, whole.metadata)


@pytest.mark.parametrize("name", BY_NAME)
@pytest.mark.parametrize("seed", range(3))
def test_a_crop_is_the_crop_of_the_whole_picture_under_every_transform(codec, crop, name, seed):
    picture = crop(101 + seed, 167)
    settings = Settings(transform="always", transforms=(name,), seed=seed)
    assert_crops_agree(codec, codec.encode_picture(picture, settings)[0])


@pytest.mark.parametrize("turn", range(8))
def test_a_placement_knows_where_its_windows_are(turn):
    import torch

    x = torch.arange(5 * 7).view(1, 5, 7)
    draw = Placement(turn, 3, 2)
    rows, columns = slice(1, 4), slice(2, 7)
    found = draw.part(rows, columns, 5, 7)
    assert torch.equal(draw.undo_part(draw.apply(x)[:, found[0], found[1]]), x[:, rows, columns])


@pytest.mark.parametrize("model", ["default-1", "default-context"])
def test_of_other_models_too(model, crop):
    other = twcodec.open_codec(model, device="cpu")
    assert_crops_agree(other, other.encode_picture(crop(150, 130), Settings(seed=1))[0])


def test_of_grey_transparent_and_deep_pictures(codec, crop):
    colour, grey = crop(70, 90), crop(70, 90, 1)
    alpha = np.arange(70 * 90, dtype=np.uint32).astype(np.uint8).reshape(70, 90)
    for picture in (
        grey,
        replace(colour, mode="RGBA", alpha=alpha),
        replace(grey, mode="LA", alpha=alpha),
        Picture(grey.samples.astype(np.uint16) * 257, "I;16", depth=16),
        Picture(grey.samples >> 7, "1", depth=1),
    ):
        assert_crops_agree(codec, codec.encode_picture(picture, Settings(seed=2))[0])


def test_of_a_picture_of_many_tiles(codec, crop, monkeypatch):
    """Smaller tiles stand for a large picture: windows begin inside tiles, and end in others.

    They are the smallest that are used. Of 8 latents a side, oneDNN takes other ways: 8 of 1.9 million samples differ by 1.
    """
    data = codec.encode_picture(crop(400, 560), Settings(seed=1))[0]
    monkeypatch.setattr("twcodec.codec.memory.for_decoding", lambda *_: 16)
    assert_crops_agree(codec, data)


def test_a_crop_costs_what_it_depends_on(codec, crop, monkeypatch):
    seen = []
    original = type(codec.model.family).g_s
    monkeypatch.setattr(
        type(codec.model.family), "g_s", lambda self, y, *rest: seen.append(y[0].numel()) or original(self, y, *rest)
    )
    data = codec.encode_picture(crop(1024, 1024), Settings(transform="never", verify=False))[0]
    seen.clear()
    codec.decode_picture(data)
    codec.decode_picture(data, view=View((512, 512, 64, 64)))
    reach = codec.model.family.reach
    assert seen == [64 * 64, (4 + 2 * reach) ** 2]


def test_a_crop_of_a_guard(codec):
    noise = np.random.default_rng(1).integers(0, 256, (64, 96, 3)).astype(np.uint8)
    picture = Picture(noise // 128 * 255, "RGB")
    data = codec.encode_picture(picture, Settings(guard="avif", seed=1))[0]
    assert Container.from_bytes(data).header.kind == 1
    assert_crops_agree(codec, data)
    assert codec.decode_picture(data, view=View(scale=2)).samples.shape == (32, 48, 3)


@pytest.mark.parametrize("mode", ["L", "RGB", "LA", "RGBA"])
@pytest.mark.parametrize("factor", [2, 4, 8])
def test_a_scale_is_the_mean_of_squares_as_pillow_has_it(mode, factor):
    rng = np.random.default_rng(factor)
    channels = len(mode)
    array = rng.integers(0, 256, (37, 50, channels)).astype(np.uint8)
    alpha = array[..., -1] if mode.endswith("A") else None
    picture = Picture(array[..., : channels - (alpha is not None)], mode, alpha=alpha)
    made = reduced(picture, factor)
    image = Image.fromarray(array if channels > 1 else array[..., 0], mode).reduce(factor)
    wanted = np.asarray(image).reshape(*image.size[::-1], channels).astype(int)
    if alpha is None:
        assert np.abs(made.samples - wanted).max() <= 0
    else:
        assert np.abs(made.alpha - wanted[..., -1]).max() <= 1
        solid = wanted[..., -1] > 60  # Pillow rounds colours times alpha on the way
        assert np.abs(made.samples - wanted[..., :-1])[solid].max() <= 4


def test_what_is_transparent_does_not_shine_through():
    samples = np.array([[[255, 0, 0], [0, 0, 255]]], np.uint8).repeat(2, 0)
    alpha = np.array([[255, 0], [255, 0]], np.uint8)
    made = reduced(Picture(samples, "RGBA", alpha=alpha), 2)
    assert made.samples.tolist() == [[[255, 0, 0]]]
    assert made.alpha.tolist() == [[128]]


def test_one_bit_becomes_grey_and_sixteen_stay():
    bits = Picture(np.array([[[1], [0]], [[1], [1]]], np.uint8), "1", depth=1)
    assert (reduced(bits, 2).mode, reduced(bits, 2).depth, reduced(bits, 2).samples.tolist()) == ("L", 8, [[[191]]])
    deep = Picture(np.array([[[65535], [0]], [[1], [2]]], np.uint16), "I;16", depth=16)
    assert reduced(deep, 2).samples.dtype == np.uint16
    assert reduced(deep, 2).samples.tolist() == [[[16385]]]


def test_large_pictures_are_reduced_band_by_band(monkeypatch):
    samples = np.random.default_rng(2).integers(0, 256, (200, 33, 3)).astype(np.uint8)
    whole = reduced(Picture(samples, "RGB"), 4)
    monkeypatch.setattr("twcodec.imaging.reduce._BAND", 1000)
    assert np.array_equal(reduced(Picture(samples, "RGB"), 4).samples, whole.samples)


def test_sixteen_bits_are_what_eight_are_rounded_from(codec, crop):
    for picture, mode in ((crop(60, 70), "RGB"), (crop(60, 70, 1), "I;16")):
        data = codec.encode_picture(picture, Settings(seed=1))[0]
        deep, plain = codec.decode_picture(data, view=View(depth=16)), codec.decode_picture(data)
        assert (deep.depth, deep.mode, deep.samples.dtype) == (16, mode, np.uint16)
        off = np.abs(deep.samples.astype(int) - plain.samples.astype(int) * 257)
        assert 60 < off.max() <= 129
        assert len(np.unique(deep.samples % 257)) > 100


@pytest.mark.parametrize(
    "wrong",
    [
        {"scale": 3},
        {"depth": 12},
        {"crop": (0, 0, 0, 1)},
        {"crop": (-1, 0, 1, 1)},
        {"crop": (0, 0, 1)},
        {"crop": (0.5, 0, 1, 1)},
    ],
)
def test_what_cannot_be_meant_is_refused(wrong):
    with pytest.raises(UsageError):
        View(**wrong)


def test_a_crop_that_reaches_beyond_is_refused_and_one_bit_is_not_made_sixteen(codec, crop):
    data = codec.encode_picture(crop(20, 30), Settings(seed=1))[0]
    for wrong in ((30, 0, 1, 1), (0, 0, 31, 1), (0, 19, 1, 2)):
        with pytest.raises(UsageError, match="reaches beyond the picture, 30x20 pixels"):
            codec.decode_picture(data, view=View(wrong))
    bits = codec.encode_picture(Picture(crop(20, 30, 1).samples >> 7, "1", depth=1), Settings(seed=1))[0]
    with pytest.raises(UsageError, match="1 bit"):
        codec.decode_picture(bits, view=View(depth=16))


def test_the_library_takes_crops_and_scales(codec, crop):
    data = codec.encode_picture(crop(64, 96), Settings(seed=1))[0]
    image = codec.decode(data, crop=(8, 16, 40, 20), scale=2)
    assert image.size == (20, 10)
    assert np.array_equal(np.asarray(image), np.asarray(codec.decode(data).crop((8, 16, 48, 36)).reduce(2)))
