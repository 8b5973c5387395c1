"""Context in two steps: its depthwise layer, the round trip, what does not change the integers, and rounding."""

import contextlib
import itertools
import math
from dataclasses import replace
from functools import partial

import numpy as np
import plain
import pytest
import torch
from layout import channels_first, channels_last

from twcodec.errors import CorruptError, UnsupportedError
from twcodec.exact import hyperprior, two_step, walk
from twcodec.exact.arithmetic import EXACT_LIMIT, ONE, SATURATION
from twcodec.exact.layers import DepthwiseLayer, Geometry, Layer, RowLayer, bound, quantise_weights
from twcodec.exact.rounding import Rounding
from twcodec.exact.symbols import Symbols
from twcodec.exact.tables import SYMBOL_LIMIT, Tables, table_from_probabilities
from twcodec.exact.two_step import Parameters, TwoStepHyperprior

CPU = torch.device("cpu")
N, M, FEATURES, HIDDEN = 4, 6, 5, 8
SIZES = [(1, 1), (1, 2), (4, 4), (5, 9), (37, 22)]
LOG_SCALES = np.linspace(-2, 3, 21)
UP = Geometry(5, 2, 2, transposed=True, output_padding=1)


# --- The depthwise layer ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 4)])
def test_the_depthwise_layer_agrees_with_plain_integers(kernel, size):
    rng = np.random.default_rng(kernel + size[0])
    weight = rng.integers(-32768, 32768, (7, 1, kernel, kernel)).astype(np.int16)
    bias, shift = rng.integers(-(1 << 30), 1 << 30, 7), np.array([0, 5, 14, 17, 20, 25, 40], np.int32)
    a = rng.integers(1 - SATURATION, SATURATION, (7, *size))
    out = DepthwiseLayer(weight, bias, shift)(channels_last(a))
    want = plain.convolve_depthwise(a.tolist(), weight.tolist(), bias.tolist(), shift.tolist())
    assert out.dtype == torch.int32
    assert channels_first(out).tolist() == want


def test_it_is_a_convolution_whose_kernels_are_0_between_channels():
    rng = np.random.default_rng(2)
    weight = rng.integers(-32767, 32768, (5, 1, 3, 3)).astype(np.int16)
    bias, shift = rng.integers(-(1 << 30), 1 << 30, 5), np.full(5, 16, np.int32)
    full = np.zeros((5, 5, 3, 3), np.int16)
    full[np.arange(5), np.arange(5)] = weight[:, 0]
    a = channels_last(rng.integers(1 - SATURATION, SATURATION, (5, 8, 6)))
    whole = Layer(full, bias, shift, Geometry(3, 1, 1), activation=False)
    assert torch.equal(DepthwiseLayer(weight, bias, shift)(a), whole(a))


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("band", [1, 7, 20])
def test_bands_and_rows_of_the_depthwise_layer_change_nothing(kernel, band, monkeypatch):
    rng = np.random.default_rng(6)
    weight = rng.integers(-32768, 32768, (4, 1, kernel, kernel)).astype(np.int16)
    layer = DepthwiseLayer(weight, rng.integers(-(1 << 30), 1 << 30, 4), np.array([14, 17, 20, 25], np.int32))
    a = channels_last(rng.integers(1 - SATURATION, SATURATION, (4, 9, 6)))
    whole = layer(a)
    monkeypatch.setattr("twcodec.exact.layers._DEPTHWISE_BAND", band)
    assert torch.equal(layer(a), whole)
    for first, end in itertools.combinations(range(10), 2):
        assert torch.equal(layer(a, slice(first, end)), whole[first:end])


@pytest.mark.parametrize(
    ("bias", "shift"),
    [(EXACT_LIMIT, 14), (-EXACT_LIMIT, 14), (EXACT_LIMIT - 9 * 32767 * SATURATION, 14), (0, -1), (0, 41)],
)
def test_a_depthwise_layer_that_could_leave_53_bits_is_refused(bias, shift):
    weight = np.full((3, 1, 3, 3), -32767, np.int16)
    one = np.array([0, bias, 0]), np.array([14, shift, 14], np.int32)
    with pytest.raises(UnsupportedError, match="53 bits"):
        DepthwiseLayer(weight, *one)


