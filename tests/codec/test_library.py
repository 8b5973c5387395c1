"""The three names that scripts use, and what a codec object promises."""

import concurrent.futures
import io
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from PIL import Image

import twcodec
from twcodec.errors import MissingError, UnsupportedError, UsageError
from twcodec.models import catalogue


@pytest.fixture(scope="module")
def photo(astronaut):
    return Image.fromarray(astronaut[:90, :120])


def test_encode_takes_an_image_a_path_bytes_or_a_stream(codec, photo, tmp_path):
    photo.save(tmp_path / "p.png")
    raw = (tmp_path / "p.png").read_bytes()
    files = {
        codec.encode(source, seed=5)
        for source in (photo, tmp_path / "p.png", str(tmp_path / "p.png"), raw, io.BytesIO(raw))
    }
    assert len(files) == 1


def test_decode_gives_a_pil_image(codec, photo):
    image = codec.decode(codec.encode(photo, quality=7))
    assert (image.size, image.mode) == (photo.size, "RGB")
    assert np.abs(np.asarray(image).astype(int) - np.asarray(photo)).mean() < 4


def test_info_is_the_header_as_a_dataclass(codec, photo):
    data = codec.encode(photo, quality=2.5, ways=3, transform="always", seed=9)
    info = twcodec.info(data)
    assert (info.width, info.height, info.mode) == (120, 90, "RGB")
    assert info.model == catalogue.read("default")[0]
    assert (info.quality, info.transformed, info.ways) == (2.5, True, 2)
    assert info.digest == codec.model.digest.hex()
    assert info.transform == "flip-turn"
    assert info.seed >= 9
    assert info.payload_bytes == len(data) - 92


def test_the_one_shot_forms(photo):
    data = twcodec.encode(photo, 3.0, transform="never", device="cpu")
    assert twcodec.decode(data, device="cpu").size == photo.size
    assert twcodec.info(data).quality == 3.0


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "I;16", "P", "CMYK"])
def test_modes_come_back(codec, photo, mode):
    if mode == "I;16":
        image = Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257)
    else:
        image = photo.convert("RGBA").convert(mode) if mode == "RGBA" else photo.convert(mode)
    if mode in ("LA", "RGBA"):
        image.putalpha(Image.fromarray(np.arange(90 * 120, dtype=np.uint8).reshape(90, 120)))
    back = codec.decode(codec.encode(image, quality=6))
    assert (back.size, back.mode) == (image.size, {"P": "RGB", "CMYK": "RGB"}.get(mode, mode))
    if mode in ("LA", "RGBA"):
        assert np.array_equal(np.asarray(back)[..., -1], np.asarray(image)[..., -1])
    if mode == "I;16":
        difference = np.abs(np.asarray(back).astype(int) - np.asarray(image).astype(int))
        assert difference.mean() < 4 * 257


def test_metadata_travels_or_does_not(codec, photo):
    image = photo.copy()
    exif = image.getexif()
    exif[0x0112] = 6
    exif[0x010F] = "twc"
    image.info["exif"] = exif.tobytes()
    kept = codec.decode(codec.encode(image))
    assert (kept.getexif()[0x010F], kept.getexif()[0x0112], kept.size) == ("twc", 6, (120, 90))
    bare = codec.decode(codec.encode(image, metadata="none"))
    assert (dict(bare.getexif()), bare.size) == ({}, (90, 120))


