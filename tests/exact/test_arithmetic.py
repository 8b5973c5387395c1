import zlib

import numpy as np
import plain
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from layout import channels_first, channels_last

from twcodec.errors import UnsupportedError
from twcodec.exact import known_answer
from twcodec.exact.arithmetic import EXACT_LIMIT, SATURATION, leaky_relu, requantise
from twcodec.exact.layers import Geometry, Layer, bound, quantise_weights

GEOMETRIES = [
    Geometry(3, 1, 1),
    Geometry(5, 2, 2),
    Geometry(1),
    Geometry(5, 2, 2, transposed=True, output_padding=1),
    Geometry(3, 1, 1, transposed=True),
]


def random_layer(rng, outputs, inputs, kernel):
    weight = rng.integers(-32767, 32768, (outputs, inputs, kernel, kernel)).astype(np.int16)
    return weight, rng.integers(-(1 << 30), 1 << 30, outputs), rng.integers(0, 25, outputs).astype(np.int32)


def plainly(a, weight, bias, shift, geometry):
    lists = a.tolist(), weight.tolist(), bias.tolist(), shift.tolist()
    if geometry.transposed:
        return plain.convolve_transposed(*lists, geometry.stride, geometry.padding, geometry.output_padding)
    return plain.convolve(*lists, geometry.stride, geometry.padding)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 4)])
def test_layers_agree_with_plain_integers(geometry, size):
    rng = np.random.default_rng(geometry.kernel + size[0])
    weight, bias, shift = random_layer(rng, 3, 4, geometry.kernel)
    a = rng.integers(1 - SATURATION, SATURATION, (4, *size))
    for activation in (False, True):
        out = Layer(weight, bias, shift, geometry, activation)(channels_last(a))
        want = plainly(a, weight, bias, shift, geometry)
        if activation:
            want = [[[plain.leaky_relu(v) for v in row] for row in plane] for plane in want]
        assert out.dtype == torch.int32
        assert channels_first(out).tolist() == want


def test_requantising_rounds_halves_up_and_saturates():
    acc = [-3, -2, -1, 0, 1, 2, 3, 10**15, -(10**15)]
    assert requantised(acc, [1] * 9) == [-1, -1, 0, 0, 1, 1, 2, SATURATION - 1, 1 - SATURATION]


def requantised(acc: list[int], shift: list[int]) -> list[int]:
    """Each under a shift of its own, as if it were a channel."""
    scale = torch.exp2(-torch.tensor(shift, dtype=torch.float64))
    out = requantise(torch.tensor([acc], dtype=torch.float64), scale)
    assert out.dtype == torch.int32
    return out[0].tolist()


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(1 - EXACT_LIMIT, EXACT_LIMIT - 1), st.integers(0, 40)), min_size=1))
def test_requantising_any_sum_is_exact(pairs):
    assert requantised(*map(list, zip(*pairs, strict=True))) == [plain.requantise(*pair) for pair in pairs]


