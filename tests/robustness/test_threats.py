"""The traps of shared/reference/paper.md, as tests: attacks that attack, on the codec that really codes."""

import numpy as np
import pytest
import torch

from twcodec.codec.candidates import candidates
from twcodec.codec.settings import Settings
from twcodec.errors import UsageError
from twcodec.imaging.picture import Picture
from twcodec.models.differentiable import Differentiable
from twcodec.robustness.attacks import attacked
from twcodec.robustness.defences import DEFENCES, encoded, squared_error
from twcodec.robustness.search import Budget
from twcodec.robustness.single import Attempt, attack_picture
from twcodec.robustness.threats import Attacker, refinement

QUALITY = 4.0


@pytest.fixture(scope="module")
def network(codec):
    return Differentiable(codec.model)


@pytest.fixture(scope="module")
def photo(astronaut):
    return np.ascontiguousarray(astronaut[130:226, 140:268])


def batch(pixels):
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255


def attack(codec, network, pixels, threat, settings, objective="rate", steps=12, choice="sum", eps=4.0, eot=7):
    how = objective, threat, settings, "ste", choice, eot, 5
    attacker = Attacker(network, QUALITY, codec.model.lambda_(QUALITY), *how)
    found = attacked("pgd", attacker.loss(batch(pixels)), batch(pixels), Budget(eps, steps, 1.0))
    return (found[0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()


def size(codec, pixels, **how):
    return encoded(codec, pixels, Settings(QUALITY, **how)).size


@pytest.mark.parametrize("objective", ["rate", "rd", "self-distortion", "source-distortion", "distortion", "ms-ssim"])
def test_gradients_are_not_zero(codec, network, photo, objective):
    """Trap 1: rounding has no gradient."""
    attacker = Attacker(network, QUALITY, 0.01, objective, "adaptive", Settings(), eot=2)
    x = batch(photo) + 2 / 255
    x.requires_grad_(True)
    (gradient,) = torch.autograd.grad(attacker.loss(batch(photo))(x).sum(), x)
    assert (gradient != 0).float().mean() > 0.9


def test_an_attack_costs_real_bytes_more_than_noise_does_and_more_with_eps(codec, network, photo):
    """Traps 1 and 2: what is reported is coded."""
    never = Settings(transform="never")
    sizes = [size(codec, attack(codec, network, photo, "transfer", never, eps=e), transform="never") for e in (2, 4, 8)]
    noise = attacked("noise", lambda x: x.sum((1, 2, 3)), batch(photo), Budget(4))
    noisy = (noise[0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    clean = size(codec, photo, transform="never")
    assert clean < sizes[0] < sizes[1] < sizes[2]
    assert sizes[1] - clean > 1.5 * (size(codec, noisy, transform="never") - clean)


def test_who_knows_the_defence_does_it_more_harm(codec, network, photo):
    """Trap 7: the headline is never the transferred attack."""
    settings = Settings(transforms=("flip-turn",))
    harm = {}
    for threat in ("transfer", "adaptive"):
        pixels = attack(codec, network, photo, threat, settings, steps=20)
        every = [size(codec, pixels, transforms=("flip-turn",), seed=s) for s in range(6)]
        harm[threat] = np.mean(every)
    assert harm["adaptive"] > harm["transfer"]


def test_the_oracle_attacks_the_very_draw(codec, network, photo):
    always = Settings(transform="always", transforms=("flip-turn",), ways=2, seed=5)
    pixels = attack(codec, network, photo, "oracle", always, steps=12)
    known = size(codec, pixels, transform="always", transforms=("flip-turn",), seed=5)
    others = {size(codec, pixels, transform="always", transforms=("flip-turn",), seed=s) for s in range(30)}
    assert known == max(others)


def test_a_frozen_transform_is_pgd_on_that_branch(codec, network, photo):
    always = Settings(transform="always", transforms=("flip-turn",), seed=5)
    attacker = Attacker(network, QUALITY, 0.01, "rate", "oracle", always, seed=5)
    (draw,) = (c.draw for c in candidates(Settings(transform="always", transforms=("flip-turn",), seed=5), 96, 128))
    with torch.no_grad():
        bits = network.code(draw.apply(batch(photo)), QUALITY).bits / photo[..., 0].size
        assert float(attacker.loss(batch(photo))(batch(photo))[0]) == pytest.approx(float(bits[0]), rel=1e-5)


@pytest.mark.parametrize("choice", ["min", "sum", "identity"])
def test_every_way_through_the_choice_attacks(codec, network, photo, choice):
    pixels = attack(codec, network, photo, "adaptive", Settings(), steps=6, choice=choice, eot=3)
    assert size(codec, pixels, seed=1) > 1.02 * size(codec, photo, seed=1)
    assert np.abs(pixels.astype(int) - photo).max() <= 4


def test_flag_seed_and_padding_count(codec, photo):
    """Trap 6: sizes are of whole files, over the pixels of the picture as given."""
    outcome = DEFENCES["two-way"].run(codec, photo[:50, :70], QUALITY, 3)
    data, report = codec.encode_picture(
        Picture(np.ascontiguousarray(photo[:50, :70]), "RGB"), Settings(QUALITY, seed=3)
    )
    assert outcome.size == len(data)
    assert report.bpp == pytest.approx(8 * len(data) / (50 * 70))


@pytest.mark.parametrize("name", DEFENCES)
def test_every_defence_gives_the_picture_back(codec, photo, name):
    outcome = DEFENCES[name].run(codec, photo, QUALITY, 1)
    assert outcome.pixels.shape == photo.shape
    assert squared_error(outcome.pixels, photo) < 400
    assert 100 < outcome.size < photo.size


def test_one_picture_with_its_figures(codec, photo):
    how = Attempt("pgd", "rate", "transfer", 4, steps=5)
    png, figures = attack_picture(codec, Picture(photo, "RGB"), Settings(QUALITY), how)
    again, _ = attack_picture(codec, Picture(photo, "RGB"), Settings(QUALITY), how)
    assert png == again
    assert figures["attacked"]["undefended"]["bpp"] > figures["clean"]["undefended"]["bpp"]
    assert figures["attacked"]["defended"]["loss"] <= figures["attacked"]["undefended"]["loss"] * (1 + 1e-9)


@pytest.mark.parametrize("wrong", [{"threat": "unknown"}, {"quantizer": "x"}, {"choice": "x"}, {"eot": 0}])
def test_what_cannot_be_meant_is_refused(network, wrong):
    how = {"threat": "adaptive", "quantizer": "ste", "choice": "sum", "eot": 2} | wrong
    with pytest.raises(UsageError):
        Attacker(network, 4.0, 0.01, "rate", how["threat"], Settings(), how["quantizer"], how["choice"], how["eot"])


def test_an_attacker_of_refined_latents_sees_what_refining_makes_of_them(codec, network, photo):
    """Effort is no obfuscated gradient: the attack's own figure is that of the refined file, and it has a slope."""
    settings, x = Settings(QUALITY, transform="never", effort=5), batch(photo)
    how = "rate", "adaptive", settings, "ste", "sum", 1, 5
    plain = Attacker(network, QUALITY, 0.01, *how).loss(x)
    knowing = Attacker(network, QUALITY, 0.01, *how, refinement(codec.model, QUALITY, settings)).loss(x)
    sizes = [size(codec, photo, transform="never", effort=effort) for effort in (5, 0)]
    saved = 8 * (sizes[1] - sizes[0]) / photo[..., 0].size
    assert saved > 0.002
    assert float(plain(x)) - float(knowing(x)) == pytest.approx(saved, rel=0.3)
    x.requires_grad_(True)
    (gradient,) = torch.autograd.grad(knowing(x).sum(), x)
    assert (gradient != 0).float().mean() > 0.9
    transferred = Attacker(
        network, QUALITY, 0.01, "rate", "transfer", settings, refine=refinement(codec.model, QUALITY, settings)
    )
    assert float(transferred.loss(x)(x.detach())) == float(plain(x.detach())), "who knows of no defence does not refine"
