"""Parts of y in the order of coding, and bands of rows: what encoder and decoder share on their way."""

import itertools

import numpy as np
import pytest
import torch

from twcodec.exact import walk
from twcodec.exact.two_step import Half, first_step
from twcodec.exact.walk import Part, Walked, bands
from twcodec.exact.wavefront import _Front, wavefronts

CPU = torch.device("cpu")
SHAPES = [*itertools.product((1, 2, 3, 6), (1, 2, 5), (1, 2, 4, 7))]
STEPS = {"everything": (Part, lambda _c, _r, _q: True)} | {
    f"half {step}": (lambda *a, step=step: Half(step, *a), lambda c, r, q, step=step: (c + r + q) % 2 == step)
    for step in (0, 1)
}
"""What makes each part of a shape, and which symbols (channel, row, column) it holds."""


def part_of(name: str, shape: tuple[int, int, int]) -> Part:
    make = STEPS[name][0]
    return make() if make is Part else make(shape, CPU)


def order_of(name: str, shape: tuple[int, int, int]) -> list[tuple[int, int, int]]:
    """Row, column and channel of its symbols: channel by channel, rows first."""
    places = itertools.product(*map(range, shape))
    return [(r, q, c) for c, r, q in places if STEPS[name][1](c, r, q)]


def numbered(shape: tuple[int, int, int], kind=np.int16) -> np.ndarray:
    """(h, w, M) in which no two values are the same, but for the smallest type."""
    channels, height, width = shape
    return np.random.default_rng(0).permutation(channels * height * width).astype(kind).reshape(height, width, channels)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", STEPS)
def test_a_part_is_taken_channel_by_channel_rows_first(name, shape):
    whole, part, order = numbered(shape), part_of(name, shape), order_of(name, shape)
    expected = [whole[place] for place in order]
    assert part.take(whole).tolist() == expected
    channels_first = np.ascontiguousarray(whole.transpose(2, 0, 1)).transpose(1, 2, 0)
    assert part.take(channels_first).tolist() == expected


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("kind", [np.uint8, np.int16])
def test_what_was_taken_is_put_back_where_it_was(name, shape, kind):
    """And nothing else is touched."""
    whole, part, order = numbered(shape, kind), part_of(name, shape), order_of(name, shape)
    taken = part.take(whole)
    assert (taken.dtype, taken.ndim, len(taken)) == (kind, 1, len(order))
    found = np.full_like(whole, 77)
    part.put(found, taken)
    expected = np.full_like(whole, 77)
    for place in order:
        expected[place] = whole[place]
    assert np.array_equal(found, expected)
    assert np.array_equal(part.take(found), taken)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_halves_together_are_everything(shape):
    whole, found = numbered(shape), np.full((*shape[1:], shape[0]), -1, np.int16)
    for name in ("half 0", "half 1"):
        part_of(name, shape).put(found, part_of(name, shape).take(whole))
    assert np.array_equal(found, whole)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("step", [0, 1])
def test_a_half_has_the_same_mask_in_any_band(shape, step):
    whole = first_step(shape).transpose(1, 2, 0) ^ (step == 1)
    for start, stop in itertools.combinations(range(len(whole) + 1), 2):
        assert Half(step, shape, CPU).of_band(slice(start, stop)).tolist() == whole[start:stop].tolist()


@pytest.mark.parametrize("size", [(1, 1), (3, 4), (4, 3)])
def test_a_front_is_taken_position_by_position_all_channels_of_one_at_once(size):
    whole = numbered((3, *size))
    for positions in wavefronts(*size):
        expected = [int(value) for p in positions.tolist() for value in whole[divmod(p, size[1])]]
        assert _Front(positions).take(whole).tolist() == expected


@pytest.mark.parametrize("positions", [1, 10, 11, 1 << 11])
@pytest.mark.parametrize("size", [(1, 1), (1, 30), (13, 5), (5, 1), (4, 0)])
def test_bands_are_all_rows_in_order(size, positions, monkeypatch):
    monkeypatch.setattr(walk, "_POSITIONS", positions)
    found = [range(band.start, band.stop) for band in bands(torch.zeros(*size, 2))]
    assert list(itertools.chain(*found)) == list(range(size[0]))
    assert all(len(rows) == 1 or len(rows) * size[1] <= positions for rows in found)


def test_bands_on_a_gpu_are_larger():
    tall = torch.zeros(1000, 1 << 11, 1, device="meta")
    assert len(list(bands(tall))) == -(-1000 // 32)
    assert len(list(bands(torch.zeros(10, 1 << 11, 1)))) == 10


def test_pictures_of_one_walk_share_its_memory():
    sizes, whole = [(2, 3), (1, 1), (4, 2)], Walked(15, 1, 5, CPU)
    whole.y[:, 0, 0] = torch.arange(15).short()
    parts = whole.split(sizes)
    assert [tuple(part.y.shape) for part in parts] == [(2, 3, 5), (1, 1, 5), (4, 2, 5)]
    assert [part.y[..., 0].tolist() for part in parts] == [
        [[0, 1, 2], [3, 4, 5]],
        [[6]],
        [[7, 8], [9, 10], [11, 12], [13, 14]],
    ]
    parts[1].levels[:], parts[2].means[:] = 9, 0.5
    assert whole.levels[:, 0, 0].tolist() == [0] * 6 + [9] + [0] * 8
    assert whole.means[:, 0, 4].tolist() == [0] * 7 + [0.5] * 8


@pytest.mark.parametrize("positions", [1, 7, 1 << 11])
def test_y_hat_is_the_means_and_the_symbols(positions, monkeypatch):
    monkeypatch.setattr(walk, "_POSITIONS", positions)
    walked = Walked(5, 3, 2, CPU)
    walked.y[:] = torch.arange(30).view(5, 3, 2).short() * 1000
    walked.means[:] = torch.arange(30).view(5, 3, 2) / 1024
    expected = walked.y + walked.means
    found = walked.y_hat()
    assert torch.equal(found, expected)
    assert found.data_ptr() == walked.means.data_ptr()
