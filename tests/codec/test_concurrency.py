"""One codec and many threads: the answers are those of one thread."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest

import twcodec
from twcodec.codec.codec import Codec
from twcodec.errors import TwcError

VECTORS = Path(__file__).resolve().parents[2] / "formats" / "vectors"
MANIFEST = json.loads((VECTORS / "manifest.json").read_text())
THREADS = 8
SIZES = [(64, 96), (33, 47), (120, 80), (16, 200)]
FILES = ["rgb-metadata", "rgba-24x33", "lapped-rgb-100x90", "context-rgb-7x300", "1-48x32", "guard-rgba-28x20"]
BROKEN = ["symbols-crc", "alpha-bomb", "data-flip", "guard-samples-crc", "unknown-model"]

Job = Callable[[Codec], object]


def file(folder: str, name: str) -> bytes:
    return (VECTORS / folder / f"{name}.twc").read_bytes()


def encoding(picture, **options) -> Job:
    return lambda codec: codec.encode(picture, **options)


def decoding(data: bytes) -> Job:
    def work(codec):
        image = codec.decode(data)
        return image.mode, image.size, image.tobytes(), sorted(image.info)

    return work


def symbols(data: bytes) -> Job:
    def work(codec):
        found = codec.decode_symbols(data)
        return found.z.numpy().tobytes(), found.y.numpy().tobytes()

    return work


def refusal(data: bytes) -> Job:
    def work(codec):
        with pytest.raises(TwcError) as caught:
            codec.decode(data)
        return caught.value.exit_code, str(caught.value)

    return work


@pytest.fixture(scope="module")
def jobs(astronaut) -> list[Job]:
    """Mixed: encodings of several kinds, sound files of three models and of none, broken ones."""
    from PIL import Image

    pictures = [Image.fromarray(np.ascontiguousarray(astronaut[:h, 100 : 100 + w])) for h, w in SIZES]
    encodings = [encoding(p, quality=2 + i, seed=i, ways=1 + i % 3) for i, p in enumerate(pictures)]
    encodings += [encoding(pictures[1], quality=3, seed=1, guard="avif"), encoding(pictures[1], seed=1, effort=1)]
    encodings += [encoding(pictures[2], quality=5.5, seed=7, metric="ms-ssim")]
    files = [file("valid", name) for name in FILES]
    decodings = [decoding(data) for data in files] + [symbols(data) for data in files[:4]]
    mixed = [*encodings, *decodings, *(refusal(file("malformed", name)) for name in BROKEN)]
    return [mixed[i * 7 % len(mixed)] for i in range(2 * len(mixed))]  # every one twice, in another order


@pytest.fixture(scope="module")
def serially(jobs):
    codec = twcodec.open_codec(device="cpu", threads=1)
    return [job(codec) for job in jobs]


def together(codec, jobs: list[Job]) -> list[object]:
    """All jobs in eight threads, which begin at the same moment."""
    start = Barrier(THREADS)

    def work(offset: int) -> list[object]:
        start.wait()
        return [job(codec) for job in jobs[offset::THREADS]]

    with ThreadPoolExecutor(THREADS) as pool:
        parts = list(pool.map(work, range(THREADS)))
    return [parts[i % THREADS][i // THREADS] for i in range(len(jobs))]


@pytest.mark.parametrize("threads", [1, 2, None])
def test_eight_threads_with_one_codec_find_what_one_finds(jobs, serially, threads):
    found = together(twcodec.open_codec(device="cpu", threads=threads), jobs)
    assert [i for i, (ours, theirs) in enumerate(zip(found, serially, strict=True)) if ours != theirs] == []


def test_a_model_that_eight_threads_need_at_once_is_loaded_once(monkeypatch):
    from twcodec.codec import codec as module

    loaded, model = [], module.Model
    codec = twcodec.open_codec(device="cpu", threads=1)
    monkeypatch.setattr(module, "Model", lambda data, name, device: loaded.append(name) or model(data, name, device))
    expected = {entry["file"]: entry["symbols"]["sha256"] for entry in MANIFEST["valid"] if "symbols" in entry}
    assert "valid/rgb-1x1.twc" in expected
    found = together(codec, [symbols(file("valid", "rgb-1x1")) for _ in range(16)])
    assert len(set(found)) == 1
    assert loaded == ["default-1"]
