"""`twc models`: what there is, what it says of itself, and how more comes to hand."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import pickle
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from models.test_download import DATA, SHA, Mirror, ranged, status, whole
from models.test_store import GOOD, HOSTILE, TENSOR, built, described

from twcodec.codec import codec
from twcodec.errors import UnsupportedError
from twcodec.models import catalogue, convert, official, store
from twcodec.models import file as model_file


@pytest.fixture(autouse=True)
def models(tmp_path, monkeypatch) -> Path:
    """The store's folder."""
    path = tmp_path / "models"
    monkeypatch.setenv("TWC_MODEL_DIR", str(path))
    monkeypatch.delenv("TWC_MODEL_URL", raising=False)
    return path


@pytest.fixture
def mirror(monkeypatch):
    """A server that answers DATA, which mbt2018-4 and mbt2018-mean-vbr then are."""
    server = Mirror()
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("TWC_MODEL_URL", server.base)
    ours = official.find("mbt2018", 4)
    vbr = official.find("mbt2018-mean-vbr", None)
    changed = {
        ours: dataclasses.replace(ours, file=f"mbt2018-4-{SHA}.pth.tar", sha256=SHA),
        vbr: dataclasses.replace(vbr, sha256=SHA),
    }
    monkeypatch.setattr(official, "CHECKPOINTS", tuple(changed.get(c, c) for c in official.CHECKPOINTS))
    yield server
    server.stop()


HEADER = built(described({**GOOD, "family": "moan-scale", "lambda": [0.013]}, a=TENSOR), bytes(24))
"""A sound header, of a family that there is not."""

MODEL = catalogue.read("default-1")[1]
DIGEST = model_file.digest_of(MODEL).hex()


@pytest.fixture
def conversions(monkeypatch) -> list[tuple]:
    """What was asked to be converted, by something that always makes MODEL of it."""
    asked = []

    def instead(path, architecture, *, quality, metric="mse", lmbda=None):
        asked.append((Path(path).read_bytes(), architecture, quality, metric, lmbda))
        return MODEL

    monkeypatch.setattr(convert, "convert_checkpoint", instead, raising=False)
    return asked


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    path = tmp_path / "mine.pth.tar"
    path.write_bytes(DATA)
    return path


@pytest.fixture
def embedded_file(tmp_path) -> Path:
    path = tmp_path / "own.safetensors"
    path.write_bytes(catalogue.read("default-1")[1])
    return path


# Typing


def test_the_help_pages_have_examples(twc):
    page = twc("models", "--help").out.decode()
    for name in ("list", "show", "import", "pull", "path"):
        assert f"  {name} " in page
        assert twc("models", name, "--help").out.decode().count(f"twc models {name}") >= 2
    assert "models" in twc("--help").out.decode()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["models", "lst"], ["lst", "list"]),
        (["models", "imprt", "a"], ["imprt", "import"]),
        (["models", "frobnicate"], ["frobnicate"]),
        (["model", "list"], ["model", "models"]),
        (["models", "pull"], ["ARCH"]),
        (["models", "pull", "mbt2019", "-q", "4"], ["mbt2019", "did you mean mbt2018?", "cheng2020-attn"]),
        (["models", "pull", "", "-q", "4"], ["unknown architecture"]),
        (["models", "pull", "mbt2018-vbr"], ["mbt2018-vbr", "did you mean mbt2018"]),
        (["models", "pull", "mbt2018"], ["mbt2018", "-q 1 to 8"]),
        (["models", "pull", "mbt2018", "-q", "9"], ["9", "8"]),
        (["models", "pull", "mbt2018", "-q", "4.5"], ["4.5"]),
        (["models", "pull", "cheng2020-attn", "-q", "7"], ["cheng2020-attn", "-q 1 to 6"]),
        (["models", "pull", "mbt2018-mean-vbr", "-q", "4"], ["mbt2018-mean-vbr", "all qualities", "leave -q out"]),
        (["models", "pull", "mbt2018-mean-vbr", "--metric", "ms-ssim"], ["no official ms-ssim model"]),
        (["models", "pull", "bmshj2018-factorized-relu", "-q", "1"], ["no official mse model"]),
        (["models", "pull", "mbt2018", "-q", "4", "--metric", "psnr"], ["psnr", "ms-ssim"]),
        (["models", "path", "-q", "4"], ["-q needs"]),
        (["models", "path", ""], ["empty"]),
        (["models", "path", "mbt2018"], ["mbt2018", "-q 1 to 8"]),
        (["models", "show", ""], ["empty"]),
        (["models", "show", "mbt2018"], ["mbt2018", "-q 1 to 8"]),
        (["models", "import", ""], ["empty"]),
        (["models", "import", "-"], ["not from a pipe"]),
        (["models", "import", "-", "--arch", "mbt2018", "-q", "4"], ["not from a pipe"]),
    ],
)
def test_what_cannot_be_meant_is_named_and_mended_where_it_can_be(twc, args, words):
    twc(*args).misused(*words)


