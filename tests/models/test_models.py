import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from twcodec.errors import UnreadableError, UnsupportedError, UsageError
from twcodec.models import catalogue
from twcodec.models import file as model_file
from twcodec.models.model import Model

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data() -> bytes:
    return next(entry for entry in catalogue.EMBEDDED if entry.name == "default-1").read()


def changed(data: bytes, metadata=None, drop=(), **tensors) -> bytes:
    parsed = model_file.parse(data)
    kept = {k: v for k, v in parsed.tensors.items() if k not in drop}
    return model_file.build({**kept, **tensors}, {**parsed.metadata, **(metadata or {})})


def test_the_catalogue_names_each_embedded_file_by_its_digest():
    for entry in catalogue.EMBEDDED:
        assert model_file.digest_of(entry.read()) == entry.digest
        assert catalogue.name_of(entry.digest) == entry.name
        assert catalogue.read_by_digest(entry.digest) == (entry.name, entry.read())


def test_the_defaults_are_pinned():
    """Files made with them must decode for ever."""
    assert catalogue.name_of(bytes.fromhex("25bd498318f79b635915497c2da11131")) == "default-1"
    assert catalogue.name_of(bytes.fromhex("872638337d5df687252a7c9c95a61edd")) == "default-2"
    assert catalogue.name_of(bytes.fromhex("bf2f0dc68fe483c557a4122f9302fa7a")) == "default-3"


def test_the_second_default_is_the_first_with_other_tables(data):
    first, second = model_file.parse(data), model_file.parse(catalogue.read("default-2")[1])
    differing = [name for name in first.tensors if not np.array_equal(first.tensors[name], second.tensors[name])]
    assert set(first.tensors) == set(second.tensors)
    assert sorted(differing) == sorted(f"tables.{t}.{part}" for t in "yz" for part in ("weight", "length", "first"))
    assert second.metadata["provenance"]["before"] == first.digest.hex()


def test_the_embedded_default_is_made_from_the_shared_weights(shared, data, tmp_path):
    """The conversion is deterministic: run anew, in another process, it gives the file that ships."""
    out = tmp_path / "made.safetensors"
    source = shared / "weights" / "default.safetensors"
    subprocess.run([sys.executable, "-m", "twcodec.models.convert", source, out], check=True, capture_output=True)
    assert out.read_bytes() == data


def test_building_a_model_file_twice_gives_the_same_bytes(data):
    assert changed(data) == data


def test_trade_offs_interpolate_between_rows(data):
    model = Model(data, "default", CPU)
    assert model.qualities == (1.0, 7.0)
    assert [model.lambda_(q) for q in (1, 4, 7)] == pytest.approx([0.0018, 0.013, 0.0932])
    assert model.lambda_(1.5) == pytest.approx((0.0018 * 0.0035) ** 0.5)
    with pytest.raises(UsageError, match="1 to 7"):
        model.check_quality(8)


@pytest.mark.parametrize(
    "broken",
    [b"", b"junk", b"\xff" * 100, b"\x08" + bytes(7) + b"{}      ", (1 << 62).to_bytes(8, "little") + b"{}"],
)
def test_what_is_no_model_file_is_refused(broken):
    with pytest.raises(UnsupportedError, match="not a twc model file"):
        Model(broken, "x", CPU)


def test_truncated_and_foreign_model_files_are_refused(data):
    for cut in (4, 100, 5000, len(data) - 1):
        with pytest.raises(UnsupportedError):
            Model(data[:cut], "x", CPU)
    with pytest.raises(UnsupportedError, match="family"):
        Model(changed(data, {"family": "mystery"}), "x", CPU)
    with pytest.raises(UnsupportedError, match="family"):
        Model(changed(data, {"family": ["residual-dct"]}), "x", CPU)
    with pytest.raises(UnsupportedError, match="format"):
        Model(data.replace(b'\\"format\\": \\"1\\"', b'\\"format\\": \\"9\\"'), "x", CPU)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("missing", {"drop": ("h_s.1.weight",)}),
        ("shape", {"medians": np.zeros(95, np.int32)}),
        ("dtype", {"thresholds": np.zeros(255, np.float32)}),
        ("tables", {"tables.z.first": np.full(96, 5, np.int32)}),
        ("lambda", {"metadata": {"lambda": [1, 2]}}),
        ("lambda", {"metadata": {"lambda": "none"}}),
        ("infinite lambda", {"metadata": {"lambda": [float("inf")] * 7}}),
        ("huge lambda", {"metadata": {"lambda": [10**400] * 7}}),
        ("boolean lambda", {"metadata": {"lambda": [True] * 7}}),
        ("one row", {"gain.log": np.zeros((1, 256), np.float32), "metadata": {"lambda": [1.0]}}),
        ("no channels", {"medians": np.zeros(0, np.int32)}),
        ("gains", {"gain.log": np.zeros((6, 256), np.float32)}),
        ("thresholds", {"thresholds": np.zeros(255, np.int32)}),
        ("medians", {"medians": np.full(96, 1 << 20, np.int32)}),
        ("bound", {"h_s.0.bias": np.full(96, 1 << 60, np.int64)}),
        ("shift", {"h_s.0.shift": np.full(96, 63, np.int32)}),
    ],
)
def test_a_model_file_that_does_not_fit_its_family_is_refused(data, kind, changes):
    with pytest.raises(UnsupportedError):
        Model(changed(data, **changes), kind, CPU)


def test_a_model_that_is_no_regular_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.safetensors")
    for name in (str(tmp_path / "pipe.safetensors"), "/dev/zero"):
        with pytest.raises(UnreadableError, match="no regular file"):
            catalogue.read(name)


def test_weights_that_are_no_numbers_are_refused(data):
    parsed = model_file.parse(data)
    broken = parsed.tensors["g_s.bank.weight"].copy()
    broken[3, 1, 2, 2] = np.inf
    with pytest.raises(UnsupportedError, match=r"g_s.bank.weight holds what is no number"):
        Model(changed(data, **{"g_s.bank.weight": broken}), "x", CPU)


def test_reading_by_name_and_path(data, tmp_path):
    (tmp_path / "mine.safetensors").write_bytes(data)
    assert catalogue.read(str(tmp_path / "mine.safetensors")) == ("mine", data)
    with pytest.raises(UnsupportedError, match="there are: default"):
        catalogue.read("nosuch")
    with pytest.raises(UnreadableError):
        catalogue.read(str(tmp_path / "none.safetensors"))


def test_importing_compressai_leaves_out_what_no_codec_needs():
    code = (
        "import sys, json; from twcodec.models import _compressai as c; c.load('compressai.models.google'); "
        "heavy = ('torchvision', 'torch_geometric', 'pandas', 'matplotlib', 'compressai.datasets'); "
        "print(json.dumps([m for m in sys.modules if m.split('.')[0] in heavy or m.startswith('compressai.datasets')]))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(out) == []


def test_encoding_and_decoding_never_import_compressai_or_pickle_loading():
    code = (
        "import sys, twcodec, numpy as np; from PIL import Image; c = twcodec.open_codec(device='cpu'); "
        "c.decode(c.encode(Image.new('RGB', (20, 20)))); print([m for m in ('compressai', 'torchvision', 'scipy') if m in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
