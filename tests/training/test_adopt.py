import json

import pytest

from twcodec.errors import UsageError
from twcodec.models import catalogue
from twcodec.models import file as model_file
from twcodec.training.adopt import adopt
from twcodec.training.files import ENTRY, MODEL


@pytest.fixture
def run(tmp_path, tiny_model):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / MODEL).write_bytes(tiny_model)
    entry = {"file": MODEL, "digest": model_file.digest_of(tiny_model).hex(), "provenance": {"steps": 3}}
    (folder / ENTRY).write_text(json.dumps(entry))
    return folder


@pytest.fixture
def weights(tmp_path):
    folder = tmp_path / "weights"
    folder.mkdir()
    old = {"default": "old", "models": [{"name": "old", "file": "old.safetensors", "digest": "00" * 16, "about": ""}]}
    (folder / "catalogue.json").write_text(json.dumps(old))
    return folder


def test_the_model_and_its_entry_arrive_together_and_the_old_one_stays(run, weights, tiny_model):
    adopt(run, "new", "a test", weights)
    found = json.loads((weights / "catalogue.json").read_text())
    assert found["default"] == "new"
    assert [model["name"] for model in found["models"]] == ["new", "old"]
    new = found["models"][0]
    assert (weights / new["file"]).read_bytes() == tiny_model
    assert new["digest"] == model_file.digest_of(tiny_model).hex()
    assert new["provenance"] == {"steps": 3}


@pytest.mark.parametrize("name", ["old", "default"])
def test_a_name_that_files_may_depend_on_is_not_taken_again(run, weights, name):
    before = (weights / "catalogue.json").read_bytes()
    with pytest.raises(UsageError, match="already"):
        adopt(run, name, "", weights)
    assert (weights / "catalogue.json").read_bytes() == before


def test_a_model_that_is_not_the_entrys_is_refused(run, weights):
    (run / MODEL).write_bytes(b"something else")
    with pytest.raises(UsageError, match="is not the model"):
        adopt(run, "new", "", weights)
    assert len(list(weights.iterdir())) == 1


def test_what_ships_is_what_the_catalogue_says():
    names = [entry.name for entry in catalogue.EMBEDDED]
    assert len(set(names)) == len(names)
    assert catalogue.read("default")[0] == names[0]
    assert catalogue.DEFAULT not in names