def test_no_subcommand_shows_the_help(twc):
    done = twc("models")
    assert done.code == 2
    assert "Commands:" in done.err


IMPORTS = [
    (["mine.pth.tar"], ["--arch", "mbt2018"]),
    (["mine.pth.tar", "--arch", "mtb2018", "-q", "4"], ["mtb2018", "did you mean mbt2018?"]),
    (["mine.pth.tar", "--arch", "mbt2018"], ["-q or --lambda"]),
    (["mine.pth.tar", "--arch", "mbt2018", "--lambda", "0.1"], ["--name"]),
    (["mine.pth.tar", "--arch", "mbt2018-mean-vbr", "-q", "4"], ["leave -q and --lambda out"]),
    (["mine.pth.tar", "--arch", "mbt2018-mean-vbr", "--lambda", "1"], ["leave -q and --lambda out"]),
    (["mine.pth.tar", "--arch", "mbt2018", "-q", "4", "--metric", "ms-ssim", "--lambda", "16"], ["--lambda", "MSE"]),
    (["mine.pth.tar", "--arch", "mbt2018", "-q", "4", "--name", "a/b"], ["a/b", "no name"]),
    (["mine.pth.tar", "--arch", "mbt2018", "-q", "4", "--name", "default"], ["default", "embedded"]),
    (["mine.pth.tar", "--arch", "mbt2018", "-q", "4", "--name", "a", "-o", "b"], ["--name", "-o"]),
    (["mine.pth.tar", "--arch", "MBT2018", "-q", "4"], ["did you mean mbt2018?"]),
    *(
        (["mine.pth.tar", "--arch", "mbt2018", "-q", "4", "--name", name], [name, "a name that twc keeps"])
        for name in ("mbt2018", "mbt2018-5", "cheng2020-attn-4", "mbt2018-4-ms-ssim", "mbt2018-mean-vbr")
    ),
    (["mine.pth.tar", "--arch", "mbt2018", "--lambda", "1", "--name", "mbt2018-4"], ["a name that twc keeps"]),
    (["own.safetensors", "--name", "mbt2018-4"], ["a name that twc keeps"]),
    (["own.safetensors", "--arch", "mbt2018", "-q", "4"], ["leave --arch out"]),
    (["own.safetensors", "-q", "4"], ["leave -q"]),
    (["own.safetensors", "--metric", "mse"], ["leave -q"]),
    (["own.safetensors", "--lambda", "1"], ["leave -q"]),
    (["own.safetensors", "--name", "a b"], ["no name"]),
    *(
        (["mine.pth.tar", "--arch", "mbt2018", "--name", "a", "--lambda", value], ["--lambda", "trade-off"])
        for value in ("nan", "inf", "0", "-1", "1e6")
    ),
]


@pytest.mark.parametrize(("args", "words"), IMPORTS)
def test_options_that_do_not_fit_are_refused_before_any_work(
    twc, tmp_path, models, conversions, checkpoint, embedded_file, monkeypatch, args, words
):
    monkeypatch.chdir(tmp_path)
    twc("models", "import", *args).refused(2, *words)
    assert conversions == []
    assert not models.exists()


def test_neither_listing_nor_mistakes_import_anything_heavy(embedded_file, tmp_path):
    junk = tmp_path / "junk.safetensors"
    junk.write_bytes(b"junk")
    code = (
        "import sys; from twcodec.cli.main import _code_of\n"
        "assert _code_of(sys.argv[1:]) in (0, 2, 5)\n"
        "print({'numpy', 'torch', 'safetensors', 'compressai', 'rich', 'PIL'} & set(sys.modules))"
    )
    for args in (
        ["list", "--json"],
        ["show", "default"],
        ["show", str(embedded_file)],
        ["path", "mbt2018", "-q", "4"],
        ["pull", "mbt2019"],
        ["import", str(embedded_file), "--arch", "mbt2018"],
        ["import", str(junk)],
    ):
        done = subprocess.run([sys.executable, "-c", code, "models", *args], check=True, capture_output=True, text=True)
        assert done.stdout.splitlines()[-1] == "set()", args


# list, path


def test_the_list_of_a_new_user(twc, models):
    done = twc("models", "list")
    assert (done.code, done.err) == (0, "")
    page = done.out.decode()
    for entry in catalogue.EMBEDDED:
        assert re.search(rf"{entry.name} +{entry.digest.hex()}", page)
    assert page.count("(the default)") == 1
    for architecture in {checkpoint.architecture for checkpoint in official.CHECKPOINTS}:
        assert architecture in page
    assert str(models) in page
    assert "none" in page
    assert "at hand" not in page


