"""What a picture takes of memory is known before it is taken, and --max-memory holds."""

import ctypes
import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from PIL import Image

import twcodec
from twcodec.cli import options
from twcodec.codec import allocator, grid, memory, resources
from twcodec.codec.memory import Size
from twcodec.codec.settings import Settings
from twcodec.errors import LimitError
from twcodec.imaging.picture import Picture

MB, GB = 10**6, 10**9
HUNDRED_MEGAPIXELS = Size(10_000, 10_000, 3)
FP32 = torch.float32


@pytest.fixture
def process(monkeypatch):
    """This process has 300 MB, and gives nothing back."""
    monkeypatch.setattr(resources, "resident", lambda root="": 300 * MB)
    monkeypatch.setattr(memory, "give_back_freed_memory", lambda: None)


def least(choose, low=300 * MB, high=1000 * GB):
    """The smallest budget with which `choose` does not raise, to 1 MB."""
    while high - low > MB:
        middle = (low + high) // 2
        try:
            choose(middle)
            high = middle
        except LimitError:
            low = middle
    return high


def test_a_smaller_budget_takes_smaller_tiles_and_at_last_none(codec, process):
    def chosen(budget):
        return memory.for_encoding(codec.model, Size(3000, 4000, 3), Settings(), FP32, budget)

    smallest = least(chosen)
    tiles = [chosen(budget) for budget in range(smallest, smallest + 400 * MB, 5 * MB)]
    assert tiles == sorted(tiles)
    assert set(tiles) == set(memory.TILES) == {64, 48, 32, 16}
    with pytest.raises(LimitError, match=r"needs about \d+M, \d+M are allowed \(--max-memory\)"):
        chosen(smallest - 2 * MB)


def test_a_hundred_megapixels_fit_in_what_is_promised(codec, process):
    assert 2 * GB < least(lambda b: memory.for_encoding(codec.model, HUNDRED_MEGAPIXELS, Settings(), FP32, b)) < 4 * GB
    assert 1 * GB < least(lambda b: memory.for_decoding(codec.model, HUNDRED_MEGAPIXELS, FP32, b)) < 3 * GB
    assert memory.for_encoding(codec.model, HUNDRED_MEGAPIXELS, Settings(), FP32, 4 * GB) == 64


def test_more_ways_depth_and_metrics_take_more(codec, process):
    def needed(size=HUNDRED_MEGAPIXELS, **how):
        return least(lambda b: memory.for_encoding(codec.model, size, Settings(**how), FP32, b))

    two_ways = needed()
    assert needed(transform="never") < two_ways < needed(ways=4)
    assert two_ways < needed(metric="ms-ssim")
    assert two_ways < needed(Size(10_000, 10_000, 3, sample=4))
    assert needed(Size(10_000, 10_000, 1)) <= two_ways  # a stage without pixels may take as much


def test_a_serial_context_holds_the_latents_of_all_ways_as_long_as_the_score_needs_them(process):
    """An estimate keeps them until the winner is coded; what is exact has done with them when distortions begin."""
    model = twcodec.open_codec("default-context", "cpu").model
    size, positions = Size(1600, 1600, 3), 101**2

    def held(ways, score):
        return memory._encoding(model.family.footprint, (101, 101), size, Settings(ways=ways, score=score))

    for ways in (2, 4):
        more = held(ways, "fast").with_tile - held(ways, "exact").with_tile
        assert more >= positions * ways * 4 * model.family.footprint.m, "latents, and the winner's symbols once more"


def test_what_the_coder_takes_of_a_stream_of_escapes_is_counted(codec, process):
    def needed(size):
        return least(lambda b: memory.check_symbols(codec.model, size, b))

    assert needed(Size(3000, 4000, 3, coded=40 * MB)) - needed(Size(3000, 4000, 3)) >= 120 * MB
    assert needed(Size(3000, 4000, 3, beside=12 * MB)) > needed(Size(3000, 4000, 3))


def test_what_is_printed_can_be_typed_and_is_never_equal():
    for size in (64 << 20, (64 << 20) + 1, 123_456_789, 9 << 30, (12 << 30) + 7):
        at_least, at_most = (options._memory(text(size)) for text in (resources.at_least, resources.at_most))
        assert at_most <= size <= at_least <= 1.07 * size + 1
        assert resources.at_least(size + 1) != resources.at_most(size)


