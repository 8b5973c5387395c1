"""Serial context in wavefronts: against the serial order in plain integers, alone and side by side."""

import itertools
from functools import partial

import numpy as np
import plain
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

from twcodec.errors import CorruptError
from twcodec.exact import wavefront
from twcodec.exact.arithmetic import ONE, SATURATION
from twcodec.exact.layers import Geometry, Layer, RowLayer
from twcodec.exact.products import FloatProduct, has_byte_products
from twcodec.exact.symbols import symbols_crc
from twcodec.exact.wavefront import TAPS, WavefrontHyperprior, wavefronts

SEEN, FEATURES = 7, 5
UP = Geometry(5, 2, 2, transposed=True, output_padding=1)
SIZES_OF_BANDS = {**SIZES_OF_BANDS, "wavefront.PART": (1, 50), "hyperprior.TILE": (1, 3)}
SIZES = [(1, 1), (1, 5), (5, 1), (2, 2), (6, 9), (13, 8)]


def made(seed: int = 1, rate_weight: float = 0.0) -> WavefrontHyperprior:
    """Log scales and means that depend on z and strongly on what lies around."""
    rng = np.random.default_rng(seed)
    integers = partial(random_integers, rng)
    last = np.concatenate([rng.uniform(-2, 3, M), rng.uniform(-3, 3, M)])
    return WavefrontHyperprior(
        [Layer(*integers(N, N, 5, 5), UP, True), Layer(*integers(FEATURES, N, 5, 5), UP, True)],
        RowLayer(*integers(SEEN, len(TAPS), M), activation=False),
        [
            RowLayer(*integers(9, FEATURES + SEEN), activation=True),
            RowLayer(*integers(2 * M, 9, bias=last), activation=False),
        ],
        Y_TABLES,
        Z_TABLES,
        THRESHOLDS,
        np.array([-300, 0, 5, 2000], np.int32),
        rate_weight,
        CPU,
    )


@pytest.fixture(scope="module")
def entropy():
    return made()


def integers_of(layer: RowLayer):
    """Weights, biases and shifts of a layer as lists, from its product with unit vectors."""
    inputs = 12 * M if layer.outputs == SEEN else (FEATURES + SEEN if layer.outputs == 9 else 9)
    weight = layer._product(layer._product.planes(torch.eye(inputs, dtype=torch.int32))).T.long().tolist()
    return weight, layer._bias.long().tolist(), (-torch.log2(layer._scale)).long().tolist()


def apply(layer, row):
    weight, bias, shift = integers_of(layer)
    out = [
        plain.requantise(b + sum(w * v for w, v in zip(ws, row, strict=False)), s)
        for ws, b, s in zip(weight, bias, shift, strict=False)
    ]
    return [plain.leaky_relu(v) for v in out] if layer.activation else out


@pytest.mark.parametrize("size", [(1, 1), (3, 4), (4, 3)])
def test_it_is_the_serial_order_in_plain_integers(entropy, size):
    """Position by position in raster order, as Minnen et al. have it, with Python's own integers."""
    y, z = latents(*size)
    symbols = entropy.quantise(y, z)
    z_hat = entropy._z_hat(symbols.z, 1.0)
    features = entropy._h_s[1](entropy._h_s[0](z_hat))[: size[0], : size[1]]
    known = np.zeros((size[0] + 2, size[1] + 4, M), int)
    for r, q in itertools.product(range(size[0]), range(size[1])):
        near = [int(v) for dy, dx in TAPS for v in known[r + 2 + dy, q + 2 + dx]]
        row = features[r, q].tolist() + apply(entropy._context, near)
        for layer in entropy._entropy_parameters:
            row = apply(layer, row)
        for c in range(M):
            level = sum(t <= row[c] for t in THRESHOLDS.tolist())
            assert int(symbols.levels[c, r, q]) == level
            # (y - mean) in float32, as the encoder has it
            wanted = int(torch.round(y[c, r, q] - torch.tensor(row[M + c] / ONE)).clamp(-32767, 32767))
            assert int(symbols.y[c, r, q]) == wanted
            known[r + 2, q + 2, c] = max(1 - SATURATION, min(SATURATION - 1, wanted * ONE + row[M + c]))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("rate_weight", [0.0, 0.6])
def test_round_trip(size, rate_weight):
    entropy = made(3, rate_weight)
    symbols = entropy.quantise(*latents(*size))
    payload = entropy.encode(symbols)
    assert entropy.verify(payload, symbols)
    assert same(entropy.decode(payload, *size), symbols)
    assert abs(8 * len(payload) - float(entropy.bits(symbols))) < 0.001 * 8 * len(payload) + 64


def test_pictures_side_by_side_are_as_alone(entropy):
    pairs = [latents(*size, seed=i) for i, size in enumerate(SIZES)]
    alone = [entropy.quantise(*pair) for pair in pairs]
    together = entropy.quantise_all(pairs)
    assert all(same(a, b) for a, b in zip(alone, together, strict=True))
    payloads = [entropy.encode(s) for s in together]
    assert payloads == [entropy.encode(s) for s in alone]
    found = entropy.decode_all([(p, *size) for p, size in zip(payloads, SIZES, strict=True)])
    assert all(same(a, b) for a, b in zip(alone, found, strict=True))


