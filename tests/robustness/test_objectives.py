"""Objectives on what a stand-in for a codec gives."""

from typing import NamedTuple

import pytest
import torch

from twcodec.errors import UsageError
from twcodec.robustness.attacks import attacked
from twcodec.robustness.objectives import OBJECTIVES, objective
from twcodec.robustness.search import Budget


class Coded(NamedTuple):
    x_hat: torch.Tensor
    bits: torch.Tensor


def coded(x):
    """Reconstructs brighter than it should, more so where it is bright; bits grow with what alternates."""
    return Coded(1.5 * x - 0.2, 100 + 50 * (x[..., 1:] - x[..., :-1]).abs().flatten(1).sum(1))


def pictures(side=12, seed=5):
    return torch.randint(0, 256, (2, 3, side, side + 4), generator=torch.Generator().manual_seed(seed)) / 255


def value(name, x, source, lambda_=0.01):
    return objective(name, source, coded(source), lambda_)(x, coded(x))


def mse(a, b):
    return torch.stack([((p.double() - q.double()) ** 2).mean() for p, q in zip(a, b, strict=True)]).float()


def test_distortions_are_of_what_is_clipped_against_what_their_name_says():
    source, x = pictures(), pictures(seed=6)
    seen = coded(x).x_hat.clamp(0, 1)
    assert not torch.equal(seen, coded(x).x_hat)
    assert torch.allclose(value("distortion", x, source), mse(seen, coded(source).x_hat.clamp(0, 1)))
    assert torch.allclose(value("self-distortion", x, source), mse(seen, x))
    assert torch.allclose(value("source-distortion", x, source), mse(seen, source))


def test_rates_are_bits_a_pixel_of_the_source():
    source, x = pictures(), pictures(seed=6)
    rate = coded(x).bits / (12 * 16)
    assert torch.allclose(value("rate", x, source), rate)
    assert torch.allclose(value("rd", x, source, 0.02), rate + 0.02 * 255**2 * value("self-distortion", x, source))


@pytest.mark.parametrize("side", [5, 12, 164])
def test_ms_ssim_is_that_of_the_codec_whatever_the_size(side):
    from twcodec.codec.distortion import ms_ssim_loss

    source, x = pictures(side), pictures(side, seed=6)
    levels = (coded(x).x_hat.clamp(0, 1) * 255**2).round()
    expected = [ms_ssim_loss(a, b, 255**2) for a, b in zip(levels, x * 255**2, strict=True)]
    assert torch.allclose(value("ms-ssim", x, source).double(), torch.stack(expected), atol=1e-4)
    same = objective("ms-ssim", source, coded(source), 0.01)(x, Coded(x, coded(x).bits))
    assert same.abs().max() < 1e-5


def test_nothing_is_distorted_where_nothing_was_attacked():
    assert (value("distortion", pictures(), pictures()) == 0).all()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_each_picture_has_a_number_of_its_own_and_a_gradient(name):
    source, x = pictures(), pictures(seed=6)
    values = value(name, x.requires_grad_(), source)
    assert values.shape == (2,)
    (gradient,) = torch.autograd.grad(values[0], x)
    assert gradient[0].abs().max() > 0
    assert gradient[1].abs().max() == 0
    alone = value(name, x[:1], source[:1])
    assert torch.allclose(alone, values[:1])


@pytest.mark.parametrize("name", ["distortion", "self-distortion", "source-distortion", "ms-ssim", "rd"])
@pytest.mark.parametrize("offset", [-2.0, 2.0, 1e4])
def test_a_reconstruction_out_of_range_has_the_clipped_value_and_still_a_gradient(name, offset):
    source = pictures()
    out = (source + offset).requires_grad_()
    bits = torch.zeros(2)
    raised = objective(name, source, coded(source), 0.01)
    values = raised(source, Coded(out, bits))
    assert torch.equal(values, raised(source, Coded(out.detach().clamp(0, 1), bits)))
    (gradient,) = torch.autograd.grad(values.sum(), out)
    assert gradient.abs().flatten(1).amax(1).min() > 0


def test_the_clean_side_has_no_part_in_the_gradient():
    source = pictures().requires_grad_()
    values = objective("distortion", source, coded(source), 0.01)(pictures(seed=6), coded(pictures(seed=6)))
    assert not values.requires_grad


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_can_be_attacked(name):
    source = (
        pictures() * 127
    ).round() / 255 + 64 / 255  # nothing is clipped, where the gradient would not be the true one
    raised = objective(name, source, coded(source), 0.01)
    found = attacked("pgd", lambda x: raised(x, coded(x)), source, Budget(4, steps=10))
    assert (value(name, found, source) > value(name, source, source)).all()


def test_an_unknown_name_is_told_the_names():
    with pytest.raises(UsageError, match=r"no objective is called psnr; there are distortion, .*rd"):
        objective("psnr", pictures(), coded(pictures()), 0.01)
