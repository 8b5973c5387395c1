from dataclasses import replace

import numpy as np
import pytest
import torch

from twcodec.errors import UnsupportedError
from twcodec.models import file as model_file
from twcodec.models.lapped_dct_convert import widen
from twcodec.models.model import Model
from twcodec.models.trainable import Config, Network, build, start_from

CPU = torch.device("cpu")
TINY = Config(luma=12, chroma=4, n=8, lap=4, depth=2, hidden=24, features=12, entropy_hidden=16, filter=8)


@pytest.fixture(scope="module")
def network():
    """A tiny network in which every part does something."""
    torch.manual_seed(4)
    made = Network(TINY).eval()
    with torch.no_grad():
        for name, p in made.named_parameters():
            if name.startswith(("g_a.blocks", "g_s.blocks", "g_s.filter", "first", "second", "h_s")):
                p.add_(0.05 * torch.randn_like(p))
        for layers in (made.first, made.second):  # scales that fit latents which nobody has trained
            layers[1].bias[: TINY.m] += 2.5
        for p in made.parameters():  # as a model file holds them
            p.copy_(p.half().float())
    made.refresh_dead_zone()
    return made


@pytest.fixture(scope="module")
def plain(network):
    """The same, with plain rounding."""
    made = Network(replace(TINY, rate_weight=0.0)).eval()
    made.load_state_dict(network.state_dict())
    made.refresh_dead_zone()
    return made


@pytest.fixture(scope="module")
def data(network):
    return build(network, {"test": True})


@pytest.fixture(scope="module")
def x(astronaut):
    return torch.from_numpy(np.ascontiguousarray(astronaut[64:192, 128:320])).permute(2, 0, 1).float() / 255


@pytest.mark.parametrize("row", [0, 3, 6])
@torch.no_grad()
def test_the_model_file_computes_what_the_network_computed(plain, x, row):
    network, family = plain, Model(build(plain, {}), "tiny", CPU).family
    y = family.g_a(x, row + 1.0)
    wanted = network.analyse(x[None], torch.tensor([row]))[0]
    assert torch.allclose(y, wanted, atol=2e-3, rtol=1e-3)
    out = network(x[None], torch.tensor([row]), noise=False)
    coded = network.code(wanted[None], network._h_a(wanted[None]), noise=False)
    symbols = family.entropy.quantise(wanted, family.h_a(wanted))
    same = (symbols.y_hat - coded.y_hat[0]).abs() < 0.01
    assert same.float().mean() > 0.98  # the rest lies half way between two symbols
    synthesised = network.synthesise(symbols.y_hat[None], torch.tensor([row]))[0]
    assert torch.allclose(family.g_s(symbols.y_hat, row + 1.0), synthesised, atol=1e-4)
    bits = float(family.entropy.bits(symbols))
    if row < 6:  # at the top an untrained network's latents reach the likelihood's floor, which tables do not have
        assert bits == pytest.approx(float(out.y_bits + out.z_bits), rel=0.03)


@pytest.mark.parametrize("lap", [0, 1, 4, 9, 16])
@torch.no_grad()
def test_blocks_lap_by_any_number_of_pixels(lap, x):
    """A bank of the DCT alone, with which training begins, is zero where blocks lap."""
    torch.manual_seed(6)
    network = Network(replace(TINY, lap=lap)).eval()
    for bank in (network.g_a.bank, network.g_s.bank):
        bank.weight.add_(0.02 * torch.randn_like(bank.weight))
        bank.bias.normal_()
    network.g_s.filter[-1].weight.normal_(0, 0.1)
    family = Model(build(network, {}), "laps", CPU).family
    row = torch.tensor([3])
    y = family.g_a(x, 4.0)
    assert torch.allclose(y, network.analyse(x[None], row)[0], atol=2e-3, rtol=2e-3)
    assert torch.allclose(family.g_s(y, 4.0), network.synthesise(y[None], row)[0], atol=2e-3, rtol=2e-3)


def test_training_can_go_on_from_a_model_file(network, data, tmp_path):
    path = tmp_path / "tiny.safetensors"
    path.write_bytes(data)
    start = start_from(str(path))
    assert start.config == TINY
    again = Network(start.config)
    start.fill(again)
    for (name, a), b in zip(network.state_dict().items(), again.state_dict().values(), strict=True):
        if a.dtype.is_floating_point and "bottleneck._" not in name and name != "dead_zone":
            assert torch.allclose(a, b, atol=1e-4, rtol=1e-3), name
    parsed, other = model_file.parse(data), model_file.parse(build(again, {"test": True}))
    for name in ("h_s.0.weight", "second.1.weight", "context.weight"):  # what was rounded rounds to itself
        assert np.array_equal(parsed.tensors[name], other.tensors[name]), name


def test_training_goes_on_from_the_embedded_default():
    start = start_from("default")
    network = Network(start.config)
    start.fill(network)
    assert network.config.m == 320
    assert float(network.g_a.blocks[0].project.weight.abs().sum()) > 0