def test_the_list_shows_what_is_stored(twc):
    stored = [store.add(MODEL, name) for name in ("mbt2018-4", "mine")]
    page = twc("models", "list").out.decode()
    for model in stored:
        assert f"{model.name} " in page
        assert DIGEST in page
    assert "at hand: mbt2018-4\n" in page
    assert "none" not in page


def test_the_list_for_machines(twc, models):
    stored = store.add(MODEL, "mbt2018-4")
    found = json.loads(twc("models", "list", "--json").out)
    assert found["folder"] == str(models)
    assert found["stored"] == [{"name": "mbt2018-4", "digest": DIGEST, "bytes": len(MODEL), "path": str(stored.path)}]
    assert [e["name"] for e in found["embedded"] if e["default"]] == [catalogue.read("default")[0]]
    for entry, listed in zip(catalogue.EMBEDDED, found["embedded"], strict=True):
        assert (listed["name"], listed["digest"]) == (entry.name, entry.digest.hex())
        assert listed["bytes"] == len(entry.read())
    there = {(e["architecture"], e["metric"]): e for e in found["official"]}
    assert there["mbt2018", "mse"]["qualities"] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert there["mbt2018", "mse"]["at_hand"] == ["mbt2018-4"]
    assert there["mbt2018", "ms-ssim"]["at_hand"] == []
    assert there["cheng2020-attn", "ms-ssim"]["qualities"] == [1, 2, 3, 4, 5, 6]
    assert there["mbt2018-mean-vbr", "mse"]["qualities"] == []
    assert sum(len(e["qualities"]) or 1 for e in found["official"]) == 90


def test_paths(twc, models):
    stored = store.add(MODEL, "mbt2018-4")
    assert twc("models", "path").out.decode() == f"{models}\n"
    assert twc("models", "path", "mbt2018", "-q", 4).out.decode() == f"{stored.path}\n"
    assert twc("models", "path", "mbt2018-4").out.decode() == f"{stored.path}\n"
    assert twc("models", "path", f"mbt2018-4@{DIGEST[:4]}").out.decode() == f"{stored.path}\n"
    for name in catalogue.names():
        path = Path(twc("models", "path", name).out.decode().removesuffix("\n"))
        assert path.read_bytes() == catalogue.read(name)[1]


def test_a_model_that_is_not_at_hand(twc):
    for command in ("path", "show"):
        twc("models", command, "mbt2018", "-q", 4).refused(5, "mbt2018-4", "twc models pull mbt2018 -q 4")
        twc("models", command, "mbt2018-4-ms-ssim").refused(5, "twc models pull mbt2018 -q 4 --metric ms-ssim")
        twc("models", command, "mbt2018-mean-vbr").refused(5, "twc models pull mbt2018-mean-vbr")
        twc("models", command, "defualt").refused(5, "defualt", "did you mean default?", "twc models list")
        twc("models", command, "\x1b[31m").refused(5, "\\x1b")
        twc("models", command, "cheng2020-attn", "-q", 7).refused(5, "no such official", "--arch cheng2020-attn -q 7")
        twc("models", command, "bmshj2018-factorized-relu").refused(5, "twc models import FILE", "-relu -q N")
    store.add(MODEL, "night")
    twc("models", "show", "nihgt").refused(5, "did you mean night?")
    twc("models", "show", "NIGHT").refused(5, "did you mean night?")


# show


def test_what_an_embedded_model_says(twc):
    for name in catalogue.names():
        called, data = catalogue.read(name)
        parsed = model_file.parse(data)
        found = json.loads(twc("models", "show", name, "--json").out)
        assert (found["name"], found["kind"], found["digest"]) == (called, "embedded", parsed.digest.hex())
        assert (found["family"], found["lambda"]) == (parsed.metadata["family"], parsed.metadata["lambda"])
        assert (found["qualities"], found["bytes"]) == (7, len(data))
        assert found["provenance"] == parsed.metadata["provenance"]
        assert found["parameters"] == sum(tensor.size for tensor in parsed.tensors.values())
    page = twc("models", "show", "default").out.decode()
    for words in (catalogue.read("default")[0], "1 to 7, continuous", "0.0018, 0.0035", "the package", "steps 17148"):
        assert words in page


