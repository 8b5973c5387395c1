"""All of y in one step, with and without means and gains: the round trip, and what does not change the integers."""

from functools import partial

import numpy as np
import pytest
import torch
from test_two_step import (
    CPU,
    SIZES_OF_BANDS,
    THRESHOLDS,
    Y_TABLES,
    Z_TABLES,
    M,
    N,
    as_default,
    latents,
    random_integers,
    same,
)

from twcodec.exact import hyperprior
from twcodec.exact.arithmetic import ONE
from twcodec.exact.factorised import Factorised
from twcodec.exact.hyperprior import Hyperprior, MeanScaleHyperprior, ScaleHyperprior
from twcodec.exact.layers import Geometry, Layer
from twcodec.exact.rounding import Rounding
from twcodec.exact.variable_rate import VariableRateHyperprior

UP, SAME = Geometry(5, 2, 2, transposed=True, output_padding=1), Geometry(3, 1, 1)
KINDS = ["scale", "mean-scale", "variable", "variable mean"]
QUALITY = 2.25
MEDIANS = np.array([-300, 0, 5, 2000], np.int32)
SIZES_OF_BANDS = {**SIZES_OF_BANDS, "hyperprior.TILE": (1, 2, 3)}


def made(kind: str) -> Hyperprior:
    rng = np.random.default_rng(5)
    integers, means = partial(random_integers, rng), "mean" in kind
    heads = [rng.uniform(-2, 3, M), rng.uniform(-3, 3, M)][: 1 + means]
    h_s = [Layer(*integers(N, N, 5, 5), UP, True), Layer(*integers(N, N, 5, 5), UP, True)]
    h_s.append(Layer(*integers(M * (1 + means), N, 3, 3, bias=np.concatenate(heads)), SAME, False))
    shared = h_s, Y_TABLES, Z_TABLES, THRESHOLDS, MEDIANS, 0.6, CPU
    if kind.startswith("variable"):
        gains = np.array([40000, 65536, 100001], np.int32)
        offsets = rng.uniform(-0.1, 0.3, (3, len(Y_TABLES))).astype(np.float32)
        return VariableRateHyperprior(gains, offsets, None, means, *shared)
    return (MeanScaleHyperprior if means else ScaleHyperprior)(*shared)


@pytest.fixture(scope="module", params=KINDS)
def entropy(request):
    return made(request.param)


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (5, 9), (37, 22)])
def test_what_was_coded_comes_back(entropy, size):
    symbols = entropy.quantise(*latents(*size), QUALITY)
    payload = entropy.encode(symbols)
    assert (symbols.y.shape, symbols.y.dtype, symbols.levels.dtype) == ((M, *size), torch.int16, torch.uint8)
    assert same(entropy.decode(payload, *size, QUALITY), symbols)
    assert entropy.verify(payload, symbols)
    assert abs(float(entropy.bits(symbols)) - 8 * len(payload)) <= 64 + 0.001 * 8 * len(payload)


@pytest.mark.parametrize("kind", KINDS)
def test_levels_means_and_symbols_are_those_of_h_s(kind):
    """Once more from its layers, without tiles and bands."""
    entropy, (y, z) = made(kind), latents(6, 7)
    symbols = entropy.quantise(y, z, QUALITY)
    out = entropy._z_hat(symbols.z, QUALITY)
    for layer in entropy._h_s:
        out = layer(out)
    scales, means = out[:6, :7, :M].long(), torch.zeros(6, 7, M)
    if "mean" in kind:
        means = out[:6, :7, M:] / ONE
    gain = round(0.75 * 65536 + 0.25 * 100001) if kind.startswith("variable") else 1 << 16
    scales = (scales * gain + (1 << 15) >> 16).permute(2, 0, 1)
    levels = (scales[..., None] >= torch.from_numpy(THRESHOLDS)).sum(-1)
    assert len(levels.unique()) > 8
    assert torch.equal(symbols.levels.long(), levels)
    means, unit = means.permute(2, 0, 1), gain / 65536
    residual = y * unit - means * unit
    assert torch.equal(symbols.y.float(), Rounding(Y_TABLES, 0.6, CPU)(residual, symbols.levels))
    inwards = 0
    if kind.startswith("variable"):
        offsets = torch.lerp(entropy._offsets[1], entropy._offsets[2], 0.25)[levels]
        inwards = offsets * symbols.y.sign()
    assert torch.allclose(symbols.y_hat, (symbols.y - inwards) / unit + means, atol=1e-5, rtol=1e-6)


@pytest.mark.parametrize(("name", "value"), [(name, v) for name, values in SIZES_OF_BANDS.items() for v in values])
def test_integers_do_not_depend_on_tiles_bands_and_blocks(entropy, name, value, monkeypatch):
    pair = latents(25, 14)
    expected = entropy.quantise(*pair, QUALITY)
    payload = entropy.encode(expected)
    monkeypatch.setattr(f"twcodec.exact.{name}", value)
    assert same(entropy.quantise(*pair, QUALITY), expected)
    assert entropy.encode(expected) == payload
    assert same(entropy.decode(payload, 25, 14, QUALITY), expected)


def test_a_tile_that_is_seen_without_its_edge_shows(entropy, monkeypatch):
    expected = entropy.quantise(*latents(25, 14), QUALITY)
    monkeypatch.setattr(entropy, "_reach", hyperprior.REACH - 1)
    assert same(entropy.quantise(*latents(25, 14), QUALITY), expected)  # one tile has no neighbours
    monkeypatch.setattr(hyperprior, "TILE", 2)
    assert not same(entropy.quantise(*latents(25, 14), QUALITY), expected)


@pytest.mark.parametrize("default", [torch.float64, "meta"])
def test_the_callers_default_type_and_device_change_nothing(entropy, default):
    pair = latents(6, 9)
    expected = entropy.quantise(*pair, QUALITY)
    payload = entropy.encode(expected)
    with as_default(default):
        assert same(entropy.quantise(*pair, QUALITY), expected)
        assert same(entropy.decode(payload, 6, 9, QUALITY), expected)
        assert torch.isfinite(entropy.bits(expected))


@pytest.mark.parametrize("block", [1, 50, 1 << 22])
def test_a_factorised_latent_comes_back(block, monkeypatch):
    monkeypatch.setattr("twcodec.exact.coder._BLOCK", block)
    entropy, (_, y) = Factorised(Z_TABLES, MEDIANS, CPU), latents(20, 36)
    symbols = entropy.quantise(y, y)
    payload = entropy.encode(symbols)
    assert symbols.y.numel() == 0
    assert torch.equal(symbols.y_hat, symbols.z + torch.from_numpy(MEDIANS)[:, None, None] / ONE)
    assert (symbols.y_hat - y).abs().max() <= 0.5
    assert same(entropy.decode(payload, *y.shape[1:]), symbols)
    assert entropy.verify(payload, symbols)
    assert abs(float(entropy.bits(symbols)) - 8 * len(payload)) <= 64
