"""The family lapped-dct: the decoder written from formats/twc-1.md against twcodec, on small random models.

No embedded model is needed. The models are random, and chosen so that all parts matter: latents are busy, both steps
have scales on many levels, means that are not 0, and escapes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import slow_decoder as slow
import torch

from twcodec.codec.codec import Codec
from twcodec.codec.settings import Settings
from twcodec.errors import TwcError, UnsupportedError
from twcodec.exact.layers import quantise_weights
from twcodec.models import file as model_file
from twcodec.models.lapped_dct_convert import convert
from twcodec.models.lapped_dct_network import Config, Network
from twcodec.models.model import Model

CPU = torch.device("cpu")
SMALL = Config(luma=6, chroma=2, n=4, lap=4, depth=1, hidden=8, features=6, entropy_hidden=8, filter=4)
CONFIGS = {
    "small": SMALL,
    "no-lap": Config(luma=5, chroma=1, n=3, lap=0, depth=2, hidden=5, features=7, entropy_hidden=4, filter=3),
    "widest-lap": Config(luma=3, chroma=2, n=5, lap=16, depth=1, hidden=9, features=3, entropy_hidden=6, filter=2),
    "one-channel": Config(luma=1, chroma=0, n=1, lap=1, depth=1, hidden=1, features=1, entropy_hidden=1, filter=1),
}
METADATA = {"family": "lapped-dct", "lambda": list(SMALL.lambdas), "rate_weight": 0.6, "provenance": {}}


def random_tensors(config: Config, seed: int = 1) -> dict:
    """Of a model file. The entropy networks are wilder than training makes them; the transforms stay a little tame."""
    torch.manual_seed(seed)
    network = Network(config)
    with torch.no_grad():
        for name, p in network.named_parameters():
            if name.startswith(("g_a.blocks", "g_s.blocks", "g_s.filter", "gain", "h_a")):
                p.add_(0.05 * torch.randn_like(p))
            if name.endswith("bank.weight"):  # so that the lap holds something
                p.add_(0.05 * p.abs().max() * torch.randn_like(p))
    return {**convert(network), **entropy_networks(config, np.random.default_rng(seed))}


def entropy_networks(config: Config, rng: np.random.Generator) -> dict:
    """h_s and what follows it; F1 and F2 differ. Log scales lie around -2 .. 2.5, means around -3 .. 3."""
    n, m, f, hidden = config.n, config.m, config.features, config.entropy_hidden
    shapes = {
        "h_s.0": (n, n, 5, 5),
        "h_s.1": (f, n, 5, 5),
        "first.0": (hidden, f, 1, 1),
        "first.1": (2 * m, hidden, 1, 1),
        "context": (2 * m, 1, 3, 3),
        "second.0": (hidden + 3, f + 2 * m, 1, 1),
        "second.1": (2 * m, hidden + 3, 1, 1),
    }
    out = {}
    for name, shape in shapes.items():
        weight = rng.normal(size=shape) * (1 / np.sqrt(np.prod(shape[1:])))
        bias = 0.3 * rng.normal(size=shape[0])
        if name in ("first.1", "second.1"):
            bias = np.concatenate([rng.uniform(-2, 2.5, m), rng.uniform(-3, 3, m)])
        parts = quantise_weights(weight, bias)
        out.update({f"{name}.{part}": a for part, a in zip(("weight", "bias", "shift"), parts, strict=True)})
    return out


@pytest.fixture(scope="module", params=CONFIGS)
def data(request) -> bytes:
    return model_file.build(random_tensors(CONFIGS[request.param]), METADATA)


@pytest.fixture(scope="module")
def codec(data) -> Codec:
    return Codec(Model(data, "small", CPU))


@pytest.fixture(scope="module")
def model(data) -> slow.Model:
    return slow.Model(data)


CASES = [
    (40, 17, 3.0, ""),
    (33, 70, 5.5, ""),
    (1, 1, 1.0, ""),
    (80, 130, 7.0, ""),
    (20, 50, 4.321, "flip-turn-slack"),
]


@pytest.fixture(scope="module", params=CASES, ids=[f"{h}x{w}" for h, w, *_ in CASES])
def coded(request, codec, crop) -> bytes:
    height, width, quality, transform = request.param
    names = (transform,) if transform else ()
    settings = Settings(quality, 1, "always" if transform else "never", names, seed=height)
    return codec.encode_picture(crop(height, width), settings)[0]


def slowly(coded: bytes, model: slow.Model) -> slow.Symbols:
    head, chunks = slow.read_chunks(coded)
    return slow.decode_symbols(head, chunks[b"DATA"], model)


def test_both_find_the_same_integers(codec, model, coded):
    ours, theirs = codec.decode_symbols(coded), slowly(coded, model)
    assert theirs.z == ours.z.flatten().tolist()
    assert theirs.y == ours.y.flatten().tolist()
    assert theirs.index == ours.levels.flatten().tolist()
    assert slow.raster(theirs.y_hat()) == ours.y_hat.flatten().tolist()


def test_both_show_the_same_picture(codec, model, coded):
    exact = np.array(slow.decode(coded, model).values)
    ours = np.asarray(codec.decode(coded)).astype(float)
    assert np.abs(ours - exact).max() <= 0.5 + 0.01  # what 8.4 allows is 1.5


@pytest.mark.parametrize("size", [(1, 1), (1, 3), (3, 2)])
def test_both_synthesise_the_same_numbers_before_they_are_clamped(codec, model, size):
    """Edges above all: what laps over the canvas is dropped."""
    y_hat = torch.from_numpy(np.random.default_rng(3).normal(size=(model.m, *size)) * 3).float()
    grid = slow.to_grid(y_hat.flatten().tolist(), model.m, *size)
    x = codec.model.family.g_s(y_hat, 2.5)
    assert x.shape == (3, 16 * size[0], 16 * size[1])
    assert np.abs(x.flatten().numpy() - np.array(slow.raster(model.synthesis(grid, 2500)))).max() < 1e-4


# --- That the above means something -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small() -> slow.Model:
    return slow.Model(model_file.build(random_tensors(SMALL), METADATA))


@pytest.fixture(scope="module")
def busy(small, crop) -> slow.Decoded:
    own = Codec(Model(model_file.build(random_tensors(SMALL), METADATA), "small", CPU))
    return slow.decode(own.encode_picture(crop(80, 130), Settings(7, 1, "never"))[0], small)


def steps(found: slow.Symbols, m: int) -> list[list[int]]:
    """The positions of y in raster order that each step holds."""
    held = [(c + r + q) % 2 for c in range(m) for r in range(found.rows) for q in range(found.columns)]
    return [[i for i, odd in enumerate(held) if odd == step] for step in (0, 1)]


def test_the_small_model_is_busy_in_both_steps(small, busy):
    found = busy.symbols
    for positions in steps(found, small.m):
        assert len({found.index[i] for i in positions}) > 30
        assert np.abs([found.mean[i] for i in positions]).mean() > 500
        assert np.mean([found.y[i] != 0 for i in positions]) > 0.3
        assert sum(i in positions for i in found.y_escaped) > 5
    assert any(found.z)
    inside = np.array(busy.values)
    assert ((inside > 0) & (inside < 255)).mean() > 0.7


def test_escapes_of_the_first_step_are_coded_before_those_of_the_second(small, busy):
    first, second = (set(positions) for positions in steps(busy.symbols, small.m))
    escaped = busy.symbols.y_escaped
    count = sum(i in first for i in escaped)
    assert set(escaped[:count]) <= first
    assert set(escaped[count:]) <= second


def test_the_second_step_depends_on_the_first_and_on_its_magnitude(small, busy):
    """Signs alone, and neighbours alone, change what is predicted."""
    found, m = busy.symbols, small.m
    features = [line[: found.columns] for line in found.layers[-1][: found.rows]]

    def predicted(change) -> list[int]:
        known = [change(c, 1024 * 4) for c in range(m)]
        seen = [[known + [abs(v) for v in known] for _ in line] for line in features]
        context = small.steps.context(seen)
        joined = [[a + b for a, b in zip(*two, strict=True)] for two in zip(features, context, strict=True)]
        return slow.raster(slow.run(small.steps.second, joined))

    plus = predicted(lambda _c, v: v)
    minus = predicted(lambda _c, v: -v)
    none = predicted(lambda _c, _v: 0)
    assert plus != minus
    assert minus != none
    assert plus != none


# --- Model files ------------------------------------------------------------------------------------------------------


def without(tensors: dict, *names: str) -> dict:
    return {name: value for name, value in tensors.items() if not name.startswith(names)}


def with_blocks(tensors: dict, side: str, count: int) -> dict:
    block = {k.split(".", 3)[3]: v for k, v in tensors.items() if k.startswith(f"{side}.blocks.0.")}
    added = {f"{side}.blocks.{j}.{part}": v for j in range(count) for part, v in block.items()}
    return {**without(tensors, f"{side}.blocks."), **added}


def test_what_training_needs_and_the_rate_weight_are_optional(crop):
    tensors = random_tensors(SMALL)
    bare = without(tensors, "training.")
    assert len(bare) < len(tensors)
    data = model_file.build(bare, {k: v for k, v in METADATA.items() if k != "rate_weight"})
    codec, model = Codec(Model(data, "bare", CPU)), slow.Model(data)
    coded = codec.encode_picture(crop(33, 40), Settings(4, 1, "never"))[0]
    assert slowly(coded, model).y == codec.decode_symbols(coded).y.flatten().tolist()


def test_both_sides_may_have_different_numbers_of_blocks(crop):
    data = model_file.build(with_blocks(random_tensors(SMALL), "g_s", 3), METADATA)
    codec, model = Codec(Model(data, "uneven", CPU)), slow.Model(data)
    assert len(model.synthesis.blocks) == 3
    coded = codec.encode_picture(crop(33, 20), Settings(4, 1, "never"))[0]
    ours = np.asarray(codec.decode(coded)).astype(float)
    assert np.abs(ours - np.array(slow.decode(coded, model).values)).max() <= 0.5 + 0.01


M = SMALL.m
REFUSED = {
    "no first layer": {"first.0.weight": None},
    "no context": {"context.shift": None},
    "context as a full convolution": {"context.weight": np.zeros((2 * M, 2 * M, 3, 3), np.int16)},
    "context of another kernel": {"context.weight": np.zeros((2 * M, 1, 5, 5), np.int16)},
    "context beyond 53 bits": {"context.bias": np.full(2 * M, 1 << 60, np.int64)},
    "a shift out of range": {"second.1.shift": np.full(2 * M, 41, np.int32)},
    "features that do not fit": {"h_s.1.shift": np.zeros(7, np.int32)},
    "no features": {"h_s.1.shift": np.zeros(0, np.int32)},
    "no channels in the second network": {"second.0.shift": np.zeros(0, np.int32)},
    "an odd kernel": {"g_s.bank.weight": np.zeros((M, 3, 23, 23), np.float32)},
    "a kernel too large": {"g_s.bank.weight": np.zeros((M, 3, 50, 50), np.float32)},
    "a kernel too small": {"g_s.bank.weight": np.zeros((M, 3, 14, 14), np.float32)},
    "a kernel that is not square": {"g_s.bank.weight": np.zeros((M, 3, 16, 24), np.float32)},
    "no blocks": {"g_s.blocks.0.depthwise.weight": None},
    "a filter of another width": {"g_s.filter.1.bias": np.zeros(5, np.float32)},
    "half floats where integers belong": {"first.1.weight": np.zeros((2 * M, 8, 1, 1), np.float16)},
}


@pytest.mark.parametrize("what", REFUSED)
def test_both_refuse_a_model_file_that_does_not_fit(what):
    changed = {k: v for k, v in {**random_tensors(SMALL), **REFUSED[what]}.items() if v is not None}
    assert_both_refuse(model_file.build(changed, METADATA))


@pytest.mark.parametrize("empty", ["hidden", "filter"])
def test_both_refuse_a_transform_without_channels_inside(empty):
    config = replace(SMALL, **{empty: 1})
    sizes = {f"{side}.blocks.0.{part}": axis for side in ("g_a", "g_s") for part, axis in BLOCK_AXES.items()}
    sizes = sizes if empty == "hidden" else FILTER_AXES
    tensors = random_tensors(config)
    for name, axes in sizes.items():
        shape = [0 if axis in axes else n for axis, n in enumerate(tensors[name].shape)]
        tensors[name] = np.zeros(shape, tensors[name].dtype)
    assert_both_refuse(model_file.build(tensors, METADATA))


BLOCK_AXES = {"expand.weight": (0,), "expand.bias": (0,), "project.weight": (1,)}
FILTER_AXES = {
    "g_s.filter.0.weight": (0,),
    "g_s.filter.0.bias": (0,),
    "g_s.filter.1.weight": (0, 1),
    "g_s.filter.1.bias": (0,),
    "g_s.filter.2.weight": (1,),
}
"""The axes of each tensor that are as long as a block's inside or the filter is wide."""