def test_what_a_stored_model_says(twc):
    stored = store.add(HEADER, "mbt2018-4")
    digest = stored.digest.hex()
    store.add(HEADER, "mbt2018-mean-vbr")
    store.add(HEADER, "night")
    for name in ("mbt2018-mean-vbr", "night"):
        assert json.loads(twc("models", "show", name, "-q", 4, "--json").out)["name"] == name
    for args in (["mbt2018", "-q", 4], ["mbt2018-4"], [f"mbt2018-4@{digest}"]):
        found = json.loads(twc("models", "show", *args, "--json").out)
        assert (found["name"], found["kind"], found["digest"]) == ("mbt2018-4", "stored", digest)
        assert (found["family"], found["lambda"], found["path"]) == ("moan-scale", [0.013], str(stored.path))
    page = twc("models", "show", "mbt2018-4").out.decode()
    assert str(stored.path) in page
    assert "qualities   one" in page


def test_what_a_file_says(twc, embedded_file):
    found = json.loads(twc("models", "show", embedded_file, "--json").out)
    assert (found["name"], found["kind"], found["path"]) == ("own", "file", str(embedded_file))
    assert found["digest"] == "25bd498318f79b635915497c2da11131"


def test_a_damaged_model_is_refused(twc, embedded_file):
    stored = store.add(MODEL, "mbt2018-4")
    stored.path.write_bytes(MODEL[:-1])
    twc("models", "show", "mbt2018-4").refused(5, str(stored.path), "damaged", "twc models pull mbt2018 -q 4")
    embedded_file.write_bytes(embedded_file.read_bytes()[:-1])
    twc("models", "show", embedded_file).refused(5, str(embedded_file), "damaged")


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_file_is_refused_in_one_line(twc, tmp_path, what):
    path = tmp_path / "a.safetensors"
    path.write_bytes(HOSTILE[what])
    twc("models", "show", path).refused(5, str(path))
    twc("models", "import", path).refused(5, str(path))


STRANGE = [
    {**GOOD, "family": "\x1b[31mred\ud800\n"},
    {**GOOD, "provenance": {"\x1b": "\x1b[2J\r\u202e", "\ud800": ["\n" * 5]}},
    {**GOOD, "provenance": "\n\n\x07"},
    {**GOOD, "provenance": None},
    {k: v for k, v in GOOD.items() if k != "provenance"},
    {**GOOD, "lambda": [1] * 100_000},
    {**GOOD, "a\n" * 1000: {"b": {"c": "d" * 100_000}}},
    {**GOOD, "family": ""},
    {**GOOD, "family": "-"},
]


@pytest.mark.parametrize("number", range(len(STRANGE)))
def test_a_strange_file_cannot_play_tricks_on_a_terminal(twc, tmp_path, number):
    path = tmp_path / "a.safetensors"
    path.write_bytes(built(described(STRANGE[number], a=TENSOR), bytes(24)))
    done = twc("models", "show", path)
    assert (done.code, done.err) == (0, "")
    assert done.out.decode().replace("\n", "").isprintable()
    assert len(done.out) < 5000
    assert done.out.count(b"\n") <= 9
    found = json.loads(twc("models", "show", path, "--json").out)
    assert found["family"] == STRANGE[number]["family"]


def test_a_deeply_nested_file_is_no_crash(twc, tmp_path):
    """Writing takes a little more depth than reading, so that some files can be read and not shown."""
    path = tmp_path / "a.safetensors"

    def shown(depth, *options):
        text = json.dumps(GOOD)[:-1] + ', "a": ' + "[" * depth + "]" * depth + "}"
        path.write_bytes(built(described(text, a=TENSOR), bytes(24)))
        return twc("models", "show", path, *options).code

    low, high = 1, 200_000
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if shown(middle) == 0 else (low, middle)
    codes = {shown(depth, *options) for depth in range(low - 8, low + 8) for options in ([], ["--json"])}
    assert codes == {0, 5}


def test_what_cannot_be_read_is_not_waited_for(twc, tmp_path, photo):
    os.mkfifo(tmp_path / "pipe")
    for command in ("show", "import"):
        twc("models", command, tmp_path / "pipe").refused(3, "pipe", "no regular file")
        twc("models", command, "/dev/zero").refused(3, "/dev/zero", "no regular file")
        twc("models", command, tmp_path).refused(3, str(tmp_path), "directory")
        twc("models", command, tmp_path / "no.safetensors").refused(3, "no.safetensors", "No such file")
    twc("models", "show", photo).refused(5, "photo.png", "not a twc model file")
    twc("models", "show", "m" * 5000).refused(5)


def test_a_file_over_the_limit(twc, tmp_path):
    path = tmp_path / "large.safetensors"
    path.touch()
    os.truncate(path, (1 << 30) + 1)
    for command in ("show", "import"):
        twc("models", command, path).refused(6, "large.safetensors", "1024 MiB")


# import


def test_a_checkpoint_is_converted_and_stored(twc, conversions, checkpoint):
    done = twc("models", "import", checkpoint, "--arch", "mbt2018", "-q", 4)
    assert done.code == 0
    assert done.out.decode() == f"mbt2018-4: digest {DIGEST}; use it with: twc encode --model mbt2018 -q 4\n"
    assert "converting" in done.err
    assert conversions == [(DATA, "mbt2018", 4, "mse", None)]
    assert store.read(store.find("mbt2018-4")) == MODEL
    assert checkpoint.exists()