def test_threads_may_share_a_codec(codec, photo):
    pictures = [photo.crop((i, 0, i + 60, 70)) for i in range(6)]
    alone = [codec.encode(p, seed=1) for p in pictures]
    together = [b""] * len(pictures)

    def work(i):
        data = codec.encode(pictures[i], seed=1)
        codec.decode(data)
        together[i] = data

    workers = [threading.Thread(target=work, args=(i,)) for i in range(len(pictures))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert together == alone


def test_the_given_image_is_not_changed(codec, photo):
    before = photo.tobytes()
    codec.encode(photo)
    assert photo.tobytes() == before


def test_wrong_arguments_are_named():
    with pytest.raises(UsageError, match="warp"):
        twcodec.open_codec(device="warp")
    with pytest.raises(UnsupportedError, match="nosuch"):
        twcodec.open_codec(model="nosuch", device="cpu")
    with pytest.raises(UsageError, match="threads"):
        twcodec.open_codec(threads=0)
    with pytest.raises(UsageError, match="fp64"):
        twcodec.open_codec(precision="fp64")


def test_a_device_that_is_not_there_is_missing():
    with pytest.raises(MissingError, match="cuda:77"):
        twcodec.open_codec(device="cuda:77")


@pytest.mark.parametrize("wrong", ["x.twc", None, 5, np.zeros(3)])
def test_what_is_no_file_or_picture_is_a_usage_error(codec, wrong):
    for call in (codec.decode, twcodec.info):
        with pytest.raises(UsageError, match="bytes of a TWC file"):
            call(wrong)
    if not isinstance(wrong, str):  # encode takes a path
        with pytest.raises(UsageError, match="a picture is"):
            codec.encode(wrong)


def test_threads_are_given_back(photo):
    import torch

    before = torch.get_num_threads()
    twcodec.open_codec(device="cpu", threads=1).encode(photo)
    assert torch.get_num_threads() == before


def test_codecs_with_threads_of_their_own_leave_torchs_count_as_it_was(photo):
    import torch

    before = torch.get_num_threads()
    codecs = [twcodec.open_codec(device="cpu", threads=n) for n in (1, 2)]

    def work(i: int) -> int:
        codecs[i % 2].encode(photo, seed=i)
        return torch.get_num_threads()

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        inside = list(pool.map(work, range(6)))
        afterwards = list(pool.map(lambda _: torch.get_num_threads(), range(6)))
    assert set(afterwards) == {before} == {inside[-1], torch.get_num_threads()}


def _in_a_fork(path, before_the_fork: str, in_the_child: str = "") -> None:
    """Decode in a process, and in one that is forked from it."""
    code = f"""
import os, signal, threading, twcodec
import numpy as np
data = open({str(path)!r}, "rb").read()
{before_the_fork}
expected = np.asarray(codec.decode(data)).astype(int)
child = os.fork()
if child == 0:
    signal.alarm(60)
    difference = np.abs(np.asarray(codec.decode(data)) - expected).max()  # one level: of other threads, other roundings
    {in_the_child}
    os._exit(difference > 1)
os._exit(os.waitpid(child, 0)[1] != 0)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
@pytest.mark.parametrize("threads", [None, 2])
def test_a_process_that_was_forked_decodes_too(codec, photo, tmp_path, threads):
    """torch's threads do not survive a fork, and OpenMP waits for them for ever."""
    (tmp_path / "p.twc").write_bytes(codec.encode(photo))
    _in_a_fork(tmp_path / "p.twc", f'codec = twcodec.open_codec(device="cpu", threads={threads})')


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
def test_a_fork_amid_the_calls_of_other_threads_leaves_nothing_of_them(codec, photo, tmp_path):
    (tmp_path / "p.twc").write_bytes(codec.encode(photo))
    amid = """
import torch
from twcodec.codec import runtime
codec = twcodec.open_codec(device="cpu", threads=3)
before = torch.backends.cudnn.deterministic
inside = threading.Event()
def run():
    with runtime.running(torch.device("cpu"), 2), runtime._cudnn.at(runtime._EXACT_CUDNN):
        assert torch.backends.cudnn.deterministic != before
        inside.set()
        threading.Event().wait()
def load():
    with codec._lock:
        threading.Event().wait()
codec.decode(data)
threading.Thread(target=run, daemon=True).start()
inside.wait()
fork = os.fork
def with_locks_taken():
    threading.Thread(target=load, daemon=True).start()
    for held in (runtime._threads, runtime._cudnn):
        threading.Thread(target=held._lock.acquire, daemon=True).start()
    while not all(lock.locked() for lock in (codec._lock, runtime._threads._lock, runtime._cudnn._lock)):
        pass
    return fork()
os.fork = with_locks_taken
"""
    settings = "(torch.get_num_threads(), torch.backends.cudnn.deterministic, runtime._threads._held)"
    _in_a_fork(tmp_path / "p.twc", amid, f"assert {settings} == (1, before, []), {settings}")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
def test_a_call_that_is_left_in_a_forked_process_leaves_one_thread():
    code = """
import os, torch
from twcodec.codec.runtime import running
torch.set_num_threads(3)
with running(torch.device("cpu"), 2):
    child = os.fork()
if child == 0:
    with running(torch.device("cpu"), 2):
        inside = torch.get_num_threads()
    os._exit((inside, torch.get_num_threads()) != (1, 1))
assert os.waitpid(child, 0)[1] == 0
assert torch.get_num_threads() == 3
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
def test_a_process_that_was_forked_before_the_first_call_has_its_threads():
    code = """
import os, torch
from twcodec.codec.runtime import running
torch.set_num_threads(3)
child = os.fork()
if child == 0:
    with running(torch.device("cpu"), 2):
        inside = torch.get_num_threads()
    os._exit((inside, torch.get_num_threads()) != (2, 3))
assert os.waitpid(child, 0)[1] == 0
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
def test_a_process_that_was_forked_leaves_the_other_ones_temporary_files(tmp_path):
    (tmp_path / "p.part").touch()
    code = f"""
import os
from twcodec.imaging import unfinished
unfinished.add({str(tmp_path / "p.part")!r})
child = os.fork()
if child == 0:
    unfinished.remove()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert os.path.exists({str(tmp_path / "p.part")!r})
unfinished.remove()
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert not list(tmp_path.iterdir())


def test_tf32_is_off_while_a_call_runs_and_as_before_afterwards():
    import torch

    from twcodec.codec import runtime

    before = torch.backends.cudnn.allow_tf32
    with runtime._cudnn.at(runtime._EXACT_CUDNN):
        with runtime._cudnn.at(runtime._EXACT_CUDNN):
            assert torch.backends.cudnn.allow_tf32 is False
        assert torch.backends.cudnn.allow_tf32 is False
        with torch.backends.cudnn.flags(enabled=True):  # another user's, in another thread say
            pass
    assert torch.backends.cudnn.allow_tf32 == before
    with runtime.running(torch.device("cpu"), 1):
        assert torch.backends.cudnn.allow_tf32 == before


def test_a_callers_autocast_changes_nothing(codec, photo):
    import torch

    data = codec.encode(photo, seed=1)
    with torch.autocast("cpu", torch.bfloat16):
        assert codec.encode(photo, seed=1) == data
        inside = codec.decode(data)
    assert inside.tobytes() == codec.decode(data).tobytes()


def test_running_out_of_memory_is_a_limit():
    import torch

    from twcodec.codec import runtime
    from twcodec.errors import LimitError

    with pytest.raises(LimitError, match="not enough memory"), runtime.running(torch.device("cpu"), None):
        torch.empty(1 << 60, dtype=torch.uint8)


def test_text_under_a_name_of_pillows_own_cannot_break_decoding(codec, tmp_path):
    from PIL.PngImagePlugin import PngInfo

    from twcodec.imaging.write import write_image

    text = PngInfo()
    for keyword in ("transparency", "icc_profile", "dpi", "gamma", "exif", "Title"):
        text.add_text(keyword, "x")
    Image.new("L", (20, 20)).save(tmp_path / "a.png", pnginfo=text)
    image = codec.decode(codec.encode(tmp_path / "a.png"))
    assert set(image.info) <= {"Title", "exif"}
    for form in ("PNG", "WEBP", "JPEG", "TIFF", "GIF"):
        write_image(image, io.BytesIO(), form)


def test_importing_twcodec_imports_nothing_heavy():
    code = "import sys, twcodec; print(sorted({'torch', 'numpy', 'PIL', 'click', 'construct'} & set(sys.modules)))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
