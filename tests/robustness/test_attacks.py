"""Attacks on losses whose best attack is known."""

import itertools
import math

import pytest
import torch
from torch.nn import functional

from twcodec.errors import UsageError
from twcodec.robustness.attacks import ATTACKS, attacked
from twcodec.robustness.search import Budget, Search

SIDE = 12
L2 = [name for name, attack in ATTACKS.items() if attack.l2]
SEARCHES = [name for name, attack in ATTACKS.items() if not attack.control]
GRADIENTS = [name for name in SEARCHES if name != "square"]
ITERATED = [name for name in SEARCHES if name != "fgsm"]
RANDOM = ["pgd", "pgd-l2", "ftda", "square", "noise"]


def pictures(kind="random", count=2):
    levels = torch.randint(0, 256, (count, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(5))
    levels = {"black": levels * 0, "white": levels * 0 + 255, "grey": levels * 0 + 128, "random": levels}[kind]
    return levels / 255


def weights(seed=1):
    return torch.randn(3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def linear(x):
    """Its best attack is eps sign(weights), or eps along the weights."""
    return (x * weights()).flatten(1).sum(1)


def quadratic(x):
    return (x - weights().sigmoid()).square().flatten(1).mean(1)


def filtered(x):
    """A filter that passes little, but for a weakness: it raises what alternates from pixel to pixel."""
    kernel = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).expand(3, 1, 2, 2)
    return functional.conv2d(x, kernel, groups=3).square().flatten(1).mean(1)


def change(found, x):
    """In levels."""
    return (found.double() * 255).round() - (x.double() * 255).round()


def size(name, found, x):
    d = change(found, x)
    return d.square().flatten(1).mean(1).sqrt().max().item() if name in L2 else d.abs().max().item()


def eight_bit(x):
    return torch.equal((x * 255).round().clamp(0, 255) / 255, x)


@pytest.mark.parametrize("loss", [quadratic, filtered])
@pytest.mark.parametrize("name", SEARCHES)
def test_an_attack_raises_each_pictures_loss(name, loss):
    x = pictures()
    found = attacked(name, loss, x, Budget(4))
    assert (loss(found) > loss(x)).all()


@pytest.mark.parametrize("kind", ["black", "white", "grey", "random"])
@pytest.mark.parametrize("eps", [0.4, 1, 2.5, 3.5, 4, 8])
@pytest.mark.parametrize("name", ATTACKS)
def test_the_result_has_8_bits_and_is_inside_the_budget(name, eps, kind):
    x = pictures(kind)
    found = attacked(name, linear, x, Budget(eps, steps=9))
    assert found.shape == x.shape
    assert found.dtype == x.dtype
    assert eight_bit(found)
    assert size(name, found, x) <= eps
    if eps >= 1:
        assert size(name, found, x) > eps / 4


@pytest.mark.parametrize("alpha", [0.1, 100])
@pytest.mark.parametrize("name", SEARCHES)
def test_a_step_of_any_length_ends_inside_the_budget(name, alpha):
    x = pictures()
    for steps in range(1, 8):
        assert size(name, attacked(name, quadratic, x, Budget(2.5, steps, alpha)), x) <= 2.5


@pytest.mark.parametrize("name", ATTACKS)
def test_the_loss_is_asked_for_pictures_that_could_be_sent_and_nothing_else(name):
    x = pictures()

    def loss(at):
        assert eight_bit(at.detach())
        assert size(name, at.detach(), x) <= 2.5
        return quadratic(at)

    attacked(name, loss, x, Budget(2.5, steps=10, restarts=2))


@pytest.mark.parametrize("name", SEARCHES)
def test_the_best_of_all_points_is_given_back(name):
    seen = []

    def loss(at):  # steps of 3 levels jump over the hill
        values = -(at - pictures() - 1.7 / 255).abs().flatten(1).mean(1)
        seen.append(values.detach())
        return values

    found = attacked(name, loss, pictures(), Budget(4, 12, alpha=3, restarts=2))
    assert torch.equal(loss(found), torch.stack(seen).amax(0))


@pytest.mark.parametrize("eps", [1, 2.5, 4])
@pytest.mark.parametrize("name", ["fgsm", "ifgsm", "mifgsm", "pgd"])
def test_the_best_attack_on_a_linear_loss_is_found(name, eps):
    x = pictures()
    best = (x * 255 + math.floor(eps) * weights().sign()).round().clamp(0, 255) / 255
    assert torch.equal(attacked(name, linear, x, Budget(eps)), best)


def test_ifgsm_of_one_whole_step_is_fgsm_and_mifgsm_without_memory_is_ifgsm():
    x = pictures()
    one = attacked("ifgsm", filtered, x, Budget(4, steps=1, alpha=4))
    assert torch.equal(one, attacked("fgsm", filtered, x, Budget(4)))
    forgetful = attacked("mifgsm", filtered, x, Budget(4, decay=0))
    assert torch.equal(forgetful, attacked("ifgsm", filtered, x, Budget(4)))
    assert not torch.equal(forgetful, attacked("mifgsm", filtered, x, Budget(4)))


@pytest.mark.parametrize("name", L2)
@pytest.mark.parametrize("kind", ["grey", "black"])
def test_the_best_attack_on_a_linear_loss_is_nearly_found_in_l2(name, kind):
    x, possible = pictures(kind), weights() if kind == "grey" else weights().clamp(min=0)  # black can only grow
    gained = linear(attacked(name, linear, x, Budget(4))) - linear(x)
    assert (gained > 0.95 * 4 / 255 * possible.norm() * math.sqrt(possible.numel())).all()


@pytest.mark.parametrize("name", SEARCHES)
def test_the_unit_of_the_loss_does_not_matter(name):
    x, budget = pictures(), Budget(4, steps=20)
    assert torch.equal(attacked(name, quadratic, x, budget), attacked(name, lambda x: quadratic(x) / 2**20, x, budget))


def test_the_steps_of_ftda_become_shorter():
    seen = []

    def loss(x):
        seen.append(x.detach())
        return filtered(x)

    attacked("ftda", loss, pictures(), Budget(8, steps=60))
    moves = [(b - a).abs().mean() for a, b in itertools.pairwise(seen[:60])]
    assert sum(moves[41:]) < 0.3 * sum(moves[1:19])


def test_square_nearly_finds_the_best_attack_on_planted_squares():
    def loss(x):
        return x[:, :, 3:7, 4:8].sum((1, 2, 3)) - x[:, :, 8:, 8:].sum((1, 2, 3))

    x = pictures("grey")
    gained = loss(attacked("square", loss, x, Budget(4, steps=1000))) - loss(x)
    assert (gained > 0.9 * 4 / 255 * 96).all()


@pytest.mark.parametrize("name", ATTACKS)
def test_the_same_seed_gives_the_same_bits(name):
    a, b = (attacked(name, filtered, pictures(), Budget(4, steps=8, seed=3)) for _ in range(2))
    assert torch.equal(a, b)


@pytest.mark.parametrize("name", RANDOM)
def test_another_seed_gives_another_picture_and_so_does_another_place(name):
    x = pictures()[:1].expand(2, -1, -1, -1)
    found = attacked(name, quadratic, x, Budget(4, steps=20))
    assert not torch.equal(found, attacked(name, quadratic, x, Budget(4, steps=20, seed=1)))
    assert not torch.equal(found[0], found[1])


def test_nobody_elses_random_numbers_are_used():
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    for name in ATTACKS:
        attacked(name, filtered, pictures(), Budget(4, steps=3))
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("name", ATTACKS)
def test_other_pictures_in_the_batch_change_nothing(name):
    def loss(x):  # flat where a picture starts black, and no number where it is bright: both have no gradient
        value = quadratic(x) * (x.mean((1, 2, 3)) > 0.1)
        return torch.where(x.mean((1, 2, 3)) > 0.9, torch.nan, value)

    x, budget = pictures(count=3), Budget(4, steps=6, restarts=2)
    others = torch.cat([pictures("black", 1), x[1:2], pictures("white", 1)])
    assert torch.equal(attacked(name, loss, x, budget)[1], attacked(name, loss, others, budget)[1])


@pytest.mark.parametrize("name", ITERATED)
def test_more_steps_are_not_weaker(name):
    x = pictures()
    few, many = (filtered(attacked(name, filtered, x, Budget(4, steps))) for steps in (4, 80))
    assert (many >= few).all()


@pytest.mark.parametrize("name", ["pgd", "pgd-l2", "ftda", "square"])
def test_restarts_help_where_there_are_many_hills(name):
    def hills(x):
        return (x * 255 * 1.3 + weights()).sin().flatten(1).mean(1)

    x = pictures()
    once, often = (hills(attacked(name, hills, x, Budget(4, 3, restarts=r))) for r in (1, 8))
    assert (often >= once).all()
    assert (often > once).any()


@pytest.mark.parametrize("name", ["fgsm", "ifgsm", "mifgsm", "pgd", "pgd-l2", "ftda"])
def test_a_planted_weakness_is_found_by_gradients_and_not_by_noise(name):
    x = pictures("grey")
    noise = filtered(attacked("noise", filtered, x, Budget(4)))
    assert (filtered(attacked(name, filtered, x, Budget(4))) > 1.5 * noise).all()


@pytest.mark.parametrize("name", GRADIENTS)
def test_a_loss_that_is_flat_at_the_clean_picture_only_is_attacked(name):
    x = pictures()
    found = attacked(name, lambda at: (at - x).square().flatten(1).mean(1), x, Budget(4))
    assert size(name, found, x) > 3


@pytest.mark.parametrize("name", GRADIENTS)
def test_a_loss_without_a_gradient_is_refused(name):
    for loss in (
        lambda x: (x * 16).round().flatten(1).mean(1),
        lambda x: quadratic(x.detach()),
        lambda x: torch.zeros(len(x), requires_grad=True) + 1,
    ):
        with pytest.raises(UsageError, match="the loss has no gradient"):
            attacked(name, loss, pictures(), Budget(4))


def test_square_and_noise_never_ask_for_a_gradient():
    def loss(x):
        assert not torch.is_grad_enabled()
        assert not x.requires_grad
        return (quadratic(x) * 5000).round()

    x = pictures()
    found = attacked("square", loss, x, Budget(8, steps=300))
    with torch.no_grad():
        assert (loss(found) > loss(x)).all()
    attacked("noise", loss, x, Budget(8))


def test_an_attack_works_where_the_caller_has_no_gradients():
    with torch.no_grad():
        x = pictures()
        assert (quadratic(attacked("pgd", quadratic, x, Budget(4))) > quadratic(x)).all()


def test_squares_end_where_the_shorter_side_does():
    seen = []

    def loss(x):
        seen.append(x)
        return x.sum((1, 2, 3))

    attacked("square", loss, torch.full((1, 3, 4, 40), 128 / 255), Budget(4, steps=1000))
    assert 0 < (seen[1] != seen[0]).any(1).any(1).sum() <= 4


def test_square_goes_on_from_where_the_loss_is_no_number():
    search = Search(lambda x: x[:, 0, 0, 0] * torch.nan, pictures(), Budget(4), l2=False)
    assert (search.value(search.anywhere()) == -math.inf).all()
    assert torch.equal(search.best, pictures())


def test_square_asks_as_often_as_it_has_steps():
    calls = []

    def loss(x):
        calls.append(len(x))
        return filtered(x)

    attacked("square", loss, pictures(), Budget(4, steps=20, restarts=2))
    assert len(calls) == 40 + 2  # the result and the clean picture are compared at the end


@pytest.mark.parametrize("name", ATTACKS)
def test_what_lowers_the_loss_is_not_given_back_but_for_noise(name):
    x = pictures()
    found = attacked(name, lambda at: -(at - x).abs().flatten(1).sum(1), x, Budget(4, steps=5))
    assert torch.equal(found, x) == (name != "noise")


def test_noise_is_at_the_borders_of_the_budget():
    d = change(attacked("noise", quadratic, pictures("grey"), Budget(4)), pictures("grey"))
    assert set(d.flatten().tolist()) == {-4, 4}
    assert abs(d.mean().item()) < 1


@pytest.mark.parametrize("name", SEARCHES)
def test_no_number_is_never_better(name):
    x = pictures()

    def loss(at):  # no number where one value grows
        return torch.where((at - x)[:, 0, 5, 5] > 0, torch.nan, quadratic(at))

    found = attacked(name, loss, x, Budget(4, steps=300))
    assert (loss(found) >= loss(x)).all()
    if name != "fgsm":  # which has one step, and may meet no number there
        assert (loss(found) > loss(x)).all()


@pytest.mark.parametrize("name", SEARCHES)
def test_any_number_is_better_than_none_at_the_clean_picture(name):
    x = pictures()

    def loss(at):
        return torch.where((at == x).flatten(1).all(1), torch.nan, quadratic(at))

    assert not loss(attacked(name, loss, x, Budget(4))).isnan().any()


@pytest.mark.parametrize("name", GRADIENTS)
def test_a_gradient_that_is_no_number_in_one_place_is_used_in_the_others(name):
    x = pictures()
    found = attacked(name, lambda at: quadratic(at) + (at - x)[:, 0, 5, 5].abs().sqrt() / 1000, x, Budget(4))
    assert size(name, found, x) > 3


@pytest.mark.parametrize("name", SEARCHES)
def test_an_infinite_loss_is_the_best(name):
    x = pictures()
    found = attacked(name, lambda at: torch.where(at == x, 0, math.inf).amax((1, 2, 3)) + quadratic(at), x, Budget(4))
    assert not any(torch.equal(a, b) for a, b in zip(found, x, strict=True))
    lowest = attacked(name, lambda at: torch.where(at == x, 0, -math.inf).amin((1, 2, 3)) + quadratic(at), x, Budget(4))
    assert torch.equal(lowest, x)


@pytest.mark.parametrize("name", ATTACKS)
def test_a_budget_of_nothing_gives_the_picture_back(name):
    def flat(x):
        return (x - pictures()).square().flatten(1).sum(1)

    for eps in (0, 0.01 if name in L2 else 0.99):
        assert torch.equal(attacked(name, linear, pictures(), Budget(eps)), pictures())
    assert torch.equal(attacked(name, flat, pictures(), Budget(0 if name in L2 else 0.99)), pictures())


def test_an_unknown_name_is_told_the_names():
    with pytest.raises(UsageError, match=r"no attack is called fgms; there are fgsm, .*square"):
        attacked("fgms", linear, pictures(), Budget(4))


@pytest.mark.parametrize("value", [-1, math.nan, math.inf])
@pytest.mark.parametrize("name", ["eps", "steps", "alpha", "restarts", "seed", "decay"])
def test_values_that_cannot_be_meant_are_refused(name, value):
    with pytest.raises(UsageError, match=f"{name} of an attack is"):
        Budget(**({"eps": 4} | {name: value}))


@pytest.mark.parametrize("x", [torch.rand(2, 3, 8, 8), pictures() * 2, pictures()[0], pictures() * torch.nan])
def test_what_is_no_batch_of_8_bit_pictures_is_refused(x):
    with pytest.raises(UsageError, match="an attack takes pictures of 8 bits"):
        attacked("pgd", linear, x, Budget(4))


def test_a_loss_must_give_one_number_a_picture():
    with pytest.raises(UsageError, match=r"one number a picture, \(2,\), not \(\)"):
        attacked("pgd", lambda x: quadratic(x).sum(), pictures(), Budget(4))
