"""bfloat16, for analysis and for scoring: near float32, and float32 where 8 bits are too few."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from twcodec.models import catalogue, networks
from twcodec.models.architectures import ARCHITECTURES
from twcodec.models.convert import convert_checkpoint
from twcodec.models.model import Model

CHECKPOINTS = Path(__file__).parent / "checkpoints"
CPU = torch.device("cpu")
EMBEDDED = ["default-1", "default-3"]
CONVERTED = ["bmshj2018-factorized", "bmshj2018-hyperprior", "mbt2018-mean", "cheng2020-anchor"]
QUALITY = 4.0


def family_of(name: str):
    if name in EMBEDDED:
        return Model(catalogue.read(name)[1], name, CPU).family
    return Model(convert_checkpoint(CHECKPOINTS / f"{name}.pth.tar", name, quality=4), name, CPU).family


@pytest.fixture(scope="module", params=[*EMBEDDED, *CONVERTED])
def family(request):
    return family_of(request.param)


@pytest.fixture(scope="module")
def x(astronaut):
    return torch.from_numpy(np.ascontiguousarray(astronaut[64:256, 128:384])).permute(2, 0, 1).float() / 255


def off(a: torch.Tensor, b: torch.Tensor) -> float:
    """Root mean square of the difference, by that of b."""
    return float((a - b).square().mean().sqrt() / b.square().mean().sqrt())


@torch.no_grad()
def test_it_is_near_float32(family, x):
    y = family.g_a(x, QUALITY)
    z, x_hat = family.h_a(y), family.g_s(y.round(), QUALITY)
    low = torch.bfloat16
    found = family.g_a(x, QUALITY, low), family.h_a(y, low), family.g_s(y.round(), QUALITY, low)
    assert [t.dtype for t in found] == [torch.float32] * 3
    assert off(found[0], y) < 0.01
    assert off(found[1], z) < 0.01
    assert (found[2] - x_hat).square().mean().sqrt() < 0.5 / 255


@torch.no_grad()
def test_it_is_bfloat16(family, x):
    y = family.g_a(x, QUALITY)
    assert off(family.g_a(x, QUALITY, torch.bfloat16), y) > 1e-5
    assert off(family.g_s(y, QUALITY, torch.bfloat16), family.g_s(y, QUALITY)) > 1e-4


@torch.no_grad()
def test_pixels_are_not_rounded_to_bfloat16(family, x):
    """It has one level for two of 8 bits above 0.5, which would be seen. Sums of what it has may be among them."""
    x_hat = family.g_s(family.g_a(x, QUALITY), QUALITY, torch.bfloat16)
    assert (x_hat.bfloat16().float() == x_hat).float().mean() < 0.3


@pytest.mark.parametrize("name", ["mbt2018-mean", "cheng2020-attn"])
def test_every_layer_next_to_pixels_stays_float32(name):
    g_a, g_s = (networks.in_type(net, torch.bfloat16) for net in ARCHITECTURES[name].transforms(8, 12))
    types = {n: p.dtype for net in (g_a, g_s) for n, p in net.named_parameters() if p.ndim == 4 and 3 in p.shape[:2]}
    types["last"] = list(g_s.parameters())[-1].dtype
    assert len(types) > 1
    assert set(types.values()) == {torch.float32}
    assert torch.bfloat16 in {p.dtype for p in g_a.parameters()}


@torch.no_grad()
def test_pixels_are_not_rounded_on_the_way_in(family, x):
    """As above 0.5 they would be by a quarter of a level, and everything after would make it larger."""
    rounded = family.g_a(x.bfloat16().float(), QUALITY, torch.bfloat16)
    assert not torch.equal(family.g_a(x, QUALITY, torch.bfloat16), rounded)


@torch.no_grad()
@pytest.mark.parametrize("name", EMBEDDED)
def test_pixels_of_8_bits_are_taken_as_they_are(name):
    """A grey that lies half way between two numbers of bfloat16, if it is not centred and scaled."""
    family, grey = family_of(name), torch.full((3, 64, 64), 163 / 255)
    y = family.g_a(grey, QUALITY)
    rounding = off(family.g_a(grey.bfloat16().float(), QUALITY), y)
    assert off(family.g_a(grey, QUALITY, torch.bfloat16), y) < 0.3 * rounding


@torch.no_grad()
def test_what_is_given_is_not_changed(family, x):
    y = family.g_a(x, QUALITY)
    copies = x.clone(), y.clone()
    for dtype in (torch.float32, torch.bfloat16):
        family.g_a(x, QUALITY, dtype)
        family.h_a(y, dtype)
        family.g_s(y, QUALITY, dtype)
    assert torch.equal(x, copies[0])
    assert torch.equal(y, copies[1])


@pytest.mark.parametrize("name", ["default-3", "mbt2018-mean"])
def test_threads_may_ask_for_a_type_at_once(name, x):
    family = family_of(name)

    def analysed(_: int) -> torch.Tensor:
        with torch.no_grad():
            return family.g_a(x, QUALITY, torch.bfloat16)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(analysed, range(16)))
    assert all(torch.equal(y, found[0]) for y in found)
