import pytest
import torch

from twcodec.training.soap import SOAP, SoapSettings


def problem():
    """A 1x1 convolution to be learned from inputs that are strongly correlated: hard for Adam."""
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(32, 32, generator=generator) @ torch.diag(torch.logspace(0, -2, 32))
    x = mixing @ torch.randn(32, 400, generator=generator)
    wanted = torch.randn(24, 32, generator=generator) @ x
    weight = torch.nn.Parameter(torch.zeros(24, 32, 1, 1))
    return weight, lambda: (weight[:, :, 0, 0] @ x - wanted).square().mean()


def loss_after(steps, make):
    weight, loss = problem()
    optimiser = make([weight])
    start = optimiser.param_groups[0]["lr"]
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = start * (1 - step / steps)
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()
    return float(loss().detach())


def test_it_gets_further_than_adam_in_as_many_steps():
    rates = (0.005, 0.02, 0.08)
    soap = min(loss_after(300, lambda p, lr=lr: SOAP(p, lr, SoapSettings(every=5))) for lr in rates)
    adam = min(loss_after(300, lambda p, lr=lr: torch.optim.Adam(p, lr, betas=(0.95, 0.95))) for lr in rates)
    print(soap, adam)
    assert soap < 0.5 * adam


def test_bases_stay_orthonormal_and_the_moments_finite():
    weight, loss = problem()
    optimiser = SOAP([weight], 0.02, SoapSettings(every=2))
    for _ in range(20):
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()
    state = optimiser.state[weight]
    for side, size in (("left", 24), ("right", 32)):
        basis = state[f"basis_{side}"]
        assert torch.allclose(basis.T @ basis, torch.eye(size), atol=1e-4)
    assert torch.isfinite(state["m"]).all()


def test_what_is_no_dense_convolution_gets_adam():
    generator = torch.Generator().manual_seed(3)
    for shape in ((7,), (7, 20), (16, 1, 5, 5)):
        ours, theirs = (torch.nn.Parameter(torch.ones(shape)) for _ in range(2))
        soap, adam = SOAP([ours], 0.01), torch.optim.Adam([theirs], 0.01, betas=(0.95, 0.95))
        ours.grad = torch.zeros(shape)
        soap.step()  # the first step only measures
        for _ in range(5):
            gradient = torch.randn(shape, generator=generator)
            ours.grad, theirs.grad = gradient.clone(), gradient.clone()
            soap.step()
            adam.step()
        assert torch.allclose(ours, theirs, atol=1e-5), shape


@pytest.mark.parametrize("split", [1, 3, 7])
def test_a_run_that_was_stopped_and_resumed_is_the_same_to_the_bit(split):
    def run(stop):
        weight, loss = problem()
        optimiser = SOAP([weight], 0.02, SoapSettings(every=3))
        for step in range(10):
            if step == stop:
                saved = optimiser.state_dict()
                optimiser = SOAP([weight], 0.02, SoapSettings(every=3))
                optimiser.load_state_dict(saved)
            optimiser.zero_grad()
            loss().backward()
            optimiser.step()
        return weight.detach().clone()

    assert torch.equal(run(None), run(split))
