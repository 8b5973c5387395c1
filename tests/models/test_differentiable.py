"""The differentiable form computes what the codec computes, and its gradients point where the codec's loss falls."""

import numpy as np
import pytest
import torch

import twcodec
from twcodec.codec import grid
from twcodec.exact.coder import SEAL_BITS
from twcodec.models.differentiable import Differentiable
from twcodec.transforms import IDENTITY

CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=["default", "default-1", "default-context"])
def model(request):
    return twcodec.open_codec(request.param, device="cpu").model


def coded_by(model, samples, quality):
    """Bits and pixels of the codec."""
    family = model.family
    x = grid.Input(samples, 255, IDENTITY, family.stride)
    y = family.g_a(x, quality)
    symbols = family.entropy.quantise(y, family.h_a(y), quality)
    _, height, width = samples.shape
    return float(family.entropy.bits(symbols)), family.g_s(symbols.y_hat, quality)[:, :height, :width]


@pytest.mark.parametrize("quality", [2.0, 5.5])
def test_bits_and_pixels_are_the_codecs(model, crop, quality):
    samples = grid.to_samples(crop(101, 150).samples, CPU)
    network = Differentiable(model)
    with torch.no_grad():
        bits, x_hat = coded_by(model, samples, quality)
        found = network.code(samples[None].float() / 255, quality)
    serial = model.name == "default-context"  # its context rounds y as it is, the codec around means
    assert float(found.bits[0]) == pytest.approx(bits - SEAL_BITS, rel=0.03 if serial else 0.01)
    # a symbol at the border between two may fall on the other side
    assert (found.x_hat[0] - x_hat).square().mean() < (5e-4 if serial else 1e-5)


def test_a_batch_is_its_pictures(model, crop):
    whole = grid.to_samples(crop(128, 80).samples, CPU).float() / 255
    x = torch.stack([whole[:, :64], whole[:, 64:]])
    network = Differentiable(model)
    with torch.no_grad():
        together, alone = network.code(x, 4.0), [network.code(part[None], 4.0) for part in x]
    assert together.bits.numpy() == pytest.approx([float(a.bits[0]) for a in alone], rel=1e-3)


@pytest.mark.parametrize("quantizer", ["ste", "noise", "identity"])
def test_a_step_along_the_gradient_raises_the_codecs_own_bits(model, crop, quantizer):
    samples = grid.to_samples(crop(64, 64).samples, CPU)
    x = (samples[None].float() / 255).requires_grad_(True)
    torch.manual_seed(0)
    draws = 8 if quantizer == "noise" else 1
    network = Differentiable(model)
    (gradient,) = torch.autograd.grad(sum(network.code(x, 4.0, quantizer).bits.sum() for _ in range(draws)), x)
    assert gradient.abs().min(dim=1)[0].mean() > 0
    moved = (samples + 3 * gradient[0].sign()).clamp(0, 255).round().to(torch.uint8)
    away = (samples - 3 * gradient[0].sign()).clamp(0, 255).round().to(torch.uint8)
    with torch.no_grad():
        assert coded_by(model, moved, 4.0)[0] > 1.02 * coded_by(model, away, 4.0)[0]


def test_the_slope_of_a_symbols_cost_does_not_die_where_the_tables_end():
    from twcodec.exact.cost import Cost
    from twcodec.exact.tables import Tables, table_from_probabilities
    from twcodec.models.smooth_cost import SmoothCost

    bell = np.exp(-0.5 * (np.arange(-20, 21) / 2.0) ** 2)
    tables = Tables.pack([table_from_probabilities(-20, bell / bell.sum())])
    symbols = torch.tensor([-300.0, -30, -9, -1, 0, 1, 9, 30, 300], requires_grad=True)
    bits = SmoothCost(tables, CPU)(symbols, torch.zeros(9, dtype=torch.long))
    (slope,) = torch.autograd.grad(bits.sum(), symbols)
    near = symbols.detach().clamp(-70, 70).int()
    assert bits.detach().numpy() == pytest.approx(
        Cost(tables, CPU).each(near, torch.zeros(9, dtype=torch.int32)), abs=5
    )
    assert (slope[5:] > 0).all()
    assert (slope[:4] < 0).all()
    assert slope[7:].min() >= slope[6] > slope[5]