def test_bytes_become_an_array_in_one_copy():
    samples = torch.zeros(3, 100, 200, dtype=torch.uint8).permute(1, 2, 0).contiguous().permute(2, 0, 1)
    assert np.shares_memory(grid.to_array(samples, 8), samples.numpy())
    turned = grid.to_array(samples.transpose(1, 2), 8)
    assert turned.flags.c_contiguous
    assert grid.to_array(samples.int(), 16).dtype == np.uint16


def test_symbols_alone_need_no_more_than_with_pixels(codec, process):
    size = Size(1000, 1000, 3)
    with_pixels = least(lambda b: memory.for_decoding(codec.model, size, FP32, b))
    alone = least(lambda b: memory.check_symbols(codec.model, size, b))
    assert alone <= with_pixels
    assert memory.for_decoding(codec.model, size, FP32, alone + 2 * MB) < 64, "a large tile takes more than they do"


def test_nothing_of_the_pictures_size_is_made_before_it_is_refused(codec):
    """100 gigapixels that are one byte in memory: whoever copied them would not come back."""
    claimed = Picture(np.broadcast_to(np.uint8(0), (400_000, 250_000, 3)), "RGB")
    with pytest.raises(LimitError, match=r"G, .* are allowed"):
        codec.encode_picture(claimed, Settings())


def test_the_limit_holds_for_every_call(crop, monkeypatch):
    data = twcodec.open_codec(device="cpu").encode_picture(crop(64, 48), Settings())[0]
    small = twcodec.open_codec(device="cpu", max_memory=100 << 20)
    for call in (
        lambda: small.encode_picture(crop(64, 48), Settings()),
        lambda: small.decode(data),
        lambda: small.verify(data),
        lambda: small.decode_symbols(data),
        lambda: small.encode(Image.new("I;16", (64, 48))),
    ):
        with pytest.raises(LimitError, match=r"100M are allowed \(--max-memory\)"):
            call()


def test_what_is_chosen_is_what_networks_run_on(crop, monkeypatch):
    """And the file is the same but for last bits of floats."""
    codec = twcodec.open_codec(device="cpu", precision="fp32")
    picture, sizes, first = crop(600, 900), [], codec.model.family._conv
    whole = codec.decode_picture(codec.encode_picture(picture, Settings(seed=1))[0]).samples

    def watched(x, name, **how):
        sizes.append(max(x.shape[-2:]) if name == "g_s.bank" else 0)
        return first(x, name, **how)

    monkeypatch.setattr(codec.model.family, "_conv", watched)
    monkeypatch.setattr(memory, "plan", lambda *_: 16)
    tiled = codec.decode_picture(codec.encode_picture(picture, Settings(seed=1))[0]).samples
    assert max(sizes) == 16 + 2 * codec.model.family.footprint.halo
    assert np.abs(whole.astype(int) - tiled).mean() < 0.02


def test_bytes_are_not_copied_and_not_changed(codec):
    samples = np.random.default_rng(1).integers(0, 256, (64, 48, 3), np.uint8)
    before = samples.copy()
    shared = torch.from_numpy(samples).data_ptr()
    assert grid.to_samples(samples, torch.device("cpu")).data_ptr() == shared
    for awkward in (samples[::-1], samples[:, ::-1], np.broadcast_to(np.uint8(7), (64, 48, 3))):
        assert np.array_equal(grid.to_array(grid.to_samples(awkward, torch.device("cpu")), 8), awkward)
    codec.encode_picture(Picture(samples, "RGB"), Settings(ways=4, seed=1))
    assert np.array_equal(samples, before)


def test_memory_that_is_free_is_given_back_before_a_picture_is_refused(codec, monkeypatch):
    has = [10 * GB]
    monkeypatch.setattr(resources, "resident", lambda root="": has[0])
    monkeypatch.setattr(memory, "give_back_freed_memory", lambda: has.__setitem__(0, 300 * MB))
    assert memory.for_decoding(codec.model, Size(512, 768, 3), FP32, 2 * GB) == 64


