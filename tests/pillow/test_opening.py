"""What `Image.open` finds in a TWC file, and what it reads for that."""

from __future__ import annotations

import concurrent.futures
import gc
import io
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from PIL import Image, ImageFile, UnidentifiedImageError

import twcodec
import twcodec.pillow
from twcodec.container import Container

from .conftest import ICC, ROOT, VALID, VECTORS, XMP, same


def test_a_file_is_opened_with_its_size_mode_and_metadata(path, photo, exif):
    with Image.open(path) as image:
        assert (image.format, image.size, image.mode) == ("TWC", photo.size, "RGB")
        assert isinstance(image, twcodec.pillow.TwcImageFile)
        assert image.info["icc_profile"] == ICC
        assert image.info["exif"] == exif.tobytes()
        assert image.info["xmp"] == XMP
        assert image.getexif() == exif
        assert image.text == {"Title": "A title", "Artist": "N.N."}


def test_info_tells_how_the_file_was_made(path, data):
    told = twcodec.info(data)
    with Image.open(path) as image:
        assert image.info["twc"] == {
            name: getattr(told, name) for name in ("quality", "model", "digest", "transform", "ways", "payload")
        }


@pytest.mark.parametrize("vector", VALID, ids=lambda path: path.stem)
def test_what_is_opened_is_what_decode_gives(vector, codec):
    expected = codec.decode(vector.read_bytes())
    with Image.open(vector) as image:
        assert (image.mode, image.size) == (expected.mode, expected.size)
        about = image.info.pop("twc")
        assert image.info == expected.info
        assert same(image, expected)
        told = twcodec.info(vector.read_bytes())
        assert (about["model"], about["transform"]) == (told.model, told.transform)


def test_opening_reads_the_header_and_imports_no_torch(path):
    code = f"""
import io, sys, twcodec.pillow
from PIL import Image
class Counted(io.FileIO):
    count = 0
    def read(self, size=-1):
        got = super().read(size)
        Counted.count += len(got)
        return got
stream = Counted({str(path)!r})
image = Image.open(stream)
print(image.size, image.mode, Counted.count, 'torch' in sys.modules)
image.getexif(), image.text
image.verify()
assert 'torch' not in sys.modules
image = Image.open(stream)
image.load()
print('torch' in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    symbols = len(Container.from_bytes(path.read_bytes()).data)
    size, mode, count, torch = first.rsplit(" ", 3)[0], *first.rsplit(" ", 3)[1:]
    assert (size, mode, torch, second) == ("(120, 90)", "RGB", "False", "True")
    assert int(count) < path.stat().st_size - symbols + 50


def test_guarded_files_load_without_torch():
    code = f"""
import sys, twcodec.pillow
from PIL import Image
Image.open({str(VECTORS / "valid" / "guard-rgba-28x20.twc")!r}).load()
assert 'torch' not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_metadata_behind_the_symbols_is_found_when_the_file_is_opened(codec, data, full):
    """Chunks may come in any order; PNG's plugin learns of such only with the pixels."""
    container = Container.from_bytes(data)
    from twcodec.container import chunks

    late = chunks.join([(b"HEAD", container.header.to_bytes()), (b"DATA", container.data), *container.ancillary])
    with Image.open(io.BytesIO(late)) as image:
        assert image.info["icc_profile"] == ICC
        assert image.text["Title"] == "A title"
        assert same(image, codec.decode(late))


def test_a_text_named_twc_does_not_pass_for_ours(codec, photo):
    image = photo.copy()
    image.info = {"twc": "quality 100"}
    with Image.open(io.BytesIO(codec.encode(image))) as opened:
        assert opened.info["twc"]["quality"] == 4


def test_streams_without_a_name(data, decoded):
    assert same(Image.open(io.BytesIO(data)), decoded)


def test_a_stream_stands_where_it_likes(data, decoded):
    """`Image.open` begins at the first byte, whatever was read before."""
    stream = io.BytesIO(data)
    stream.seek(30)
    assert same(Image.open(stream), decoded)


class Least:
    """What Pillow demands of a stream, and no more: a SpooledTemporaryFile of Python 3.10 has such a seek."""

    def __init__(self, data: bytes) -> None:
        self._held = io.BytesIO(data)
        self.read, self.tell = self._held.read, self._held.tell

    def seek(self, *where) -> None:
        self._held.seek(*where)


def test_a_stream_that_can_do_little(data, decoded):
    assert same(Image.open(Least(data)), decoded)


def test_a_pipe_is_read_to_its_end(data, decoded):
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as pipe, concurrent.futures.ThreadPoolExecutor(1) as pool:

        def feed():
            with os.fdopen(writing, "wb") as end:
                end.write(data)

        fed = pool.submit(feed)
        image = Image.open(pipe)
        fed.result()
        assert same(image, decoded)


@pytest.mark.parametrize("name", [str, os.fsencode, Path], ids=["str", "bytes", "Path"])
def test_names_of_any_kind(path, decoded, name):
    with Image.open(name(path)) as image:
        assert same(image, decoded)


def test_the_incremental_parser_waits_for_the_whole_file(data, decoded):
    parser = ImageFile.Parser()
    for at in range(0, len(data), 100):
        parser.feed(data[at : at + 100])
    assert same(parser.close(), decoded)


def test_pillow_knows_the_extension_and_the_mime_type(path):
    assert Image.registered_extensions()[".twc"] == "TWC"
    xml = (ROOT / "formats" / "mime" / "twc.xml").read_text()
    with Image.open(path) as image:
        assert f'type="{image.get_format_mimetype()}"' in xml


def test_other_formats_are_opened_as_before(photo):
    held = io.BytesIO()
    photo.save(held, "PNG")
    assert Image.open(held).format == "PNG"


def test_formats_may_be_restricted(path):
    with Image.open(path, formats=["TWC"]) as image:
        assert image.format == "TWC"
    with pytest.raises(UnidentifiedImageError):
        Image.open(path, formats=["PNG", "JPEG"])


def test_registering_again_changes_nothing(path, decoded):
    before = list(Image.ID)
    twcodec.pillow.register()
    twcodec.pillow.register()
    assert before == Image.ID
    with Image.open(path) as image:
        assert same(image, decoded)


def test_the_file_is_closed_when_it_is_loaded(path):
    image = Image.open(path)
    stream = image.fp
    assert not stream.closed
    image.load()
    assert stream.closed
    assert image.fp is None


def test_the_file_is_closed_on_leaving(path):
    with Image.open(path) as image:
        stream = image.fp
    assert stream.closed
    with pytest.raises(ValueError, match="closed"):
        image.load()


def test_close_closes(path):
    image = Image.open(path)
    stream = image.fp
    image.close()
    assert stream.closed
    with pytest.raises(ValueError, match="closed"):
        image.load()


def test_a_loaded_image_lives_on_after_the_block(path, decoded):
    with Image.open(path) as image:
        image.load()
    assert same(image, decoded)


def test_a_stream_that_was_given_stays_open(data):
    stream = io.BytesIO(data)
    Image.open(stream).load()
    assert not stream.closed


def handles() -> int:
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0


def test_no_handle_is_leaked(path, tmp_path):
    (tmp_path / "cut.twc").write_bytes(path.read_bytes()[:40])
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        before = handles()
        for _ in range(3):
            Image.open(path).load()
            with Image.open(path):
                pass
            with Image.open(path) as image:
                image.verify()
            Image.open(path).save(tmp_path / "again.twc", ways=1)
            with pytest.raises(UnidentifiedImageError):
                Image.open(tmp_path / "cut.twc")
        gc.collect()
        assert handles() == before