@pytest.mark.parametrize(
    ("args", "asked", "name"),
    [
        (["--arch", "mbt2018", "-q", 4, "--metric", "ms-ssim"], ("mbt2018", 4, "ms-ssim", None), "mbt2018-4-ms-ssim"),
        (["--arch", "mbt2018", "-q", 4, "--lambda", 0.5], ("mbt2018", 4, "mse", 0.5), "mbt2018-4"),
        (["--arch", "mbt2018", "--lambda", 0.5, "--name", "x"], ("mbt2018", None, "mse", 0.5), "x"),
        (["--arch", "mbt2018-mean-vbr"], ("mbt2018-mean-vbr", None, "mse", None), "mbt2018-mean-vbr"),
        (
            ["--arch", "bmshj2018-factorized-relu", "-q", 8, "--name", "night"],
            ("bmshj2018-factorized-relu", 8, "mse", None),
            "night",
        ),
    ],
)
def test_what_a_checkpoint_was_trained_for_is_handed_on(twc, conversions, checkpoint, args, asked, name):
    found = json.loads(twc("models", "import", checkpoint, *args, "--json", "--quiet").out)
    assert conversions == [(DATA, *asked)]
    assert found == {
        "name": name,
        "digest": DIGEST,
        "bytes": len(MODEL),
        "path": str(store.find(name).path),
        "use": official.option_for(name),
    }


def test_quiet_says_nothing(twc, conversions, checkpoint):
    done = twc("models", "import", checkpoint, "--arch", "mbt2018", "-q", 4, "--quiet")
    assert (done.code, done.out, done.err) == (0, b"", "")


def test_a_checkpoint_that_is_none_is_named(twc, models, checkpoint, monkeypatch):
    def refuse(*_, **__):
        raise UnsupportedError("not a checkpoint")

    monkeypatch.setattr(convert, "convert_checkpoint", refuse, raising=False)
    twc("models", "import", checkpoint, "--arch", "mbt2018", "-q", 4, "--quiet").refused(5, "mine.pth.tar: not a check")
    assert not models.exists()


def test_a_model_file_is_checked_and_stored_as_it_is(twc, embedded_file, models):
    done = twc("models", "import", embedded_file)
    assert (done.code, done.err) == (0, "")
    assert done.out.decode().endswith("use it with: twc encode --model own\n")
    assert store.read(store.find("own")) == embedded_file.read_bytes()
    assert twc("models", "import", embedded_file, "--name", "night").code == 0
    assert store.find("night").digest == store.find("own").digest


def test_a_file_copied_from_a_store_keeps_its_name(twc, embedded_file, tmp_path):
    copied = tmp_path / f"night-1-{'0a' * 16}.safetensors"
    embedded_file.rename(copied)
    assert json.loads(twc("models", "import", copied, "--json").out)["name"] == "night-1"


def test_a_model_file_may_have_the_name_of_what_it_is(twc, tmp_path):
    """Up to the loading, which this one does not survive."""
    for more, name in (
        ({"quality": 4}, "mbt2018-4"),
        ({"quality": 4, "provenance": {"metric": "ms-ssim"}}, "mbt2018-4-ms-ssim"),
        ({"family": "mbt2018-mean-vbr"}, "mbt2018-mean-vbr"),
    ):
        path = tmp_path / f"{name}-{DIGEST}.safetensors"
        path.write_bytes(built(described({**GOOD, "family": "mbt2018", **more}, a=TENSOR), bytes(24)))
        twc("models", "import", path).refused(5, "the model file has no")
        twc("models", "import", path, "--name", "mbt2018-3").refused(2, "a name that twc keeps")


def test_a_checkpoint_with_the_suffix_of_a_model_file(twc, tmp_path, conversions, checkpoint):
    """Neither is one told to leave --arch out nor to add it."""
    renamed = tmp_path / "mine.safetensors"
    checkpoint.rename(renamed)
    twc("models", "import", renamed).refused(5, "not a twc model file")
    assert twc("models", "import", renamed, "--arch", "mbt2018", "-q", 4).code == 0


def test_a_sound_header_is_not_enough(twc, tmp_path, models):
    """The family must take it: here there is none of that name."""
    path = tmp_path / "a.safetensors"
    path.write_bytes(HEADER)
    twc("models", "import", path).refused(5, "a.safetensors", "moan-scale")
    assert not models.exists()