def test_freed_memory_is_given_back():
    code = """
        import torch
        from twcodec.codec import allocator, resources
        allocator.keep_freed_memory()
        kept = [torch.ones(1 << 22) for _ in range(20)]
        last = torch.ones(1 << 10)
        del kept
        before = resources.resident()
        allocator.give_back_freed_memory()
        print(before - resources.resident())
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 40 * MB


RUN = """
    import json, sys, numpy as np, torch, twcodec
    from twcodec.codec import allocator, memory
    from twcodec.codec.codec import read
    from twcodec.codec.settings import Settings
    from twcodec.imaging.picture import Picture
    how = json.loads(sys.argv[1])
    allocator.keep_freed_memory()
    picture = read(how["path"])
    rows, columns = how.get("size", picture.samples.shape[:2])
    samples = np.resize(picture.samples[..., : how.get("channels", 3)], (rows, columns, how.get("channels", 3)))
    picture = Picture(samples, {1: "L", 3: "RGB"}[samples.shape[2]])
    settings = Settings(seed=1, measure=True, **how.get("settings", {}))
    codec = twcodec.open_codec(how.get("model", "default"), "cpu", how.get("precision", "auto"), how.get("threads"))
    if how.get("hostile"):  # a stream of escapes, from an encoder that does not care
        analyse = codec.model.family.g_a
        codec.model.family.g_a = lambda *args: analyse(*args).mul_(3000)
    data = b"" if how["call"] == "encode" else codec.encode_picture(picture, settings)[0]
    allocator.give_back_freed_memory()
    first, found = memory.plan, []
    def plan(model, grid, held, itemsize, budget):
        tiles = memory.TILES if how.get("tight") else memory.TILES[:1]
        found.append(min(memory.estimate(model, grid, held, itemsize, tile) for tile in tiles))
        return first(model, grid, held, itemsize, found[0] + 10**6)  # resident memory grows as one looks
    memory.plan = plan
    open("/proc/self/clear_refs", "w").write("5")
    codec.encode_picture(picture, settings) if how["call"] == "encode" else getattr(codec, how["call"])(data)
    words = open("/proc/self/status").read().split()
    print(found[0], int(words[words.index("VmHWM:") + 1]) * 1024)
"""


@pytest.fixture
def photo(crop, tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(crop(1200, 1700).samples).save(path, compress_level=1)
    return str(path)


def estimate_and_peak(**how):
    """Of a process of its own: docs/decisions.md has other sizes and models."""
    command = [sys.executable, "-c", textwrap.dedent(RUN), json.dumps(how)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    estimate, peak = map(int, done.stdout.split())
    return estimate, peak


linux = pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")


@linux
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_estimate_is_not_below_the_peak_nor_far_above(precision, photo):
    estimate, peak = estimate_and_peak(call="encode", path=photo, precision=precision)
    assert peak < estimate < 1.35 * peak, (estimate, peak)


@linux
@pytest.mark.parametrize(
    "how",
    [
        {"call": "encode", "size": (1, 60000)},
        {"call": "encode", "size": (700, 900), "settings": {"metric": "ms-ssim"}},
        {"call": "encode", "size": (700, 900), "channels": 1, "settings": {"metric": "ms-ssim"}},
        {"call": "encode", "model": "default-1"},
        {"call": "encode", "size": (700, 900), "settings": {"ways": 8}},
        {"call": "encode", "size": (500, 700), "model": "default-context", "settings": {"ways": 4, "score": "fast"}},
        {"call": "encode", "size": (500, 700), "threads": 64},
        {"call": "decode", "size": (1, 60000)},
        {"call": "verify", "hostile": True, "settings": {"quality": 1, "transform": "never"}},
    ],
    ids=lambda how: "-".join(map(str, how.values())),
)
def test_the_least_that_is_allowed_is_not_exceeded(how, photo):
    estimate, peak = estimate_and_peak(path=photo, tight=True, **how)
    assert peak <= estimate, (estimate, peak)


def test_the_allocator_is_left_alone_where_it_is_another(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: pytest.fail("there is no glibc to load"))
    assert not allocator.keep_freed_memory()
    allocator.give_back_freed_memory()


def test_another_c_library_than_glibc_has_nothing_to_give_back(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    for name in ("MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)
    assert not allocator.keep_freed_memory()
    allocator.give_back_freed_memory()
