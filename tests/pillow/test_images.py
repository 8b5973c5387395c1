"""What people do with images that Pillow has opened works with these, too."""

from __future__ import annotations

import concurrent.futures
import copy
import io
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps, ImageSequence

import twcodec
import twcodec.pillow
from twcodec.container import Container
from twcodec.errors import CorruptError

from .conftest import ICC, in_mode, same, saved


def test_load_gives_the_pixels_once(path, decoded, monkeypatch):
    with Image.open(path) as image:
        pixels = image.load()
        assert pixels[5, 7] == decoded.getpixel((5, 7))
        monkeypatch.setattr(twcodec.pillow, "_decoded", None)
        image.load()
        assert same(image, decoded)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "I;16", "1"])
def test_pixels_can_be_changed(codec, photo, mode):
    image = Image.open(io.BytesIO(codec.encode(in_mode(photo, mode))))
    pixels = image.load()
    value = (1, 2, 3, 4)[: len(image.getbands())] if len(image.getbands()) > 1 else 0
    pixels[3, 4] = value
    assert image.getpixel((3, 4)) == value
    image.putpixel((8, 9), value)
    assert image.getpixel((8, 9)) == value


def test_what_is_read_first_is_loaded_first(path, decoded):
    box = (10, 20, 60, 70)
    with Image.open(path) as image:
        assert same(image.crop(box), decoded.crop(box))
    with Image.open(path) as image:
        assert same(image.convert("L"), decoded.convert("L"))
    with Image.open(path) as image:
        assert same(image.copy(), decoded)
    with Image.open(path) as image:
        assert same(image.resize((30, 20)), decoded.resize((30, 20)))
    with Image.open(path) as image:
        assert same(image.reduce(3), decoded.reduce(3))
    with Image.open(path) as image:
        assert image.tobytes() == decoded.tobytes()
    with Image.open(path) as image:
        assert image.getpixel((0, 0)) == decoded.getpixel((0, 0))
    with Image.open(path) as image:
        assert same(Image.merge("RGB", image.split()), decoded)


def test_a_copy_keeps_the_metadata_and_forgets_the_format(path):
    with Image.open(path) as image:
        made = image.copy()
    assert made.format is None
    assert made.info["icc_profile"] == ICC
    assert made.info["twc"]["quality"] == 3


def test_thumbnail(path, decoded):
    with Image.open(path) as image:
        image.thumbnail((40, 40))
        expected = decoded.copy()
        expected.thumbnail((40, 40))
        assert image.size == (40, 30)
        assert same(image, expected)


def test_an_image_is_shown_the_right_way_up(path, decoded):
    with Image.open(path) as image:
        assert image.size == (120, 90)
        turned = ImageOps.exif_transpose(image)
    assert same(turned, decoded.transpose(Image.Transpose.ROTATE_270))
    assert ExifTags.Base.Orientation not in turned.getexif()
    again = Image.open(io.BytesIO(saved(turned)))
    assert again.size == (90, 120)
    assert again.getexif() == {ExifTags.Base.Model: "A camera"}


def test_there_is_one_frame(path):
    with Image.open(path) as image:
        assert (image.n_frames, image.is_animated, image.tell()) == (1, False, 0)
        image.seek(0)
        assert len(list(ImageSequence.Iterator(image))) == 1
        with pytest.raises(EOFError):
            image.seek(1)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "I;16"])
def test_as_an_array(codec, photo, mode):
    data = codec.encode(in_mode(photo, mode), seed=1)
    array = np.asarray(Image.open(io.BytesIO(data)))
    expected = np.asarray(codec.decode(data))
    assert array.dtype == expected.dtype
    assert np.array_equal(array, expected)


@pytest.mark.parametrize("loaded", [False, True])
@pytest.mark.parametrize("way", ["pickle", "deepcopy"])
def test_pickled_and_copied_deeply(path, decoded, loaded, way):
    with Image.open(path) as image:
        if loaded:
            image.load()
        again = pickle.loads(pickle.dumps(image)) if way == "pickle" else copy.deepcopy(image)
    assert same(again, decoded)
    assert again.format == "TWC"
    assert again.text == {"Title": "A title", "Artist": "N.N."}
    assert again.info["twc"]["quality"] == 3
    assert same(again.convert("L"), decoded.convert("L"))
    assert Container.from_bytes(saved(again, seed=1)).ancillary == Container.from_bytes(path.read_bytes()).ancillary
    again.close()


def test_verify_finds_a_sound_file_sound(path):
    with Image.open(path) as image:
        assert image.verify() is None
        assert image.fp is None
        with pytest.raises(ValueError, match="closed"):
            image.load()


def test_verify_finds_damage(data):
    broken = bytearray(data)
    broken[-40] ^= 1
    with pytest.raises(OSError, match="checksum") as caught:
        Image.open(io.BytesIO(broken)).verify()
    assert isinstance(caught.value.__cause__, CorruptError)


def test_eight_threads_open_and_load(path, decoded, monkeypatch):
    twcodec.pillow.configure(device="cpu")
    made = []
    opened = twcodec.open_codec
    monkeypatch.setattr(twcodec, "open_codec", lambda *args, **options: made.append(1) or opened(*args, **options))

    def one(_):
        with Image.open(path) as image:
            return image.tobytes()

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert set(pool.map(one, range(24))) == {decoded.tobytes()}
    assert made == [1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
@pytest.mark.parametrize(
    ("threads", "after_the_load"), [(None, ""), (2, ""), (None, 'twcodec.pillow.configure(device="cpu")')]
)
def test_a_process_that_was_forked_loads_images_too(path, threads, after_the_load):
    """torch's threads do not survive a fork, and OpenMP waits for them for ever."""
    code = f"""
import os, signal, twcodec.pillow
import numpy as np
from PIL import Image
twcodec.pillow.configure(device="cpu", threads={threads})
expected = np.asarray(Image.open({str(path)!r})).astype(int)
{after_the_load}
child = os.fork()
if child == 0:  # one level: of other threads, other roundings
    signal.alarm(60)
    os._exit(np.abs(np.asarray(Image.open({str(path)!r})) - expected).max() > 1)
assert os.waitpid(child, 0)[1] == 0
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