def test_a_converted_model_that_does_not_load_is_not_stored(twc, mirror, checkpoint, models, monkeypatch):
    monkeypatch.setattr(convert, "convert_checkpoint", lambda *_, **__: HEADER)
    twc("models", "import", checkpoint, "--arch", "mbt2018", "-q", 4, "--quiet").refused(5, "mine.pth.tar", "moan")
    twc("models", "import", checkpoint, "--arch", "mbt2018", "-q", 4, "--quiet", "-o", "-").refused(5, "moan-scale")
    assert not models.exists()
    twc("models", "pull", "mbt2018", "-q", 4, "--quiet").refused(5, f"mbt2018-4-{SHA}.pth.tar", "moan-scale")
    assert store.entries() == []


def test_importing_to_a_file(twc, conversions, checkpoint, tmp_path, models):
    out = tmp_path / "out.safetensors"
    command = ["models", "import", checkpoint, "--arch", "mbt2018", "-q", 4, "-o"]
    done = twc(*command, out)
    assert (done.code, out.read_bytes()) == (0, MODEL)
    assert f"twc encode --model {out}\n" in done.out.decode()
    assert not models.exists()
    out.write_bytes(b"precious")
    twc(*command, out).refused(7, "out.safetensors", "exists already", "-f")
    assert len(conversions) == 1, "refused before the work"
    assert out.read_bytes() == b"precious"
    assert twc(*command, out, "-f").code == 0
    assert out.read_bytes() == MODEL
    twc(*command, tmp_path / "none" / "a").refused(7, "does not exist")
    twc(*command, checkpoint, "-f").refused(7, "the input itself")
    assert checkpoint.read_bytes() == DATA


def test_importing_to_a_pipe(twc, conversions, checkpoint, embedded_file):
    done = twc("models", "import", checkpoint, "--arch", "mbt2018", "-q", 4, "-o", "-", "--quiet", "--json")
    assert done.out == MODEL
    assert json.loads(done.err)["digest"] == DIGEST
    done = twc("models", "import", embedded_file, "-o", "-")
    assert done.out == embedded_file.read_bytes()


def test_a_store_that_cannot_be_written(twc, conversions, checkpoint, models):
    models.write_bytes(b"")
    twc("models", "import", checkpoint, "--arch", "mbt2018", "-q", 4, "--quiet").refused(7, str(models), "is no folder")
    done = twc("models", "list")
    assert done.code == 0
    assert "cannot be read: Not a directory" in done.out.decode()


# import, encode, decode: nothing replaced


@pytest.fixture(scope="module")
def weights() -> dict:
    """Those of a small mbt2018, in float32."""
    import torch

    state = torch.load(Path(__file__).parents[1] / "models" / "checkpoints" / "mbt2018.pth.tar", weights_only=True)
    return {name: value.float() for name, value in state.get("state_dict", state).items()}


@pytest.fixture
def imported(twc, tmp_path):
    """Import as mbt2018 -q 4 what torch saves; returns the result."""
    import torch

    def run(saved, *args):
        path = tmp_path / "a.pth.tar"
        torch.save(saved, path)
        return twc("models", "import", path, *(args or ("--arch", "mbt2018", "-q", 4)), "--quiet", "--json")

    return run


def test_a_checkpoint_becomes_a_model_that_codes(twc, imported, weights, photo, tmp_path, monkeypatch):
    monkeypatch.setattr(codec, "open_codec", codec.open_codec.__wrapped__)  # else the store would be looked at once
    assert imported({"state_dict": weights, "epoch": 3}).code == 0
    coded, out = tmp_path / "a.twc", tmp_path / "a.png"
    assert twc("encode", "--model", "mbt2018", "-q", 4, photo, coded).code == 0
    again = tmp_path / "b.twc"
    assert twc("encode", "--model", "mbt2018", photo, again, "--seed", 1).code == 0, "4 is the quality if none is given"
    twc("encode", "--model", "mbt2018-4", "-q", 5, photo, again, "-f").refused(2, "quality 5", "has 4 only")
    for quality in (4.5, 0, 9, -1, "nan", "inf", "1e300"):
        twc("encode", "--model", "mbt2018", "-q", quality, photo, again, "-f").refused(2, "whole qualities only")
    for name, quality, words in (
        ("mbt2018", 5, "twc models pull mbt2018 -q 5"),
        ("mbt2018-5", 5, "twc models pull mbt2018 -q 5"),
        ("cheng2020-attn", 7, "twc models import FILE --arch cheng2020-attn -q 7"),
        (tmp_path / "a.pth.tar", 4, "a.pth.tar --arch"),
    ):
        twc("encode", "--model", name, "-q", quality, photo, again, "-f").refused(5, words)
    for command in (["decode", coded, out], ["verify", coded], ["decode", coded, out, "-f", "--model", "mbt2018"]):
        assert twc(*command).code == 0
    assert "mbt2018-4 (digest" in twc("info", coded).out.decode()
    stored = store.find("mbt2018-4")
    elsewhere = stored.path.rename(tmp_path / "elsewhere.safetensors")
    for name in ("default", "mbt2018", "cheng2020-attn"):  # it says which one is needed, not which one -q 4 would be
        twc("verify", coded, "--model", name).refused(5, "a.twc", stored.digest.hex())
    assert "not in this twc" in twc("info", coded).out.decode()
    assert twc("verify", coded, "--model", elsewhere).code == 0
    stored.path.write_bytes(elsewhere.read_bytes()[:-1])
    twc("verify", coded).refused(5, "damaged", "twc models pull mbt2018 -q 4")