def test_64_blocks_are_the_most():
    slow.Model(model_file.build(with_blocks(random_tensors(SMALL), "g_s", 64), METADATA))
    assert_both_refuse(model_file.build(with_blocks(random_tensors(SMALL), "g_s", 65), METADATA))


def test_both_refuse_an_unknown_family():
    assert_both_refuse(model_file.build(random_tensors(SMALL), {**METADATA, "family": "lapped-dct-2"}))


def assert_both_refuse(data: bytes) -> None:
    with pytest.raises(UnsupportedError):
        Model(data, "changed", CPU)
    with pytest.raises(slow.Refused) as caught:
        slow.Model(data)
    assert caught.value.kind == slow.UNSUPPORTED


# --- Hostile files ----------------------------------------------------------------------------------------------------


def test_both_find_the_same_in_changed_payloads(crop, monkeypatch):
    """Wrong symbols of the first step go through the context into the second; neither CRC nor end is checked here."""
    data = model_file.build(random_tensors(SMALL), METADATA)
    codec, model = Codec(Model(data, "small", CPU)), slow.Model(data)
    coded = codec.encode_picture(crop(33, 40), Settings(5, 1, "never"))[0]
    payload = slow.read_chunks(coded)[1][b"DATA"]
    right = without_checks(payload, model)
    monkeypatch.setattr("twcodec.exact.coder.check_finished", lambda _decoder: None)
    rng = np.random.default_rng(5)
    wrong = 0
    for _ in range(60):
        broken = bytearray(payload)
        broken[int(rng.integers(len(payload)))] ^= 1 << int(rng.integers(8))
        try:
            found = codec.model.family.entropy.decode(bytes(broken), 3, 3)
            fast = found.y.flatten().tolist(), found.levels.flatten().tolist()
        except TwcError:
            fast = None
        plain = without_checks(bytes(broken), model)
        assert fast == plain
        wrong += plain is not None and plain[1] != right[1]
    assert wrong > 15


def without_checks(payload: bytes, model: slow.Model) -> tuple[list[int], list[int]] | None:
    """y and its indices of a 3 x 3 latent, or None where the slow decoder refuses."""
    decoder = slow.RangeDecoder(payload)
    try:
        z = slow.decode_array(decoder, model.z_tables, list(range(model.n)))[0]
        slow.require(all(abs(value) <= 1023 for value in z), "a symbol of z out of range")
        features = [line[:3] for line in slow.run_h_s([[z]], model)[-1][:3]]
        found = model.steps.decode(decoder, features, model)
    except slow.Refused:
        return None
    return found.y, found.index
