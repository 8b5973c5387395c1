import pytest
import torch

from twcodec.models.trainable import Network
from twcodec.training.crops import batch, load
from twcodec.training.objective import attacked, objective

from .conftest import TINY


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return Network(TINY).train()


@pytest.fixture(scope="module")
def pictures(photographs):
    return batch(load([photographs], 64).train, 0, 0, 4, 64, 7)


@torch.no_grad()
def test_the_loss_is_rate_and_weighted_distortion(network, pictures):
    torch.manual_seed(0)
    loss = objective(network, pictures.x, pictures.rows, amp=False)
    torch.manual_seed(0)
    out = network(pictures.x, pictures.rows)
    lambdas = torch.tensor(TINY.lambdas)[pictures.rows]
    bpp = (out.y_bits + out.z_bits) / 64**2
    mse = (out.x_hat - pictures.x).square().mean((1, 2, 3))
    expected = ((lambdas / 0.013) ** -0.25 * (bpp + lambdas * 255**2 * mse)).mean()
    assert torch.allclose(loss.total, expected)
    assert loss.bpp.item() == pytest.approx(bpp.mean().item())
    assert loss.mse.item() == pytest.approx(mse.mean().item())


def test_an_attack_stays_in_its_ball_and_raises_the_loss_more_than_noise(network, pictures):
    x, rows, eps = pictures.x, pictures.rows, 8 / 255
    torch.manual_seed(1)
    found = attacked(network, x, rows, False, eps)
    assert float((found - x).abs().max()) <= eps + 1e-6
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1
    assert torch.equal(found[2:], x[2:])  # the second half is left as it is
    noise = (x + eps * (2 * torch.rand_like(x) - 1).sign()).clamp(0, 1)
    losses = []
    for case in (x, noise, found):
        torch.manual_seed(2)
        losses.append(float(objective(network, case[:2], rows[:2], False).total.detach()))
    assert losses[0] < losses[1] < losses[2]


def test_every_weight_learns(network, pictures):
    network.zero_grad()
    objective(network, pictures.x, pictures.rows, amp=False).total.backward()
    without = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    started_at_zero = ("expand", "depthwise", "filter.0", "filter.1")  # behind products that start at zero
    assert not [n for n in without if "quantiles" not in n and not any(s in n for s in started_at_zero)]
