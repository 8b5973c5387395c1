"""`twc encode --effort`, on the command line."""

import json

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    import skimage.data

    path = tmp_path_factory.mktemp("effort") / "photo.png"
    Image.fromarray(np.ascontiguousarray(skimage.data.astronaut()[64:160, 64:160])).save(path)
    return path


def test_effort_lowers_the_loss_and_the_file_decodes_as_any_other(twc, photo, tmp_path):
    def loss(*options):
        done = twc("encode", "--json", "-f", "-q", "6", "--seed", "1", *options, photo, tmp_path / "a.twc")
        assert done.code == 0
        return json.loads(done.out)["loss"]

    assert loss("--effort", "3") < loss("--effort", "0") == loss()
    loss("--effort", "3")
    assert twc("verify", tmp_path / "a.twc").code == 0
    assert twc("decode", tmp_path / "a.twc", tmp_path / "a.png").code == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--effort", "10"), "0<=x<=9"),
        (("--effort", "2", "--metric", "ms-ssim"), "--metric mse only"),
        (("--effort", "2", "--model", "default-context"), "--effort needs a model whose context is parallel"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(twc, photo, tmp_path, options, message):
    done = twc("encode", *options, photo, tmp_path / "b.twc")
    assert done.code == 2
    assert message in done.err
    assert not (tmp_path / "b.twc").exists()
