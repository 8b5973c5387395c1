"""The same file gives the same symbols, whatever the machine does with its floats."""

import contextlib

import numpy as np
import pytest
import torch

import twcodec
from twcodec.codec.settings import Settings
from twcodec.exact.hyperprior import Hyperprior, MeanScaleHyperprior
from twcodec.exact.layers import Layer, RowLayer
from twcodec.exact.products import ByteProduct
from twcodec.exact.two_step import Parameters, TwoStepHyperprior


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
    if not channels_last:
        for kind in (Layer, RowLayer):
            monkeypatch.setattr(kind, "__call__", fed_channels_first(kind.__call__))
    with threads(count), torch.backends.mkldnn.flags(enabled=onednn):
        assert same(codec.decode_symbols(file), expected)


def fed_channels_first(call):
    """A layer's __call__ on inputs (..., C) that lie in memory channels first."""
    return lambda self, a: call(self, a.movedim(-1, 0).contiguous().movedim(0, -1))


def test_symbols_do_not_depend_on_the_order_of_sums(codec, file, expected, monkeypatch):
    """Every layer's inputs are permuted, and its weights with them: float sums would differ, integer sums do not."""
    rng = np.random.default_rng(0)
    entropy, called = codec.model.family.entropy, set()
    with_products = list(holders(entropy))
    # a transposed layer has four phases, and the parameters of two steps come from six layers on rows
    assert len(with_products) == (4 + 4 + 6 if isinstance(entropy, TwoStepHyperprior) else 4 + 4 + 1)
    for holder in with_products:
        product = holder._product
        inputs = product._matrix.shape[0 if isinstance(product, ByteProduct) else 1]
        order = torch.from_numpy(rng.permutation(inputs))
        shuffled = product._matrix[order] if isinstance(product, ByteProduct) else product._matrix[:, order]
        monkeypatch.setattr(product, "_matrix", shuffled)
        monkeypatch.setattr(holder, "_product", Permuted(product, order, called))
    assert same(codec.decode_symbols(file), expected)
    assert len(called) == len(with_products)


def holders(entropy):
    """What has a product in an entropy path: each phase of a convolution, and each layer on rows."""
    for part in vars(entropy).values():
        layers = part if isinstance(part, list) else vars(part).values() if isinstance(part, Parameters) else ()
        for layer in layers:
            yield from layer._phases if isinstance(layer, Layer) else [layer]


class Permuted:
    """A product whose inputs come in another order."""

    def __init__(self, product, order, called):
        self.planes, self._run, self._order, self._called = product.planes, product, order, called

    def __call__(self, planes):
        self._called.add(self)
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
    from twcodec.codec.grid import Input, to_samples
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
            x = Input(to_samples(read(kodak[4]).samples, torch.device("cpu")), 255, IDENTITY, 16)
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
