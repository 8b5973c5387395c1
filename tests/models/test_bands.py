"""Layers in bands of rows give what they give on the whole picture; sub-pixels go where pixel_shuffle puts them."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from twcodec.models import bands, networks
from twcodec.models.subpixel import places, shuffled

N, M = 6, 10


@pytest.fixture
def transforms():
    torch.manual_seed(2)
    g_a, g_s = networks.balle(N, M)
    for name, p in [*g_a.named_parameters(), *g_s.named_parameters()]:
        p.data = torch.rand_like(p) + 0.1 if "beta" in name or "gamma" in name else 0.3 * torch.randn_like(p)
    return g_a.requires_grad_(False), g_s.requires_grad_(False)


def plain(network, x):
    """The network as the papers have it, with torch's own layers."""
    for layer in network:
        if isinstance(layer, networks.GDN):
            norm = torch.einsum("ij,bjhw->bihw", layer.gamma, x * x) + layer.beta[:, None, None]
            x = x * norm.sqrt() if layer.inverse else x / norm.sqrt()
        elif isinstance(layer, nn.ConvTranspose2d):
            x = functional.conv_transpose2d(x, layer.weight, layer.bias, 2, 2, 1)
        else:
            x = functional.conv2d(x, layer.weight, layer.bias, 2, 2)
    return x


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 64])
@pytest.mark.parametrize("size", [(1, 2), (3, 1), (5, 4)])
def test_bands_give_what_the_whole_gives(transforms, rows, size, monkeypatch):
    g_a, g_s = transforms
    height, width = 16 * size[0], 16 * size[1]
    monkeypatch.setattr(bands, "_BAND", rows * N * width)  # rows of what is between the two layers
    x, y = torch.rand(1, 3, height, width), torch.randn(1, M, *size)
    assert torch.allclose(g_a(x), plain(g_a, x), atol=1e-5, rtol=1e-5)
    wanted = plain(g_s, y)
    assert torch.allclose(g_s(y), wanted, rtol=1e-5, atol=1e-5 * float(wanted.abs().max()))


@pytest.mark.parametrize("inverse", [False, True])
def test_a_gdn_in_bands_gives_what_the_whole_gives(inverse, monkeypatch):
    torch.manual_seed(3)
    gdn, x = networks.GDN(N, inverse).requires_grad_(False), torch.randn(1, N, 11, 4)
    gdn.beta.uniform_(0.1, 1.1)
    gdn.gamma.uniform_(0.1, 1.1)
    monkeypatch.setattr(networks, "_CACHE", 3 * N * 4 * x.element_size())  # three rows: the last band has two
    wanted = plain([gdn], x)
    assert torch.allclose(gdn(x), wanted, atol=1e-5, rtol=1e-5)  # it overwrites x


def test_what_is_between_two_layers_is_never_held_whole(transforms, monkeypatch):
    monkeypatch.setattr(bands, "_BAND", 16 * N * 64)
    seen = []
    gdn = networks.GDN.forward
    monkeypatch.setattr(networks.GDN, "forward", lambda self, x: (seen.append(x.shape[2]), gdn(self, x))[1])
    g_a, g_s = transforms
    g_a(torch.rand(1, 3, 256, 128))
    g_s(torch.randn(1, M, 16, 8))
    assert max(seen) == 64  # of the layer next to it, a quarter of the picture's height; not the half, 128


def test_sub_pixels_are_where_pixel_shuffle_has_them():
    x = torch.randn(1, 20, 3, 4)
    assert torch.equal(shuffled(x[:, places(5)]), functional.pixel_shuffle(x, 2))
