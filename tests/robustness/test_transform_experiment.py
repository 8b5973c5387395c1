"""The transforms of benchmarks/random_transforms.py: an experiment whose undo is wrong would blame the transform."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from random_transforms import TRIED, Chain, Dither, Gain, Resize, Tiles

BY_NAME = {transform.name: transform for transform in TRIED}
SIZE = 200, 136


@pytest.fixture(scope="module")
def photo(astronaut):
    return torch.from_numpy(astronaut[20:220, 160:296].copy()).permute(2, 0, 1)


def off(draw, x):
    """Levels by which applying and undoing changes values: all of them."""
    moved = draw.apply(x)
    assert moved.dtype == torch.uint8
    assert moved.shape[-2:] == draw.size(*x.shape[-2:])
    back = draw.undo(moved)
    assert back.dtype == torch.uint8
    return (back.int() - x.int()).abs()


def bound(draw, x):
    """The largest error that the transform's docstring allows where nothing is clipped."""
    if isinstance(draw, Gain):
        return 0.5 + 0.5 / min(draw.thousandths) * 1000
    return 0.0


def last(draw):
    return draw.second if isinstance(draw, Chain) else draw


@pytest.mark.parametrize("name", BY_NAME)
def test_every_transform_is_undone_within_its_bound(name, photo):
    middle = (photo // 2 + 64).to(torch.uint8)  # 64 .. 191: nothing is clipped
    for seed in range(20):
        draw = BY_NAME[name].from_seed(seed, *SIZE)
        if isinstance(last(draw), Resize):
            assert off(draw, middle).float().square().mean() < 6  # a photograph's finest details
        else:
            assert off(draw, middle).max() <= bound(last(draw), middle), draw


@pytest.mark.parametrize("name", [name for name in BY_NAME if "dither" in name])
def test_clipping_costs_dither_no_more_than_its_reach(name, photo):
    extreme = torch.where(photo > 127, 255, 0).to(torch.uint8)
    draw = BY_NAME[name].from_seed(3, *SIZE)
    assert 0 < off(draw, extreme).max() <= last(draw).reach


@pytest.mark.parametrize("name", BY_NAME)
def test_draws_differ_with_the_seed_and_repeat_with_it(name, photo):
    draws = [BY_NAME[name].from_seed(seed, *SIZE) for seed in range(30)]
    assert draws == [BY_NAME[name].from_seed(seed, *SIZE) for seed in range(30)]
    results = {(tuple(m.shape), m.numpy().tobytes()) for m in (draw.apply(photo) for draw in draws)}
    assert len(results) > 5
    assert not any(m[0] == tuple(photo.shape) and m[1] == photo.numpy().tobytes() for m in results)


@pytest.mark.parametrize("name", BY_NAME)
def test_attackers_see_what_the_codec_sees_and_have_a_gradient(name, photo):
    draw = BY_NAME[name].from_seed(1, *SIZE)
    x = (photo[None].float() / 255).requires_grad_()
    moved = draw.apply(x)
    assert np.array_equal((moved[0].detach() * 255).round().byte().numpy(), draw.apply(photo).numpy())
    back = draw.undo(moved)
    (gradient,) = torch.autograd.grad(back.sum(), x)
    assert back.shape == x.shape
    assert (gradient != 0).float().mean() > 0.99


def test_tiles_are_flipped_by_themselves():
    x = torch.arange(8 * 6).reshape(1, 8, 6)
    moved = Tiles(4, 3, (0, 1, 2, 3)).apply(x)
    assert torch.equal(moved[:, :4, :3], x[:, :4, :3])
    assert torch.equal(moved[:, :4, 3:], x[:, :4, 3:].flip(-1))
    assert torch.equal(moved[:, 4:, :3], x[:, 4:, :3].flip(-2))
    assert torch.equal(moved[:, 4:, 3:], x[:, 4:, 3:].flip(-1, -2))


def test_smooth_dither_is_smooth():
    grey = torch.full((3, 64, 64), 128, dtype=torch.uint8)
    moved = Dither(5, 4, True).apply(grey).int()
    assert moved.unique().numel() > 4
    assert moved.diff(dim=-1).abs().max() <= 1