def test_converting_twice_gives_the_same_bytes(network, data):
    assert build(network, {"test": True}) == data


@pytest.mark.parametrize(
    ("what", "changes"),
    [
        ("no first layer", {"first.0.weight": None}),
        ("no blocks", {"g_s.blocks.0.depthwise.weight": None}),
        ("a block less on one side", {"g_a.blocks.1.expand.weight": None}),
        ("features that do not fit", {"h_s.1.shift": np.zeros(13, np.int32)}),
        ("no features", {"h_s.1.shift": np.zeros(0, np.int32)}),
        ("an odd kernel", {"g_s.bank.weight": np.zeros((20, 3, 23, 23), np.float32)}),
        ("a kernel too large", {"g_s.bank.weight": np.zeros((20, 3, 64, 64), np.float32)}),
        ("context that could leave 53 bits", {"context.bias": np.full(40, 1 << 60, np.int64)}),
        ("context of another size", {"context.weight": np.zeros((40, 1, 5, 5), np.int16)}),
        ("a shift out of range", {"second.1.shift": np.full(40, 41, np.int32)}),
    ],
)
def test_a_model_file_that_does_not_fit_is_refused(data, what, changes):
    parsed = model_file.parse(data)
    tensors = {k: v for k, v in {**parsed.tensors, **changes}.items() if v is not None}
    with pytest.raises(UnsupportedError):
        Model(model_file.build(tensors, parsed.metadata), what, CPU)


def test_thresholds_whose_differences_would_wrap_around_are_refused(data):
    parsed = model_file.parse(data)
    wrapping = np.full(255, -(2**31), np.int32)
    wrapping[0] = 2**31 - 1
    with pytest.raises(UnsupportedError, match="thresholds"):
        Model(model_file.build({**parsed.tensors, "thresholds": wrapping}, parsed.metadata), "x", CPU)


@pytest.mark.parametrize(
    "change",
    [
        {"luma": "a"},
        {"luma": 300},
        {"features": 12.0},
        {"hidden": 10**9},
        {"depth": -1},
        {"depth": 10**6},
        {"lambdas": []},
        {"lambdas": [float("nan")] * 7},
        {"rate_weight": 9},
        {"extra": 1},
        {"chroma": True},
    ],
)
def test_hostile_sizes_are_refused_before_a_network_is_built(data, tmp_path, change):
    parsed = model_file.parse(data)
    path = tmp_path / "x.safetensors"
    path.write_bytes(model_file.build(parsed.tensors, {**parsed.metadata, "network": {**TINY.to_json(), **change}}))
    with pytest.raises(UnsupportedError):
        start_from(str(path))


@pytest.mark.parametrize("weight", [-0.1, 2.5, 10**400, float("nan"), float("inf"), "0.5", True, None, [1]])
def test_a_rate_weight_that_is_none_is_refused(data, weight):
    parsed = model_file.parse(data)
    with pytest.raises(UnsupportedError, match="rate weight"):
        Model(model_file.build(parsed.tensors, {**parsed.metadata, "rate_weight": weight}), "x", CPU)


def test_a_model_that_cannot_be_trained_on_says_so(data, tmp_path):
    parsed = model_file.parse(data)
    cases = {
        "lacks": ({k: v for k, v in parsed.tensors.items() if not k.startswith("training.")}, parsed.metadata),
        "cannot be trained on": (parsed.tensors, {**parsed.metadata, "network": {**TINY.to_json(), "luma": 13}}),
        "how its network is built": (parsed.tensors, {**parsed.metadata, "network": None}),
    }
    for words, (tensors, metadata) in cases.items():
        path = tmp_path / "x.safetensors"
        path.write_bytes(model_file.build(tensors, metadata))
        with pytest.raises(UnsupportedError, match=words):
            started(str(path))


def started(name):
    start = start_from(name)
    start.fill(Network(start.config))


@torch.no_grad()
def test_the_first_weights_are_widened_without_changing_what_they_do(shared, x):
    """Before the first step, the new network does to the old channels what the first embedded model does."""
    start = start_from(str(shared / "weights" / "default.safetensors"))
    network = Network(start.config).eval()
    start.fill(network)
    from twcodec.models import catalogue

    old = Model(catalogue.read("default-1")[1], "old", CPU).family
    config = start.config
    kept = torch.cat(
        [torch.arange(176), config.luma + torch.arange(40), config.luma + config.chroma + torch.arange(40)]
    )
    rows = torch.tensor([3])
    y, y_old = network.analyse(x[None], rows)[0], old.g_a(x, 4.0)
    assert torch.allclose(y[kept], y_old, atol=0.02, rtol=0.01)
    alone = torch.zeros_like(y)
    alone[kept] = y_old
    assert torch.allclose(network.synthesise(alone[None], rows)[0], old.g_s(y_old, 4.0), atol=2e-3)


def test_widening_refuses_what_does_not_fit():
    with pytest.raises(UnsupportedError):
        widen(Network(TINY), {"a_blocks.0.up.weight": torch.zeros(7, 9, 1, 1)})