@pytest.mark.parametrize("shift", range(41))
def test_requantising_is_exact_beside_every_half_that_counts(shift):
    """Where a sum is just under a half, adding one half must not carry it over; at 2^52 and more it may round."""
    largest = min(SATURATION, (EXACT_LIMIT >> shift) - 1)
    wholes = {0, 1, 2, largest // 2, largest - 2, largest - 1, largest}
    halves = [(k << shift) + (1 << shift >> 1) + off for k in wholes for off in (-1, 0, 1)]
    acc = [sign * half for half in (*halves, EXACT_LIMIT - 1) for sign in (1, -1) if half < EXACT_LIMIT]
    assert requantised(acc, [shift] * len(acc)) == [plain.requantise(a, shift) for a in acc]


def test_the_leaky_slope_is_655_in_65536_with_the_same_floor():
    halves = range(-(1 << 15), -SATURATION, -(1 << 16))  # 655 times these are odd multiples of 2^15
    a = [*range(1 - SATURATION, SATURATION, 9973), *halves, 1 - SATURATION, SATURATION - 1, -1, 0, 1]
    assert leaky_relu(torch.tensor(a, dtype=torch.int32)).tolist() == [plain.leaky_relu(v) for v in a]


def test_quantised_weights_use_fifteen_bits_a_channel():
    weight = np.array([[0.75, -0.1], [3.0, 0.001], [1e-3, 0]])[:, :, None, None]
    integers, bias, shift = quantise_weights(weight, np.array([1.0, -0.5, 0.25]))
    assert shift.tolist() == [15, 13, 24]
    assert integers[:, 0, 0, 0].tolist() == [24576, 24576, 16777]
    assert bias.tolist() == [1 << 25, -(1 << 22), 1 << 32]


def test_a_layer_that_could_leave_53_bits_is_refused():
    weight = np.full((1, 2048, 9, 9), 32767, np.int16)
    zero = np.zeros(1, np.int64)
    assert bound(weight, zero) == 2048 * 81 * 32767 * SATURATION > EXACT_LIMIT
    with pytest.raises(UnsupportedError, match="53 bits"):
        Layer(weight, zero, np.zeros(1, np.int32), Geometry(9), activation=False)


def test_the_known_answer_is_what_plain_integers_give():
    a = known_answer.inputs()
    for weight, bias, shift, geometry in known_answer.test_layers():
        a = np.array(
            [[[plain.leaky_relu(v) for v in row] for row in p] for p in plainly(a, weight, bias, shift, geometry)]
        )
    assert zlib.crc32(a.astype(">i4").tobytes()) == known_answer.ANSWER
    assert known_answer.passes("cpu")


def test_the_known_answer_of_rows_is_what_plain_integers_give():
    a = known_answer.inputs().reshape(7, 40).tolist()
    weight, bias = (known_answer._integers(seed, shape, 1 << bits).tolist() for seed, shape, bits in ROWS)
    out = [
        plain.leaky_relu(plain.requantise(b + sum(x * y for x, y in zip(w, row, strict=False)), 10 + o))
        for row in a
        for o, (w, b) in enumerate(zip(weight, bias, strict=False))
    ]
    assert zlib.crc32(np.array(out).astype(">i4").tobytes()) == known_answer.ROW_ANSWER


ROWS = ((8, (24, 40), 15), (9, (24,), 30))


def test_a_device_that_rounds_wrongly_is_found_out(monkeypatch):
    monkeypatch.setattr("twcodec.exact.layers.requantise", lambda acc, scale: requantise(acc.float(), scale.float()))
    cpu = torch.device("cpu")
    assert known_answer.answer(cpu) != known_answer.ANSWER
    assert known_answer.depthwise_answer(cpu) != known_answer.DEPTHWISE_ANSWER


@pytest.mark.parametrize("threads", [1, 2])
def test_sums_do_not_depend_on_threads_or_order(threads):
    rng = np.random.default_rng(5)
    weight, bias, shift = random_layer(rng, 64, 200, 3)
    a = rng.integers(1 - SATURATION, SATURATION, (200, 24, 17))
    order = rng.permutation(200)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        plainly_ordered = Layer(weight, bias, shift, Geometry(3, 1, 1), False)(channels_last(a))
        shuffled = Layer(weight[:, order], bias, shift, Geometry(3, 1, 1), False)(channels_last(a[order]))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(plainly_ordered, shuffled)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("band", [1, 7, 20])
def test_bands_of_rows_change_nothing(geometry, band, monkeypatch):
    rng = np.random.default_rng(8)
    layer = Layer(*random_layer(rng, 3, 4, geometry.kernel), geometry, True)
    a = channels_last(rng.integers(1 - SATURATION, SATURATION, (4, 11, 6)))
    whole = layer(a)
    monkeypatch.setattr("twcodec.exact.layers._BAND", band)
    assert torch.equal(layer(a), whole)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_how_the_inputs_lie_in_memory_changes_nothing(geometry):
    """A crop of a larger picture, or channels first."""
    rng = np.random.default_rng(9)
    layer = Layer(*random_layer(rng, 3, 4, geometry.kernel), geometry, True)
    whole = channels_last(rng.integers(1 - SATURATION, SATURATION, (4, 11, 6)))
    crop = whole[2:9, 1:5]
    expected = layer(crop.contiguous())
    assert torch.equal(layer(crop), expected)
    assert torch.equal(layer(channels_first(crop).contiguous().permute(1, 2, 0)), expected)
