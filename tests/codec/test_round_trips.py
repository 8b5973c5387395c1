"""Round trips of anything: sizes, modes, qualities, transforms, seeds and views, as Hypothesis finds them."""

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twcodec.codec.settings import Settings
from twcodec.codec.view import View
from twcodec.container import Container
from twcodec.imaging.picture import Metadata, Picture
from twcodec.transforms import BY_NAME

DEPTH = {"1": 1, "I;16": 16}
EXAMPLES = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def pictures(draw) -> Picture:
    """Of every mode: smooth, noisy, flat or extreme, up to 70 pixels a side."""
    mode = draw(st.sampled_from(["1", "L", "LA", "RGB", "RGBA", "I;16"]))
    height, width = draw(st.integers(1, 70)), draw(st.integers(1, 70))
    depth, channels = DEPTH.get(mode, 8), 3 if mode.startswith("RGB") else 1
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = height, width, channels
    kind = draw(st.sampled_from(["noise", "ramp", "flat", "extremes"]))
    unit = {
        "noise": lambda: rng.random(shape),
        "ramp": lambda: np.broadcast_to(np.linspace(0, 1, height * width).reshape(height, width, 1), shape),
        "flat": lambda: np.full(shape, rng.random()),
        "extremes": lambda: rng.integers(0, 2, shape).astype(float),
    }[kind]()
    samples = np.rint(unit * ((1 << depth) - 1)).astype(np.uint16 if depth == 16 else np.uint8)
    alpha = rng.integers(0, 256, (height, width)).astype(np.uint8) if mode.endswith("A") else None
    metadata = Metadata(xmp=rng.bytes(20) if draw(st.booleans()) else None)
    return Picture(samples, mode, depth, alpha, metadata)


@st.composite
def asked(draw) -> Settings:
    """What an encoder can be asked for."""
    return Settings(
        quality=draw(st.integers(1000, 7000)) / 1000,
        ways=draw(st.integers(1, 4)),
        transform=draw(st.sampled_from(["auto", "never", "always"])),
        transforms=tuple(draw(st.lists(st.sampled_from(sorted(BY_NAME)), max_size=2))),
        seed=draw(st.integers(0, 2**32 - 1)),
        precision=draw(st.sampled_from(["auto", "fp32"])),
    )


@EXAMPLES
@given(picture=pictures(), how=asked())
def test_what_went_in_comes_back_as_what_it_was(codec, picture, how):
    data, report = codec.encode_picture(picture, how)
    header = Container.from_bytes(data).header
    assert (report.bytes, report.quality) == (len(data), header.quality)
    codec.verify(data)
    back = codec.decode_picture(data)
    assert (back.mode, back.depth, back.samples.shape) == (picture.mode, picture.depth, picture.samples.shape)
    assert back.samples.dtype == picture.samples.dtype
    assert int(back.samples.max()) < 1 << picture.depth
    assert (back.alpha is None) == (picture.alpha is None)
    if picture.alpha is not None:
        assert np.array_equal(back.alpha, picture.alpha)
    assert back.metadata == picture.metadata


@EXAMPLES
@given(picture=pictures(), how=asked(), data=st.data())
def test_any_part_is_that_of_the_whole(codec, picture, how, data):
    file = codec.encode_picture(picture, how)[0]
    left, top = data.draw(st.integers(0, picture.width - 1)), data.draw(st.integers(0, picture.height - 1))
    width = data.draw(st.integers(1, picture.width - left))
    height = data.draw(st.integers(1, picture.height - top))
    part, whole = codec.decode_picture(file, view=View((left, top, width, height))), codec.decode_picture(file)
    assert np.array_equal(part.samples, whole.samples[top : top + height, left : left + width])


@EXAMPLES
@given(picture=pictures(), how=asked())
def test_the_same_seed_gives_the_same_file(codec, picture, how):
    assert codec.encode_picture(picture, how)[0] == codec.encode_picture(picture, how)[0]
