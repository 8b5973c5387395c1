"""The same file gives the same symbols, whatever the machine does with its floats."""

import contextlib

import numpy as np
import pytest
import torch

import twcodec
from twcodec.codec.settings import Settings
from twcodec.exact.hyperprior import Hyperprior, MeanScaleHyperprior
from twcodec.exact.layers import Layer
from twcodec.exact.products import ByteProduct
from twcodec.exact.two_step import TwoStepHyperprior


@contextlib.contextmanager
def threads(count):
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.fixture(scope="module", params=["default", "default-1"])
def codec(request):
    """Both families that ship."""
    found = twcodec.open_codec(request.param, device="cpu")
    assert isinstance(
        found.model.family.entropy, TwoStepHyperprior if request.param == "default" else MeanScaleHyperprior
    )
    return found


@pytest.fixture(scope="module")
def file(codec, crop):
    return codec.encode_picture(crop(333, 500), Settings(5, ways=2, seed=3))[0]


@pytest.fixture(scope="module")
def expected(codec, file):
    return codec.decode_symbols(file)


def same(a, b) -> bool:
    return (
        torch.equal(a.y, b.y)
        and torch.equal(a.z, b.z)
        and torch.equal(a.levels, b.levels)
        and torch.equal(a.y_hat, b.y_hat)
    )


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("onednn", [True, False])
@pytest.mark.parametrize("channels_last", [True, False])
def test_symbols_do_not_depend_on_threads_onednn_or_memory_format(
    codec, file, expected, count, onednn, channels_last, monkeypatch
):
    if channels_last:
        original = Layer.__call__
        monkeypatch.setattr(
            Layer, "__call__", lambda self, a: original(self, a[None].contiguous(memory_format=torch.channels_last)[0])
        )
    with threads(count), torch.backends.mkldnn.flags(enabled=onednn):
        assert same(codec.decode_symbols(file), expected)


def test_symbols_do_not_depend_on_the_order_of_sums(codec, file, expected, monkeypatch):
    """Every layer's inputs are permuted, and its weights with them: float sums would differ, integer sums do not."""
    rng = np.random.default_rng(0)
    found = vars(codec.model.family.entropy).values()
    layers = [layer for part in found if isinstance(part, list) for layer in part if isinstance(layer, Layer)]
    assert len(layers) >= 3
    for phase in (phase for layer in layers for phase in layer._phases):
        product = phase._product
        inputs = product._matrix.shape[0 if isinstance(product, ByteProduct) else 1]
        order = torch.from_numpy(rng.permutation(inputs))
        shuffled = product._matrix[order] if isinstance(product, ByteProduct) else product._matrix[:, order]
        monkeypatch.setattr(product, "_matrix", shuffled)
        monkeypatch.setattr(phase, "_product", Permuted(product, order))
    assert same(codec.decode_symbols(file), expected)


class Permuted:
    """A product whose inputs come in another order."""

    def __init__(self, product, order):
        self.planes, self._run, self._order = product.planes, product, order

    def __call__(self, planes):
        return self._run(planes[..., self._order])


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("onednn", [True, False])
def test_pixels_differ_by_at_most_one_level(codec, file, count, onednn):
    expected = codec.decode_picture(file).samples.astype(int)
    with threads(count), torch.backends.mkldnn.flags(enabled=onednn):
        assert np.abs(codec.decode_picture(file).samples - expected).max() <= 1


def test_the_decoder_reconstructs_the_encoders_symbols(codec, crop, monkeypatch):
    kept = []
    original = Hyperprior.quantise
    monkeypatch.setattr(Hyperprior, "quantise", lambda *a: kept.append(original(*a)) or kept[-1])
    data, _ = codec.encode_picture(crop(100, 60), Settings(6, transform="never"))
    monkeypatch.undo()
    assert same(codec.decode_symbols(data), kept[0])


def test_the_exact_rates_are_those_of_compressais_float_model(kodak, shared):
    """Bits under the integer tables against CompressAI's float likelihoods of the same weights."""
    from safetensors.torch import load_file

    from twcodec.codec.codec import read
    from twcodec.codec.grid import to_input, to_samples
    from twcodec.models import _compressai, residual_dct
    from twcodec.transforms import IDENTITY

    state = {k: v.float() for k, v in load_file(shared / "weights" / "default.safetensors").items()}
    bottleneck = residual_dct._bottleneck(state, 96).eval()
    gaussian = _compressai.load("compressai.entropy_models").GaussianConditional(None).eval()
    modules = residual_dct._h_s_modules(state, 96, 256)
    h_s = torch.nn.Sequential(modules[0], torch.nn.LeakyReLU(0.01), modules[1], torch.nn.LeakyReLU(0.01), modules[2])
    family = twcodec.open_codec(model="default-1", device="cpu").model.family  # the default's tables are fitted
    with torch.inference_mode():
        for quality in (1.0, 4.0, 7.0):
            x = to_input(to_samples(read(kodak[4]).samples, torch.device("cpu")), 255, IDENTITY, 16)
            y = family.g_a(x, quality)
            z = family.h_a(y)
            _, z_likelihood = bottleneck(z[None])
            z_hat = (z[None] - bottleneck._get_medians()).round() + bottleneck._get_medians()
            scales, means = h_s(z_hat).chunk(2, 1)
            _, y_likelihood = gaussian(y[None], scales, means=means)
            wanted = -float(torch.log2(z_likelihood).sum() + torch.log2(y_likelihood).sum())
            found = float(family.entropy.bits(family.entropy.quantise(y, z)))
            assert 0.99 * wanted < found < 1.002 * wanted, (
                quality
            )  # below: escapes are cheaper than the density of outliers