def test_the_largest_depthwise_layer_is_accepted():
    weight = np.full((1, 1, 3, 3), -32767, np.int16)
    bias = np.array([EXACT_LIMIT - 9 * 32767 * SATURATION - 1])
    assert bound(weight, bias) == EXACT_LIMIT - 1
    DepthwiseLayer(weight, bias, np.array([40], np.int32))


# --- A random hyperprior ----------------------------------------------------------------------------------------------


def table(scale: float) -> tuple[int, np.ndarray]:
    """Of a Laplacian, cut so early that symbols escape."""
    reach = math.ceil(2 * scale) + 1
    edges = np.arange(-reach - 0.5, reach + 1)
    below = np.where(edges < 0, np.exp(-np.abs(edges) / scale) / 2, 1 - np.exp(-np.abs(edges) / scale) / 2)
    return table_from_probabilities(-reach, np.diff(below))


Y_TABLES = Tables.pack([table(math.exp(s)) for s in LOG_SCALES])
Z_TABLES = Tables.pack([table(2.0 + c) for c in range(N)])
THRESHOLDS = np.floor((LOG_SCALES[1:] + LOG_SCALES[:-1]) / 2 * ONE + 0.5).astype(np.int32)


def random_integers(rng, *shape: int, bias=None):
    """Weight, bias and shift of a layer of this shape, which keeps the size of its inputs."""
    weight = rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))
    return quantise_weights(weight, 0.3 * rng.normal(size=shape[0]) if bias is None else bias)


def made(seed: int = 1, rate_weight: float = 0.6, m: int = M) -> TwoStepHyperprior:
    """Log scales around -2 .. 3 and means around -3 .. 3, which depend on z, and in the second step on the first."""
    rng = np.random.default_rng(seed)
    integers = partial(random_integers, rng)

    def network(inputs: int, hidden: int) -> Parameters:
        weight = rng.normal(size=(2 * m, hidden)) / np.sqrt(hidden)
        bias = np.concatenate([rng.uniform(-2, 3, m), rng.uniform(-3, 3, m)])
        last = quantise_weights(weight, bias)
        halves = [np.r_[start:m:2, m + start : 2 * m : 2] for start in (0, 1)]
        even, odd = (RowLayer(*(part[own] for part in last), False) if len(own) else None for own in halves)
        return Parameters(RowLayer(*integers(hidden, inputs), True), even, odd)

    return TwoStepHyperprior(
        [Layer(*integers(N, N, 5, 5), UP, True), Layer(*integers(FEATURES, N, 5, 5), UP, True)],
        network(FEATURES, HIDDEN),
        DepthwiseLayer(*integers(2 * m, 1, 3, 3)),
        network(FEATURES + 2 * m, HIDDEN + 1),
        Y_TABLES,
        Z_TABLES,
        THRESHOLDS,
        np.array([-300, 0, 5, 2000], np.int32),
        rate_weight,
        CPU,
    )


