"""What a picture takes of memory is known before it is taken, and --max-memory holds."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from PIL import Image

import twcodec
from twcodec.codec import allocator, memory, resources
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
    with pytest.raises(LimitError, match=r"needs about .* [GM]B, .* are allowed \(--max-memory\)"):
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


def test_symbols_alone_need_less_than_pixels(codec, process):
    size = Size(1000, 1000, 3)
    with_pixels = least(lambda b: memory.for_decoding(codec.model, size, FP32, b))
    assert least(lambda b: memory.check_symbols(codec.model, size, b)) < with_pixels


def test_nothing_of_the_pictures_size_is_made_before_it_is_refused(codec):
    """100 gigapixels that are one byte in memory: whoever copied them would not come back."""
    claimed = Picture(np.broadcast_to(np.uint8(0), (400_000, 250_000, 3)), "RGB")
    with pytest.raises(LimitError, match=r"GB, .* are allowed"):
        codec.encode_picture(claimed, Settings())


def test_the_limit_holds_for_every_call(crop, monkeypatch):
    data = twcodec.open_codec(device="cpu").encode_picture(crop(64, 48), Settings())[0]
    small = twcodec.open_codec(device="cpu", max_memory=100 << 20)
    for call in (
        lambda: small.encode_picture(crop(64, 48), Settings()),
        lambda: small.decode(data),
        lambda: small.verify(data),
        lambda: small.encode(Image.new("I;16", (64, 48))),
    ):
        with pytest.raises(LimitError, match=r"104 MB are allowed \(--max-memory\)"):
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
    from twcodec.codec import grid

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


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_estimate_is_not_below_the_peak_nor_far_above(precision, crop, tmp_path):
    """In a process of its own, of 2 megapixels. docs/decisions.md has other sizes and models."""
    path = tmp_path / "photo.png"
    Image.fromarray(crop(1200, 1700).samples).save(path)
    code = f"""
        import sys, twcodec
        from twcodec.codec import allocator, memory
        from twcodec.codec.codec import read
        from twcodec.codec.settings import Settings
        allocator.keep_freed_memory()
        picture = read({str(path)!r})
        codec = twcodec.open_codec(device="cpu", precision={precision!r})
        first, found = memory.plan, []
        def plan(*args):
            tile = first(*args)
            found.append(memory.estimate(*args[:4], tile))
            return tile
        memory.plan = plan
        def peak():
            words = open("/proc/self/status").read().split()
            return int(words[words.index("VmHWM:") + 1]) * 1024
        codec.encode_picture(picture, Settings(seed=1))
        print(found[0], peak())
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    estimate, peak = map(int, done.stdout.split())
    assert 0.95 * peak < estimate < 1.25 * peak, (estimate, peak)


def test_the_allocator_is_left_alone_where_it_is_another(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    allocator.give_back_freed_memory()
