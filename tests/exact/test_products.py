"""Products of integers in bytes: the same sums as in float64, whatever the sizes and signs."""

import numpy as np
import pytest
import torch

from twcodec.exact import products
from twcodec.exact.arithmetic import SATURATION
from twcodec.exact.products import ByteProduct, FloatProduct

bytes_only = pytest.mark.skipif(
    not products.has_byte_products(torch.device("cpu")), reason="this processor multiplies no bytes"
)


def times(product, a):
    return product(product.planes(a))


def activations(rng, *shape):
    """Some at the ends of their range, some small."""
    a = rng.integers(1 - SATURATION, SATURATION, shape)
    small = rng.random(shape) < 0.5
    ends = rng.random(shape) < 0.1
    a[small] = rng.integers(-300, 300, int(small.sum()))
    a[ends] = np.where(a[ends] < 0, 1 - SATURATION, SATURATION - 1)
    return torch.from_numpy(a.astype(np.int32))


@bytes_only
@pytest.mark.parametrize("n", [1, 2, 11, 33])
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (5, 3), (17, 65), (2304, 384)])
def test_bytes_give_the_sums_of_plain_integers(n, inputs, outputs):
    rng = np.random.default_rng(n + inputs)
    weight = rng.integers(-32767, 32640, (outputs, inputs)).astype(np.int16)
    a = activations(rng, n, inputs)
    want = a.numpy().astype(np.int64) @ weight.astype(np.int64).T
    assert times(ByteProduct(weight), a).tolist() == want.tolist()
    assert times(FloatProduct(weight, "cpu"), a).tolist() == want.tolist()


@bytes_only
@pytest.mark.parametrize("value", [-32767, -32641, -32640, -32639, -129, -128, 127, 128, 32639, 32640, 32767])
def test_every_weight_at_the_edge_of_a_byte(value):
    a = activations(np.random.default_rng(1), 5, 8)
    for other in (-3, 5):
        weight = np.array([[value] * 4 + [other] * 4, [other] * 8], np.int16)
        assert ByteProduct.covers(weight)
        assert torch.equal(times(ByteProduct(weight), a), times(FloatProduct(weight, "cpu"), a))


def test_a_row_with_the_largest_weights_of_both_signs_stays_in_float64():
    weight = np.array([[32767, -32767]], np.int16)
    assert not ByteProduct.covers(weight)
    assert isinstance(products.product(weight, "cpu"), FloatProduct)
    assert isinstance(products.product(np.zeros((1, (1 << 16) + 1), np.int16), "cpu"), FloatProduct)


@bytes_only
def test_a_processor_that_saturates_is_found_out(monkeypatch):
    """As those do that add pairs of products in 16 bits."""
    exact = torch._int_mm

    def saturating(a, b):
        pairs = sum(
            exact(a[:, i : i + 2].contiguous(), b[i : i + 2].contiguous()).clamp(-32768, 32767)
            for i in range(0, a.shape[1] - 1, 2)
        )
        return pairs + (exact(a[:, -1:].contiguous(), b[-1:].contiguous()) if a.shape[1] % 2 else 0)

    monkeypatch.setattr(torch, "_int_mm", saturating)
    monkeypatch.setattr(products, "_checked", [])
    assert not products.has_byte_products(torch.device("cpu"))
    assert isinstance(products.product(np.ones((3, 4), np.int16), "cpu"), FloatProduct)


def test_without_onednn_it_is_float64():
    """There `_int_mm` is a plain loop, thirty times slower."""
    with torch.backends.mkldnn.flags(enabled=False):
        assert isinstance(products.product(np.ones((3, 4), np.int16), "cpu"), FloatProduct)


def test_the_callers_default_device_is_not_asked(monkeypatch):
    expected = products.has_byte_products(torch.device("cpu"))
    monkeypatch.setattr(products, "_checked", [])
    with torch.device("meta"):
        assert products.has_byte_products(torch.device("cpu")) == expected


@bytes_only
@pytest.mark.parametrize("weight", [-32767, 32639, 255, 128, -128, -129])
@pytest.mark.parametrize("inputs", [511, 2304, 1 << 16])
def test_the_largest_sums_of_one_sign(weight, inputs):
    """Random signs cancel; these do not, and leave 32 bits where the halves are added too soon."""
    matrix = np.full((2, inputs), weight, np.int16)
    for a in (1 - SATURATION, SATURATION - 1, -32639, 32639, -128 * 257, 127):
        found = times(ByteProduct(matrix), torch.full((2, inputs), a, dtype=torch.int32))
        assert found.tolist() == [[weight * a * inputs] * 2] * 2


@bytes_only
@pytest.mark.parametrize("value", [-32641, -32640, -32639, -129, -128, -1, 0, 127, 128, 32639, 32640])
def test_two_planes_are_enough_for_what_two_bytes_hold_and_three_are_taken_beyond(value):
    """Signed digits of 2^8 reach from -128 * 257 to 127 * 257; two planes are for the smaller of both."""
    kind = ByteProduct(np.array([[3, -7]], np.int16))
    a = torch.tensor([[value, 0], [0, value]], dtype=torch.int32)
    planes = kind.planes(a)
    assert planes.dtype == torch.int8
    assert len(planes) == (2 if abs(value) <= 32639 else 3)
    assert sum(plane.long() << 8 * i for i, plane in enumerate(planes)).tolist() == a.tolist()


@bytes_only
@pytest.mark.parametrize("rows", [1, 2, 5])
def test_parts_of_rows_change_nothing(rows, monkeypatch):
    rng = np.random.default_rng(4)
    kind, a = ByteProduct(rng.integers(-32767, 32640, (6, 9)).astype(np.int16)), activations(rng, 11, 9)
    expected = times(kind, a)
    monkeypatch.setattr(products, "_PART", rows * 6)
    assert torch.equal(times(kind, a), expected)


@pytest.mark.parametrize("kind", [ByteProduct, lambda weight: FloatProduct(weight, "cpu")])
def test_no_rows_give_no_sums(kind):
    """Of a picture of one position, half the channels have none in a step."""
    assert times(kind(np.ones((3, 4), np.int16)), torch.zeros(0, 4, dtype=torch.int32)).shape == (0, 3)