def test_how_a_checkpoint_was_saved_does_not_matter(imported, weights):
    """Old key names and DataParallel's are the same model; rounded weights are another one, and work."""
    import torch

    digests = [
        json.loads(imported(saved).out)["digest"]
        for saved in (
            weights,
            {"state_dict": weights},
            {f"module.{name}": value for name, value in weights.items()},
            {name.replace(".matrices.", "._matrix"): value.double() for name, value in weights.items()},
            {name: torch.nn.Parameter(value, requires_grad=False) for name, value in weights.items()},
            {name: value.bfloat16() for name, value in weights.items()},
        )
    ]
    assert len(set(digests[:-1])) == 1
    assert digests[-1] != digests[0]


class Code:
    """What a pickle would run."""

    def __reduce__(self):
        return os.mkdir, ("ran",)


def test_what_is_no_checkpoint_of_this_architecture_is_refused(imported, weights, tmp_path, monkeypatch, models):
    monkeypatch.chdir(tmp_path)
    name = "h_s.0.weight"
    for saved, words in (
        ({"state_dict": Code()}, "nothing in it was run"),
        ({"state_dict": weights, "more": Code()}, "nothing in it was run"),
        ({}, "no state_dict"),
        ([1, 2], "no state_dict"),
        ({"state_dict": {"a": 1}}, "more than tensors"),
        ({**weights, name: weights[name] * float("nan")}, f"{name} holds what is no number"),
        ({**weights, name: weights[name][:, 1:]}, f"its {name} is"),
        ({n: v for n, v in weights.items() if n != name}, f"it has no {name}"),
        ({**weights, "more\x1b\n": weights[name]}, "it also has more\\x1b\\n"),
        ({**weights, "module.h_s.0.weight": weights[name]}, f"two of its tensors are {name}"),
        ({**weights, name: weights[name].to("meta")}, "more than tensors"),
        ({**weights, name: weights[name].to_sparse()}, "more than tensors"),
        ({**weights, name: weights[name].cfloat()}, "more than tensors"),
        ({**weights, "h_s.0.bias": weights["h_s.0.bias"] + 1e9}, "53 bits"),
    ):
        imported(saved).refused(5, "a.pth.tar", words)
    for architecture in set(official.ARCHITECTURES) - {"mbt2018"}:
        quality = [] if official.is_variable(architecture) else ["-q", 4]
        imported(weights, "--arch", architecture, *quality).refused(5, f"no checkpoint of {architecture}: ")
    assert not Path("ran").exists()
    assert not models.exists()


def test_a_tensor_that_repeats_one_number_for_ever_is_refused(imported, weights):
    import torch

    huge = torch.zeros(1).expand(1 << 20, 1 << 10, 5, 5)
    imported({**weights, "g_a.0.weight": huge}).refused(6, "a.pth.tar", "1024 MiB")


