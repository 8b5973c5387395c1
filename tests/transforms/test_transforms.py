import collections

import numpy as np
import pytest
import torch

from twcodec.errors import UnsupportedError, UsageError
from twcodec.transforms import BY_NAME, IDENTITY, by_id, by_name, default_set
from twcodec.transforms.placement import Placement, grid_shift
from twcodec.transforms.splitmix import SplitMix64

SIZES = [(1, 1), (1, 2), (2, 1), (3, 1), (7, 300), (16, 16), (63, 65), (512, 768)]


def test_splitmix64_gives_the_published_stream():
    """The first five outputs for the seed 1234567, as in the reference implementation's test."""
    rng = SplitMix64(1234567)
    assert [rng.next() for _ in range(5)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_draws_below_stay_below_and_reach_everything():
    rng = SplitMix64(9)
    assert {rng.below(7) for _ in range(500)} == set(range(7))


@pytest.mark.parametrize("name", BY_NAME)
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_every_transform_is_undone_exactly(name, height, width):
    x = torch.arange(3 * height * width).reshape(3, height, width)
    for seed in range(40):
        draw = by_name(name).from_seed(seed, height, width)
        moved = draw.apply(x)
        assert moved.shape == (3, *draw.size(height, width))
        assert torch.equal(draw.undo(moved), x), (draw, seed)


def test_the_eight_flips_and_turns_are_eight_different_ones():
    x = torch.arange(6).reshape(1, 2, 3)
    results = {str(Placement(turn).apply(x).tolist()) for turn in range(8)}
    assert len(results) == 8


def test_flips_and_turns_do_what_their_bits_say():
    x = np.arange(6).reshape(1, 2, 3)
    for turn in range(8):
        want = x.transpose(0, 2, 1) if turn & 4 else x
        want = want[:, ::-1] if turn & 2 else want
        want = want[:, :, ::-1] if turn & 1 else want
        assert np.array_equal(Placement(turn).apply(torch.from_numpy(x)).numpy(), want)


@pytest.mark.parametrize("name", BY_NAME)
def test_no_draw_is_the_identity_or_a_whole_step_of_the_grid(name):
    for seed in range(3000):
        draw = by_name(name).from_seed(seed, 500, 700)
        assert draw != IDENTITY
        assert max(draw.dy, draw.dx) < 16
        assert draw.turn or draw.dy or draw.dx


def test_all_seven_flips_are_drawn_about_equally_often():
    counts = collections.Counter(by_name("flip-turn").from_seed(seed, 8, 8).turn for seed in range(7000))
    assert set(counts) == set(range(1, 8))
    assert min(counts.values()) > 850


def test_all_255_shifts_are_drawn():
    drawn = {by_name("grid-shift").from_seed(seed, 8, 8) for seed in range(6000)}
    assert len(drawn) == 255


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_a_shift_within_the_slack_never_adds_latents(height, width):
    cells = {-(-height // 16) * -(-width // 16)}
    for seed in range(300):
        rows, columns = by_name("flip-turn-slack").from_seed(seed, height, width).size(height, width)
        assert {-(-rows // 16) * -(-columns // 16)} == cells


def test_the_margin_is_the_reflection_of_the_picture():
    x = torch.arange(20).reshape(1, 4, 5)
    assert torch.equal(
        grid_shift(x, 2, 3), torch.from_numpy(np.pad(x.numpy(), ((0, 0), (2, 0), (3, 0)), mode="reflect"))
    )


def test_draws_are_pinned():
    """Parameters are part of the format: if this fails, old files no longer decode."""
    found = {(name, seed): by_name(name).from_seed(seed, 500, 700) for name in BY_NAME for seed in (0, 1, 0xFFFFFFFF)}
    assert {key: (d.turn, d.dy, d.dx) for key, d in found.items()} == PINNED


PINNED = {
    ("flip-turn", 0): (6, 0, 0),
    ("flip-turn", 1): (1, 0, 0),
    ("flip-turn", 0xFFFFFFFF): (5, 0, 0),
    ("grid-shift", 0): (0, 14, 7),
    ("grid-shift", 1): (0, 12, 4),
    ("grid-shift", 0xFFFFFFFF): (0, 5, 3),
    ("flip-turn-shift", 0): (3, 0, 14),
    ("flip-turn-shift", 1): (4, 0, 14),
    ("flip-turn-shift", 0xFFFFFFFF): (3, 12, 7),
    ("flip-turn-slack", 0): (4, 3, 6),
    ("flip-turn-slack", 1): (3, 10, 3),
    ("flip-turn-slack", 0xFFFFFFFF): (7, 4, 5),
}


def test_the_default_set_shifts_freely_only_large_pictures():
    assert [t.name for t in default_set(512, 768)] == ["flip-turn"]
    assert [t.name for t in default_set(4096, 6000)] == ["flip-turn-shift"]


def test_unknown_transforms_are_refused():
    with pytest.raises(UsageError, match="flip-turn"):
        by_name("spin")
    with pytest.raises(UnsupportedError, match="transform 77"):
        by_id(77)