def latents(height: int, width: int, seed: int = 3, m: int = M) -> tuple[torch.Tensor, torch.Tensor]:
    """y and z, with a few values that no table reaches."""
    generator = torch.Generator().manual_seed(seed)
    y = 6 * torch.randn(m, height, width, generator=generator)
    z = 3 * torch.randn(N, -(-height // 4), -(-width // 4), generator=generator)
    y.view(-1)[:: max(7, y.numel() // 20)] *= 300
    return y, z


def same(a: Symbols, b: Symbols) -> bool:
    return all(torch.equal(getattr(a, part), getattr(b, part)) for part in ("y", "z", "levels", "y_hat"))


@pytest.fixture(scope="module")
def entropy():
    return made()


def masks(entropy, shape: tuple[int, ...]) -> list[torch.Tensor]:
    """(M, h, w) of each step."""
    return [channels_first(part.of_band(slice(0, shape[1]))) for part in entropy._parts(shape)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("m", [1, 2, 5, M])
def test_what_was_coded_comes_back(size, m):
    entropy = made(m=m)
    symbols = entropy.quantise(*latents(*size, m=m))
    payload = entropy.encode(symbols)
    assert symbols.y.shape == (m, *size)
    assert same(entropy.decode(payload, *size), symbols)
    assert entropy.verify(payload, symbols)


def test_a_payload_of_other_symbols_is_not_verified(entropy):
    symbols = entropy.quantise(*latents(5, 9))
    payload = entropy.encode(symbols)
    for at in ((0, 0, 0), (1, 0, 0), (5, 4, 8)):  # of both steps
        changed = symbols.y.clone()
        changed[at] += 1
        assert not entropy.verify(payload, replace(symbols, y=changed))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_how_latents_and_symbols_lie_in_memory_changes_nothing(entropy, layout):
    y, z = latents(5, 9)
    expected = entropy.quantise(y, z)
    payload, bits = entropy.encode(expected), entropy.bits(expected)
    found = entropy.quantise(*(part[None].contiguous(memory_format=layout)[0] for part in (y, z)))
    assert same(found, expected)
    parts = {name: getattr(found, name)[None].contiguous(memory_format=layout)[0] for name in ("y", "levels", "z")}
    laid_out = replace(found, **parts)
    assert entropy.encode(laid_out) == payload
    assert entropy.verify(payload, laid_out)
    assert entropy.bits(laid_out) == bits


def test_what_is_found_has_small_types_and_lies_channels_last(entropy):
    symbols = entropy.quantise(*latents(5, 9))
    types = {"y": torch.int16, "z": torch.int32, "levels": torch.uint8, "y_hat": torch.float32}
    for found in (symbols, entropy.decode(entropy.encode(symbols), 5, 9)):
        assert {name: getattr(found, name).dtype for name in types} == types
        assert all(getattr(found, name).permute(1, 2, 0).is_contiguous() for name in ("y", "levels", "y_hat"))


def test_both_steps_are_busy(entropy):
    """Or the tests here would mean little."""
    symbols = entropy.quantise(*latents(37, 22))
    means = symbols.y_hat - symbols.y
    parts = masks(entropy, tuple(symbols.y.shape))
    for part in parts:
        assert len(symbols.levels[part].unique()) > 8
        assert means[part].std() > 1
        assert (symbols.y[part] != 0).float().mean() > 0.5
    assert (parts[0] ^ parts[1]).all()


def test_steps_are_a_checkerboard_that_changes_its_colour_from_channel_to_channel(entropy):
    first, second = masks(entropy, (2, 3, 4))
    assert first.int().tolist() == [
        [[1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0]],
        [[0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1]],
    ]
    assert (first ^ second).all()


def test_the_first_step_does_not_depend_on_y_and_the_second_does(entropy):
    y, z = latents(12, 10)
    first, _ = masks(entropy, tuple(y.shape))
    a, b = entropy.quantise(y, z), entropy.quantise(torch.where(first, y + 3, y), z)
    assert torch.equal(a.levels[first], b.levels[first])
    assert not torch.equal(a.levels[~first], b.levels[~first])
    c = entropy.quantise(torch.where(first, y, y + 3), z)
    assert torch.equal(a.levels, c.levels)


def test_the_context_of_a_position_is_what_lies_beside_it(entropy):
    """y at (c, r, q) changes the second step's parameters at most one row and one column away."""
    y, z = latents(9, 9)
    moved = y.clone()
    moved[0, 4, 4] += 40
    a, b = entropy.quantise(y, z), entropy.quantise(moved, z)
    changed = ((a.levels != b.levels) | ((a.y_hat - a.y) != (b.y_hat - b.y))).any(0)
    rows, columns = (axis.tolist() for axis in torch.where(changed))
    assert rows
    assert {min(rows), max(rows), min(columns), max(columns)} <= {3, 4, 5}


@pytest.mark.parametrize("m", [1, 5, M])
def test_steps_in_plain_integers(m):
    """Both steps' parameters once more from their layers, one call each, for all places and without bands."""
    entropy = made(m=m)
    y, z = latents(6, 7, m=m)
    symbols = entropy.quantise(y, z)
    features = z_hat = entropy._z_hat(symbols.z, 1.0)
    for layer in entropy._h_s:
        features = layer(features)
    features = features[:6, :7]
    assert z_hat.shape == (2, 2, N)
    first = (torch.arange(m) + torch.arange(6)[:, None, None] + torch.arange(7)[:, None]) % 2 == 0  # (h, w, M)
    found = symbols.y.permute(1, 2, 0)
    scales, means = everywhere(entropy._first, features)
    known = torch.where(first, (ONE * found.int() + means).clamp(1 - SATURATION, SATURATION - 1), 0)
    context = entropy._context(torch.cat([known, known.abs()], -1))
    given = everywhere(entropy._second, torch.cat([features, context], -1))
    scales, means = (torch.where(first, *pair) for pair in zip((scales, means), given, strict=True))
    assert torch.equal(symbols.y_hat, channels_first((found + means / ONE).float()))
    levels = (scales[..., None] >= torch.from_numpy(THRESHOLDS)).sum(-1)
    assert torch.equal(symbols.levels.long(), channels_first(levels))
    residual = y.permute(1, 2, 0) - means / ONE
    assert torch.equal(found.float(), Rounding(Y_TABLES, 0.6, CPU)(residual, levels.to(torch.uint8)))


def everywhere(network: Parameters, a: torch.Tensor) -> torch.Tensor:
    """Scales and means (2, h, w, M) of all channels at all places, from (h, w, I)."""
    hidden = network.hidden(a.flatten(0, 1))
    parts = [last(hidden).view(*a.shape[:2], 2, -1).movedim(2, 0) for last in (network.even, network.odd) if last]
    out = torch.empty(*parts[0].shape[:3], sum(part.shape[-1] for part in parts), dtype=torch.int32)
    for start, part in enumerate(parts):
        out[..., start::2] = part
    return out


def test_the_estimate_is_the_coded_length(entropy):
    for size in ((5, 9), (37, 22), (80, 64)):
        symbols = entropy.quantise(*latents(*size))
        written = 8 * len(entropy.encode(symbols))
        assert abs(float(entropy.bits(symbols)) - written) <= 64 + 0.001 * written


@pytest.mark.parametrize("threads", [1, 2])
def test_integers_do_not_depend_on_threads(entropy, threads):
    y, z = latents(37, 22)
    expected = entropy.quantise(y, z)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = entropy.quantise(y, z)
        decoded = entropy.decode(entropy.encode(found), 37, 22)
    finally:
        torch.set_num_threads(before)
    assert same(found, expected)
    assert same(decoded, expected)


@pytest.mark.parametrize("side", [1, 2, 3])
def test_integers_do_not_depend_on_tiles(entropy, monkeypatch, side):
    """A tile is 4 to 12 latents wide here, so there are many, and what h_s sees reaches over their edges."""
    expected = entropy.quantise(*latents(37, 22))
    calls, (first, *rest) = [], entropy._h_s
    monkeypatch.setattr(entropy, "_h_s", [lambda a: calls.append(a.shape) or first(a), *rest])
    monkeypatch.setattr(hyperprior, "TILE", side)
    found = entropy.quantise(*latents(37, 22))
    assert len(calls) == -(-10 // side) * -(-6 // side)
    assert same(found, expected)
    assert same(entropy.decode(entropy.encode(found), 37, 22), expected)


SIZES_OF_BANDS = {
    "walk._POSITIONS": (1, 22, 50, 300),
    "layers._BAND": (1, 50),
    "layers._DEPTHWISE_BAND": (1, 50),
    "products._PART": (1, 50),
    "coder._BLOCK": (1, 50),
}


@pytest.mark.parametrize(("name", "value"), [(name, v) for name, values in SIZES_OF_BANDS.items() for v in values])
def test_integers_do_not_depend_on_bands_and_blocks(entropy, monkeypatch, name, value):
    expected = entropy.quantise(*latents(37, 22))
    payload = entropy.encode(expected)
    monkeypatch.setattr(f"twcodec.exact.{name}", value)
    assert same(entropy.quantise(*latents(37, 22)), expected)
    assert entropy.encode(expected) == payload
    assert same(entropy.decode(payload, 37, 22), expected)


@pytest.mark.parametrize("m", [1, 5])
def test_integers_do_not_depend_on_tiles_bands_and_blocks_together(monkeypatch, m):
    entropy = made(m=m)
    expected = entropy.quantise(*latents(13, 10, m=m))
    payload = entropy.encode(expected)
    monkeypatch.setattr(hyperprior, "TILE", 1)
    for name, values in SIZES_OF_BANDS.items():
        monkeypatch.setattr(f"twcodec.exact.{name}", values[-1] // 3)
    assert same(entropy.quantise(*latents(13, 10, m=m)), expected)
    assert same(entropy.decode(payload, 13, 10), expected)


def test_bands_are_many(entropy, monkeypatch):
    """Or the tests above would mean little: by default a picture of this size is one."""
    seen, known = [], two_step._known
    monkeypatch.setattr(two_step, "_known", lambda *a: seen.append(a[1]) or known(*a))
    entropy.quantise(*latents(37, 22))
    assert seen == [slice(0, 37)]
    monkeypatch.setattr(walk, "_POSITIONS", 50)
    entropy.quantise(*latents(37, 22))
    assert len(seen) == 1 + 19


def test_a_context_that_is_seen_without_its_edge_shows(entropy, monkeypatch):
    """The tests above would find a halo that is too small."""
    expected, known = entropy.quantise(*latents(37, 22)), two_step._known
    monkeypatch.setattr(two_step, "_known", lambda *a: known(*a[:-1], a[-1] - 1))
    assert same(entropy.quantise(*latents(37, 22)), expected)  # one band has no neighbours
    monkeypatch.setattr(walk, "_POSITIONS", 50)
    assert not same(entropy.quantise(*latents(37, 22)), expected)


def test_a_tile_that_is_seen_without_its_edge_shows(entropy, monkeypatch):
    expected = entropy.quantise(*latents(37, 22))
    monkeypatch.setattr(two_step, "REACH", hyperprior.REACH - 1)
    assert same(entropy.quantise(*latents(37, 22)), expected)  # one tile has no neighbours
    monkeypatch.setattr(hyperprior, "TILE", 2)
    assert not same(entropy.quantise(*latents(37, 22)), expected)


def test_symbols_that_live_elsewhere_are_put_together_by_the_processor(entropy, monkeypatch):
    """A device's way, without one."""
    expected = entropy.quantise(*latents(5, 9))
    monkeypatch.setattr(torch.Tensor, "is_cpu", False)
    assert same(entropy.decode(entropy.encode(expected), 5, 9), expected)


@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16, "meta"])
def test_the_callers_default_type_and_device_change_nothing(entropy, default):
    pair = latents(6, 9)
    expected = entropy.quantise(*pair)
    payload = entropy.encode(expected)
    with as_default(default):
        assert same(entropy.quantise(*pair), expected)
        assert same(entropy.decode(payload, 6, 9), expected)
        assert torch.isfinite(entropy.bits(expected))


@contextlib.contextmanager
def as_default(default):
    """A type or a device of torch's for what is made without saying which."""
    (torch.set_default_dtype if isinstance(default, torch.dtype) else torch.set_default_device)(default)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)


def test_latents_that_are_not_numbers_or_huge_are_coded_as_something(entropy):
    y, z = latents(5, 9)
    y.view(-1)[::3] = float("nan")
    y.view(-1)[1::5] = float("inf")
    y.view(-1)[2::7] = -1e30
    z.view(-1)[::2] = float("nan")
    z.view(-1)[1::4] = -float("inf")
    symbols = entropy.quantise(y, z)
    assert symbols.y.abs().max() <= SYMBOL_LIMIT
    assert same(entropy.decode(entropy.encode(symbols), 5, 9), symbols)


def test_damaged_payloads_decode_to_something_or_are_called_corrupt(entropy):
    payload = entropy.encode(entropy.quantise(*latents(5, 9)))
    rng = np.random.default_rng(1)
    for _ in range(40):
        broken = bytearray(payload)
        broken[int(rng.integers(len(payload)))] ^= 1 << int(rng.integers(8))
        try:
            assert entropy.decode(bytes(broken), 5, 9).y.abs().max() <= SYMBOL_LIMIT
        except CorruptError:
            continue


# --- Rounding ---------------------------------------------------------------------------------------------------------


def residuals() -> tuple[torch.Tensor, torch.Tensor]:
    """Every magnitude up to 9 in small steps, exact halves among them, under every table."""
    values = torch.arange(-9 * 64, 9 * 64 + 1, dtype=torch.float32) / 64
    levels = torch.arange(len(Y_TABLES)).repeat_interleave(len(values)).view(len(Y_TABLES), -1, 1).to(torch.uint8)
    return values.repeat(len(Y_TABLES)).view(levels.shape), levels


def test_a_rate_weight_of_0_is_plain_rounding():
    residual, levels = residuals()
    assert torch.equal(Rounding(Y_TABLES, 0.0, CPU)(residual, levels), residual.round())


@pytest.mark.parametrize("rate_weight", [0.1, 0.6, 2.0])
def test_magnitudes_never_grow_and_shrink_by_1_at_most(rate_weight):
    residual, levels = residuals()
    symbols, plainly = Rounding(Y_TABLES, rate_weight, CPU)(residual, levels), residual.round()
    shrunk = plainly.abs() - symbols.abs()
    assert set(shrunk.unique().tolist()) == {0, 1}
    assert (symbols * plainly >= 0).all()
    assert ((residual - symbols).abs() <= 1 - 0.04).all()  # LARGEST_OFFSET is 0.45


def test_a_larger_rate_weight_shrinks_more_and_never_less():
    residual, levels = residuals()
    found = [Rounding(Y_TABLES, weight, CPU)(residual, levels).abs() for weight in (0, 0.3, 0.6, 1.2)]
    for less, more in itertools.pairwise(found):
        assert (more <= less).all()
        assert more.sum() < less.sum()


def test_rounding_is_8_5_of_the_format():
    """The formula of the text, one value at a time."""
    residual, levels = residuals()
    symbols = Rounding(Y_TABLES, 0.6, CPU)(residual, levels)
    starts = Y_TABLES.start
    for level in (0, 7, 20):
        first, length = int(Y_TABLES.first[level]), int(Y_TABLES.length[level])
        cost = Y_TABLES.cost[starts[level] : starts[level] + length].tolist()
        for value, symbol in zip(residual[level].flatten().tolist(), symbols[level].flatten().tolist(), strict=True):
            d = abs(value)
            k = round(d)
            j = min(k, 2)
            t = min(max(0.6 * math.log(2) / 12 * (bits(cost, first, j) - bits(cost, first, j - 1)), 0), 0.45)
            magnitude = k - 1 if k > 0 and d - k < t - 0.5 else k
            assert symbol == math.copysign(magnitude, value), (level, value)


def bits(cost: list[float], first: int, k: int) -> float:
    """The mean of what k and -k cost; the last entry is the escape."""
    return sum(cost[s - first] if 0 <= s - first < len(cost) - 1 else cost[-1] for s in (k, -k)) / 2


@pytest.mark.parametrize("rate_weight", [0.0, 0.6, 2.0])
def test_what_is_no_number_or_beyond_the_limit_stays_within_it(rate_weight):
    nan, inf = float("nan"), float("inf")
    residual = torch.tensor([nan, inf, -inf, 1e30, -1e30, 32767.4, -32768.0, 40000.0])[:, None, None]
    levels = torch.zeros(residual.shape, dtype=torch.uint8)
    symbols = Rounding(Y_TABLES, rate_weight, CPU)(residual, levels).flatten().tolist()
    limit = SYMBOL_LIMIT
    assert symbols == [0, limit, -limit, limit, -limit, limit, -limit, limit]


@pytest.mark.parametrize(
    "thresholds",
    [[], [0], [-5, -3, 0, 1, 7], [-(1 << 30), -4, 9, 1 << 30], [1 << 29, 1 << 30], list(range(-50, 900, 4))],
)
def test_looking_up_a_level_is_counting_thresholds(thresholds):
    limits = np.array(thresholds, np.int32)
    lowest, by_scale = hyperprior._levels_by_scale(limits)
    assert len(by_scale) <= 2 * SATURATION + 2
    for scale in [*range(-60, 1000), 1 - SATURATION, SATURATION - 1]:
        index = min(max(scale - lowest, 0), len(by_scale) - 1)
        assert by_scale[index] == sum(t <= scale for t in thresholds), scale