def test_a_file_that_torch_did_not_save_is_refused(twc, tmp_path, weights):
    import torch

    path = tmp_path / "a.pth.tar"
    torch.save(weights, path)
    whole = path.read_bytes()
    for data in (b"", b"hello", whole[: len(whole) // 2], whole[:-1], whole[100:], pickle.dumps(Code())):
        path.write_bytes(data)
        twc("models", "import", path, "--arch", "mbt2018", "-q", 4, "--quiet").refused(5, "a.pth.tar: no checkpoint")


# pull


def test_an_official_model_is_fetched_converted_and_stored(twc, mirror, conversions, models):
    done = twc("models", "pull", "mbt2018", "-q", 4)
    assert done.code == 0
    assert done.out.decode() == f"mbt2018-4: digest {DIGEST}; use it with: twc encode --model mbt2018 -q 4\n"
    assert f"downloading {mirror.base}/mbt2018-4-{SHA}.pth.tar" in done.err
    assert "converting" in done.err
    assert conversions == [(DATA, "mbt2018", 4, "mse", None)]
    assert [path.name for path in models.iterdir()] == [f"mbt2018-4-{DIGEST}.safetensors"]


def test_a_model_of_all_qualities(twc, mirror, conversions):
    done = twc("models", "pull", "mbt2018-mean-vbr", "--json", "--quiet")
    assert (json.loads(done.out)["name"], done.err) == ("mbt2018-mean-vbr", "")
    assert conversions == [(DATA, "mbt2018-mean-vbr", None, "mse", None)]


def test_what_is_at_hand_is_not_fetched_again(twc, mirror, conversions):
    assert twc("models", "pull", "mbt2018", "-q", 4).code == 0
    done = twc("models", "pull", "mbt2018", "-q", 4, "--json")
    assert "at hand already" in done.err
    assert json.loads(done.out)["digest"] == DIGEST
    assert (len(mirror.requests), len(conversions)) == (1, 1)
    done = twc("models", "pull", "mbt2018", "-q", 4, "--quiet")
    assert (done.code, done.out, done.err) == (0, b"", "")
    assert twc("models", "pull", "mbt2018", "-q", 4, "--force").code == 0
    assert (len(mirror.requests), len(conversions)) == (2, 2)


def test_what_is_at_hand_but_damaged_is_fetched_again(twc, mirror, conversions):
    assert twc("models", "pull", "mbt2018", "-q", 4).code == 0
    stored = store.find("mbt2018-4")
    stored.path.write_bytes(MODEL[:-1])
    done = twc("models", "pull", "mbt2018", "-q", 4)
    assert "damaged" in done.err
    assert store.read(stored) == MODEL


def test_a_conversion_that_fails_keeps_the_checkpoint_for_the_next_time(twc, mirror, models, monkeypatch, conversions):
    works = convert.convert_checkpoint

    def fail(*_, **__):
        raise UnsupportedError("not now")

    monkeypatch.setattr(convert, "convert_checkpoint", fail)
    twc("models", "pull", "mbt2018", "-q", 4, "--quiet").refused(5, "not now")
    monkeypatch.setattr(convert, "convert_checkpoint", works)
    assert twc("models", "pull", "mbt2018", "-q", 4).code == 0
    assert len(mirror.requests) == 1
    assert len(list(models.iterdir())) == 1


def test_without_network_one_line_says_what_to_do(twc, monkeypatch, models):
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        base = f"http://127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("TWC_MODEL_URL", base)
        done = twc("models", "pull", "mbt2018", "-q", 4, "--metric", "ms-ssim", "--quiet")
    by_hand = "twc models import FILE --arch mbt2018 -q 4 --metric ms-ssim"
    done.refused(8, f"{base}/mbt2018-ms-ssim-4-a120e037.pth.tar", "refused", by_hand)
    assert list(models.iterdir()) == []


def test_bad_days_of_a_server(twc, mirror, conversions, models):
    mirror.answers = [status(404)]
    twc("models", "pull", "mbt2018", "-q", 4, "--quiet").refused(8, "404 Not Found")
    mirror.answers = [whole(bytes(1000))]
    wrong = hashlib.sha256(bytes(1000)).hexdigest()[:8]
    twc("models", "pull", "mbt2018", "-q", 4, "--quiet").refused(5, SHA, wrong)
    mirror.answers = [ranged(DATA, cut=1000), status(503)]
    twc("models", "pull", "mbt2018", "-q", 4, "--quiet").refused(8, "503")
    assert twc("models", "pull", "mbt2018", "-q", 4, "--quiet").code == 0
    assert mirror.ranges[-1] == "bytes=1000-"
    assert len(conversions) == len(list(models.iterdir())) == 1


def test_the_address_of_a_mirror_is_http(twc, monkeypatch):
    monkeypatch.setenv("TWC_MODEL_URL", "file:///models")
    twc("models", "pull", "mbt2018", "-q", 4, "--quiet").refused(8, "file:///models", "only http")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("quiet", [False, True])
def test_progress_is_for_a_terminal(mirror, conversions, monkeypatch, quiet):
    from twcodec.cli.models.pull import _progress
    from twcodec.models.download import fetch

    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    checkpoint = official.find("mbt2018", 4)
    with _progress(checkpoint, quiet) as progress:
        assert (progress is None) == quiet
        fetch(checkpoint, progress)
    shown = sys.stderr.getvalue()
    assert ("mbt2018-4" in shown and "300.0" in shown) != quiet
    assert (shown == "") == quiet


def test_an_interrupted_pull_is_130_and_goes_on_later(twc, mirror, conversions, models, monkeypatch):
    from twcodec.models import download

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(download._Part, "publish", interrupted)
        twc("models", "pull", "mbt2018", "-q", 4, "--quiet").refused(130, "interrupted")
    assert (models / f"mbt2018-4-{SHA}.pth.tar.part").read_bytes() == DATA
    assert twc("models", "pull", "mbt2018", "-q", 4, "--quiet").code == 0
    assert len(mirror.requests) == 1