@pytest.mark.skipif(not has_byte_products(CPU), reason="this processor multiplies no bytes")
def test_float64_and_bytes_give_the_same(monkeypatch):
    y, z = latents(9, 14)
    fast = made().quantise(y, z)
    monkeypatch.setattr("twcodec.exact.products.has_byte_products", lambda _device: False)
    slow = made()
    assert isinstance(slow._context._product, FloatProduct)
    assert same(slow.quantise(y, z), fast)


def test_threads_change_nothing(entropy):
    pair = latents(20, 31)
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(entropy.quantise(*pair))
    finally:
        torch.set_num_threads(before)
    assert all(same(found[0], other) for other in found[1:])


@pytest.mark.parametrize("size", SIZES)
def test_each_position_comes_once_and_after_its_context(size):
    height, width = size
    step = np.full((height + 2, width + 4), -1)
    fronts = wavefronts(height, width)
    assert sorted(np.concatenate(fronts).tolist()) == list(range(height * width))
    for i, front in enumerate(fronts):
        assert (np.diff(front) > 0).all()
        step[2 + front // width, 2 + front % width] = i
    for r, q in itertools.product(range(height), range(width)):
        assert all(step[r + 2 + dy, q + 2 + dx] < step[r + 2, q + 2] for dy, dx in TAPS)


def test_a_kodak_picture_takes_141_steps():
    assert len(wavefronts(32, 48)) == 141


def test_a_steeper_or_flatter_front_would_break_the_order(monkeypatch):
    """The test above can fail: with a slope of 2 a tap is in the same step."""
    monkeypatch.setattr(wavefront, "SLOPE", 2)
    with pytest.raises(AssertionError):
        test_each_position_comes_once_and_after_its_context((6, 9))


def test_the_estimate_is_near_and_needs_no_order(entropy):
    y, z = latents(12, 16)
    exact, quick = entropy.quantise(y, z), entropy.estimate(y, z)
    assert torch.equal(exact.z, quick.z)
    assert quick.y.shape == exact.y.shape
    assert abs(float(entropy.bits(quick)) / float(entropy.bits(exact)) - 1) < 0.05
    assert not torch.equal(exact.levels, quick.levels)  # it is another context


def test_damage_is_found(entropy):
    size = (6, 9)
    symbols = entropy.quantise(*latents(*size))
    payload = bytearray(entropy.encode(symbols))
    refused = 0
    for at in range(0, len(payload), 37):
        broken = bytearray(payload)
        broken[at] ^= 0x40
        try:
            found = entropy.decode(bytes(broken), *size)
        except CorruptError:
            refused += 1
        else:
            assert symbols_crc(found) != symbols_crc(symbols)
    assert refused


@pytest.mark.parametrize("most", [1, 60, 1000])
def test_groups_of_pictures_change_nothing(entropy, most, monkeypatch):
    pairs = [latents(*size, seed=i) for i, size in enumerate(SIZES)]
    alone = [entropy.quantise(*pair) for pair in pairs]
    monkeypatch.setattr(wavefront, "MOST_POSITIONS", most)
    walked = []
    monkeypatch.setattr(
        entropy, "_side_by_side", lambda lanes: walked.append(lanes) or type(entropy)._side_by_side(entropy, lanes)
    )
    together = entropy.quantise_all(pairs)
    assert all(same(a, b) for a, b in zip(alone, together, strict=True))
    sizes = [[lane.height * lane.width for lane in group] for group in walked]
    assert [n for group in sizes for n in group] == [h * w for h, w in SIZES]
    assert all(sum(group) <= most or len(group) == 1 for group in sizes)


@pytest.mark.parametrize(("name", "value"), [(name, v) for name, values in SIZES_OF_BANDS.items() for v in values])
def test_integers_do_not_depend_on_tiles_bands_and_blocks(entropy, name, value, monkeypatch):
    pair = latents(13, 8)
    expected, quick = entropy.quantise(*pair), entropy.estimate(*pair)
    payload = entropy.encode(expected)
    monkeypatch.setattr(f"twcodec.exact.{name}", value)
    assert same(entropy.quantise(*pair), expected)
    assert same(entropy.estimate(*pair), quick)
    assert entropy.encode(expected) == payload
    assert same(entropy.decode(payload, 13, 8), expected)


@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16, "meta"])
def test_the_callers_default_type_and_device_change_nothing(entropy, default):
    pair = latents(6, 9)
    expected, quick = entropy.quantise(*pair), entropy.estimate(*pair)
    payload = entropy.encode(expected)
    with as_default(default):
        assert same(entropy.quantise(*pair), expected)
        assert same(entropy.decode(payload, 6, 9), expected)
        assert same(entropy.estimate(*pair), quick)
