"""The folder of models at hand, the headers of model files, and the table of official checkpoints."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import random
import resource
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from twcodec.errors import LimitError, OutputError, UnreadableError, UnsupportedError, UsageError
from twcodec.models import catalogue, official, store
from twcodec.models import file as model_file

A, B = b"model a" * 1000, b"model b" * 1000


@pytest.fixture(autouse=True)
def models(tmp_path, monkeypatch) -> Path:
    path = tmp_path / "models"
    monkeypatch.setenv("TWC_MODEL_DIR", str(path))
    return path


def aged(stored: store.Stored, seconds: int) -> store.Stored:
    """As if it had been stored so long ago."""
    now = stored.path.stat().st_mtime
    os.utime(stored.path, (now, now - seconds))
    return stored


def test_the_folder_is_the_users_own_unless_named(models, monkeypatch, tmp_path):
    assert store.folder() == models
    monkeypatch.setenv("TWC_MODEL_DIR", "")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert store.folder() == tmp_path / "data" / "twc" / "models"
    assert store.add(A, "a").path.parent == tmp_path / "data" / "twc" / "models"


def test_an_empty_store(models):
    assert (store.entries(), store.find("a"), store.copies(bytes(16))) == ([], None, [])
    assert not models.exists(), "looking makes no folder"


def test_what_is_added_is_found_by_name_and_by_digest(models):
    stored = store.add(A, "mine.v2_x-4")
    assert stored.digest == model_file.digest_of(A)
    assert stored.path == models / f"mine.v2_x-4-{stored.digest.hex()}.safetensors"
    assert stored.path.read_bytes() == A
    assert store.entries() == [stored]
    assert [store.find("mine.v2_x-4")] == store.copies(stored.digest) == [stored]
    assert store.read(stored) == A
    assert store.find("mine") is store.find("mine.v2_x") is store.find("MINE.V2_X-4") is None
    assert store.copies(bytes(16)) == []
    assert [path.name for path in models.iterdir()] == [stored.path.name]


def test_the_newest_of_a_name_is_meant_and_the_others_have_their_digests():
    first, second = aged(store.add(A, "a"), 60), store.add(B, "a")
    assert store.find("a") == second
    assert store.entries() == [second, first]
    for stored in (first, second):
        for length in (1, 8, 32):
            assert store.find(f"a@{stored.digest.hex()[:length]}") == stored
        assert store.find(f"a@{stored.digest.hex()[:8].upper()}") == stored
        assert store.copies(stored.digest) == [stored]
    assert store.find("a@0123456789") is None


def test_what_is_added_again_is_the_newest():
    aged(store.add(A, "a"), 60)
    aged(store.add(B, "a"), 30)
    assert store.add(A, "a") == store.find("a")
    assert len(store.entries()) == 2


def test_one_file_may_have_two_names():
    one, two = store.add(A, "one"), store.add(A, "two")
    assert [store.find("one"), store.find("two")] == [one, two]
    assert store.copies(one.digest)[0].digest == one.digest


def test_what_is_no_stored_model_is_passed_over(models):
    stored = store.add(A, "a")
    digest = stored.digest.hex()
    (models / f"b-{digest}.safetensors").mkdir()
    (models / f"gone-{digest}.safetensors").symlink_to("nowhere")
    for name in (
        "mbt2018-4-456e2af9.pth.tar.part",
        ".twc-00.tmp",
        "c.safetensors",
        f"{digest}.safetensors",
        f"-{digest}.safetensors",
        f".hidden-{digest}.safetensors",
        f"c-{digest[1:]}.safetensors",
        f"c-{digest}0.safetensors",
        f"c-{digest.upper()}.safetensors",
        f"c-{digest}.safetensors~",
        f"c-{digest}.safetensors\n",
        f"c d-{digest}.safetensors",
        os.fsdecode(b"\xff-" + digest.encode() + b".safetensors"),
    ):
        (models / name).write_bytes(A)
    assert store.entries() == [stored]


def test_a_name_with_a_digest_in_it():
    stored = store.add(A, f"a-{'0' * 32}")
    assert store.entries() == [stored]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a", "a\\b", "a b", "-a", ".a", "a\n", "ä", "a@b", "a" * 151])
def test_a_name_that_cannot_be_a_files_is_refused(models, name):
    with pytest.raises(UsageError, match="no name for a model"):
        store.add(A, name)
    assert not models.exists() or list(models.iterdir()) == []


def test_a_name_that_would_be_taken_for_a_file_or_an_embedded_model_is_refused():
    for name in (*catalogue.names(), "default-99"):
        with pytest.raises(UsageError, match="embedded"):
            store.add(A, name)
    with pytest.raises(UsageError, match="safetensors"):
        store.add(A, "a.safetensors")
    assert store.add(A, "a" * 150) == store.find("a" * 150)


def test_a_damaged_file_is_refused_and_says_how_to_replace_it():
    stored, own = store.add(A, "mbt2018-4-ms-ssim"), store.add(A, "own")
    for damaged in (A[:-1], b"", A[:100] + b"x" + A[101:]):
        stored.path.write_bytes(damaged)
        with pytest.raises(UnsupportedError, match=r"damaged.*twc models pull mbt2018 -q 4 --metric ms-ssim"):
            store.read(stored)
        own.path.write_bytes(damaged)
        with pytest.raises(UnsupportedError, match=r"damaged.*twc models import FILE --name own"):
            store.read(own)


def test_adding_mends_a_damaged_file():
    stored = store.add(A, "a")
    stored.path.write_bytes(A[:-1])
    assert store.read(store.add(A, "a")) == A


def test_a_stored_model_that_went_away_or_is_too_large(monkeypatch):
    stored = store.add(A, "a")
    monkeypatch.setattr(store, "MOST_BYTES", len(A) - 1)
    with pytest.raises(LimitError):
        store.read(stored)
    stored.path.unlink()
    with pytest.raises(UnreadableError, match="No such file"):
        store.read(stored)


def test_a_folder_that_is_none(models):
    models.write_bytes(b"")
    assert store.entries() == []
    with pytest.raises(OutputError, match="models"):
        store.add(A, "a")


def test_what_cannot_be_written_leaves_nothing(models):
    store.add(B, "a")
    before = sorted(models.iterdir())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OutputError, match="cannot be written"):
            store.add(A, "a")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sorted(models.iterdir()) == before


def test_many_may_add_and_look_at_once():
    """Whoever sees a model sees a whole one."""
    seen, done = [], threading.Event()
    data = [bytes([n]) * 500_000 for n in range(4)]

    def look():
        while not done.is_set():
            for stored in store.entries():
                try:
                    seen.append(store.read(stored))
                except UnsupportedError as error:
                    seen.append(error)

    lookers = [threading.Thread(target=look) for _ in range(2)]
    adders = [threading.Thread(target=store.add, args=(data[n % 4], "a")) for n in range(16)]
    for thread in lookers + adders:
        thread.start()
    for thread in adders:
        thread.join()
    done.set()
    for thread in lookers:
        thread.join()
    assert len(store.entries()) == 4
    assert all(store.read(stored) in data for stored in store.entries())
    assert seen
    assert all(found in data for found in seen)


def test_looking_imports_nothing_heavy(models):
    store.add(A, "a")
    code = (
        "import sys; from twcodec.models import catalogue, store; assert store.entries(); "
        "print({'numpy', 'torch', 'safetensors', 'PIL', 'platformdirs', 'rich'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "set()\n"


# Headers


def built(header: object, body: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + body


def described(metadata: object, **tensors: object) -> dict[str, object]:
    text = metadata if isinstance(metadata, str) else json.dumps(metadata)
    return {"__metadata__": {"twc": text}, **tensors}


GOOD = {"format": "1", "family": "f", "lambda": [0.1, 2], "provenance": {}}
TENSOR = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}


def test_a_header_is_what_the_whole_parser_finds():
    for entry in catalogue.EMBEDDED:
        data = entry.read()
        header, parsed = store.header_of(data), model_file.parse(data)
        assert header.metadata == parsed.metadata
        assert header.family == parsed.metadata["family"]
        assert list(header.lambdas) == parsed.metadata["lambda"]
        assert header.shapes == {name: tensor.shape for name, tensor in parsed.tensors.items()}
        assert header.parameters == sum(tensor.size for tensor in parsed.tensors.values())


def test_the_smallest_header():
    header = store.header_of(built(described(GOOD, a=TENSOR), bytes(24)))
    assert (header.family, header.lambdas, header.shapes, header.parameters) == ("f", (0.1, 2), {"a": (2, 3)}, 6)


HOSTILE = {
    "nothing": b"",
    "a letter": b"x",
    "a length alone": (100).to_bytes(8, "little"),
    "a length of all": b"\xff" * 8 + b"{}",
    "a length beyond the file": built(described(GOOD, a=TENSOR), bytes(24), 10_000),
    "a length of none": built(described(GOOD, a=TENSOR), bytes(24), 0),
    "a length that cuts the header": built(described(GOOD, a=TENSOR), bytes(24), 40),
    "a list": built([1]),
    "a space": built(b" " + json.dumps(described(GOOD, a=TENSOR)).encode(), bytes(24)),
    "no JSON": built(b"{" * 100),
    "no Unicode": built(b'{"\xff": 1}'),
    "no metadata": built({"a": TENSOR}, bytes(24)),
    "another's metadata": built({"__metadata__": {"format": "pt"}, "a": TENSOR}, bytes(24)),
    "metadata that is no JSON": built(described("{", a=TENSOR), bytes(24)),
    "metadata that is a list": built(described([1], a=TENSOR), bytes(24)),
    "metadata that is no text": built({"__metadata__": {"twc": {"format": "1"}}}),
    "a depth": built(described("[" * 100_000)),
    "a depth in the header": built(b'{"a":' * 100_000),
    "a long number": built(b'{"a": ' + b"9" * 10_000 + b"}"),
    "no family": built(described({k: v for k, v in GOOD.items() if k != "family"})),
    "a family that is no text": built(described({**GOOD, "family": ["f"]})),
    "no lambda": built(described({**GOOD, "lambda": []})),
    "a lambda that is no list": built(described({**GOOD, "lambda": 0.1})),
    "a lambda that is text": built(described({**GOOD, "lambda": ["0.1"]})),
    "a lambda that is true": built(described({**GOOD, "lambda": [True]})),
    "a lambda below zero": built(described({**GOOD, "lambda": [-1]})),
    "a lambda that is huge": built(described({**GOOD, "lambda": [10**400]})),
    "a lambda that is no number": built(described('{"format": "1", "family": "f", "lambda": [NaN]}')),
    "a lambda that is infinite": built(described('{"format": "1", "family": "f", "lambda": [1e999]}')),
    "a number that JSON has not": built(described('{"format": "1", "family": "f", "lambda": [1], "a": -Infinity}')),
    "a file cut short": built(described(GOOD, a=TENSOR), bytes(23)),
    "a file with an end": built(described(GOOD, a=TENSOR), bytes(25)),
    "a tensor that is none": built(described(GOOD, a=[1]), bytes(24)),
    "a tensor without a place": built(described(GOOD, a={"dtype": "F32", "shape": [6]}), bytes(24)),
    "a shape beyond the file": built(described(GOOD, a={**TENSOR, "shape": [1 << 40] * 8}), bytes(24)),
    "a shape of many axes": built(described(GOOD, a={**TENSOR, "shape": [1] * 9}), bytes(24)),
    "a shape below zero": built(described(GOOD, a={**TENSOR, "shape": [-1, -1]}), bytes(24)),
    "a shape that is text": built(described(GOOD, a={**TENSOR, "shape": "23"}), bytes(24)),
    "a shape of truths": built(described(GOOD, a={**TENSOR, "shape": [True]}), bytes(24)),
    "a place with three ends": built(described(GOOD, a={**TENSOR, "data_offsets": [0, 24, 24]}), bytes(24)),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_is_no_model_file_is_refused_in_one_line(what):
    with pytest.raises(UnsupportedError) as caught:
        store.header_of(HOSTILE[what])
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_a_header_of_many_megabytes_is_not_parsed():
    text = json.dumps(described(GOOD, a=TENSOR)).encode()
    assert store.header_of(built(text + b" " * ((1 << 24) - len(text)), bytes(24))).family == "f"
    with pytest.raises(UnsupportedError):
        store.header_of(built(text + b" " * ((1 << 24) + 1 - len(text)), bytes(24)))


def test_a_later_format_is_named():
    with pytest.raises(UnsupportedError, match=r"format '2'.*reads '1'"):
        store.header_of(built(described({**GOOD, "format": "2"})))


def test_random_damage_is_refused_or_harmless():
    """Never another exception than ours."""
    good, draw, refused = built(described(GOOD, a=TENSOR), bytes(24)), random.Random(1), 0
    for _ in range(5000):
        data = bytearray(good)
        for _ in range(draw.randint(1, 3)):
            data[draw.randrange(len(data))] = draw.choice(b'\0{}[]",:0-9eE.\\u\xff\x7f' + bytes([draw.randrange(256)]))
        try:
            header = store.header_of(bytes(data[: draw.randint(1, len(data))] if draw.random() < 0.1 else data))
            json.dumps(dict(header.metadata), allow_nan=False)
            assert header.parameters <= len(good)
        except UnsupportedError:
            refused += 1
    assert 1000 < refused < 5000


# The official table


def zoo(module: str) -> dict[str, dict]:
    """compressai.zoo's table of addresses, from its source: importing it takes seconds."""
    source = Path(importlib.util.find_spec("compressai").origin).parent / "zoo" / f"{module}.py"
    names, found = ("root_url", "model_urls"), {}
    for node in ast.parse(source.read_text()).body:
        if isinstance(node, ast.Assign) and node.targets[0].id in names:
            exec(compile(ast.Module([node], []), str(source), "exec"), found)
    return found["model_urls"]


def test_the_table_is_compressais(monkeypatch):
    monkeypatch.delenv("TWC_MODEL_URL", raising=False)
    theirs = {
        (architecture, metric, quality): url
        for architecture, metrics in zoo("image").items()
        for metric, urls in metrics.items()
        for quality, url in urls.items()
    }
    theirs |= {(a, m, None): url for a, metrics in zoo("image_vbr").items() for m, url in metrics.items()}
    del theirs["mbt2018-vbr", "mse", None]
    assert {(c.architecture, c.metric, c.quality): c.url for c in official.CHECKPOINTS} == theirs
    assert len(official.CHECKPOINTS) == 90
    for checkpoint in official.CHECKPOINTS:
        assert checkpoint.file.endswith(f"-{checkpoint.sha256}.pth.tar")
        assert len(checkpoint.sha256) == 8


def test_lambdas_are_those_of_the_qualities():
    assert official.find("mbt2018", 1).lmbda == official.lambda_of(1) == 0.0018
    assert official.find("cheng2020-attn", 6, "ms-ssim").lmbda == 60.5
    assert official.find("bmshj2018-hyperprior", 8).lmbda == 0.18
    assert official.find("mbt2018-mean-vbr", None).lmbda is None
    assert official.lambda_of(0) is official.lambda_of(9) is None


def test_a_mirror_takes_the_place_of_the_address(monkeypatch):
    checkpoint = official.find("mbt2018", 4)
    for base in ("http://mirror/models", "http://mirror/models/"):
        monkeypatch.setenv("TWC_MODEL_URL", base)
        assert checkpoint.url == "http://mirror/models/mbt2018-4-456e2af9.pth.tar"
    monkeypatch.setenv("TWC_MODEL_URL", "")
    assert checkpoint.url.startswith("https://compressai")


def test_names_lead_to_checkpoints_and_back():
    names = [checkpoint.name for checkpoint in official.CHECKPOINTS]
    assert len(set(names)) == len(names)
    assert {"mbt2018-4", "mbt2018-4-ms-ssim", "mbt2018-mean-vbr"} <= set(names)
    for checkpoint in official.CHECKPOINTS:
        assert official.by_name(checkpoint.name) == official.by_name(f"{checkpoint.name}@9f") == checkpoint
        assert official.find(checkpoint.architecture, checkpoint.quality, checkpoint.metric) == checkpoint
        assert store.check_name(checkpoint.name)
    assert official.by_name("mbt2018") is None
    assert official.find("bmshj2018-factorized-relu", 4) is None


def test_what_to_type():
    assert official.find("mbt2018", 4, "ms-ssim").options == "mbt2018 -q 4 --metric ms-ssim"
    assert official.find("mbt2018-mean-vbr", None).options == "mbt2018-mean-vbr"
    assert official.option_for("mbt2018-4") == "--model mbt2018 -q 4"
    for name in ("mbt2018-4-ms-ssim", "mbt2018-mean-vbr", "mbt2018-mean-vbr-4", "mbt2018-9", "own-4", "own"):
        assert official.option_for(name) == f"--model {name}"


def test_the_architectures_are_those_that_can_be_converted():
    from twcodec.models import convert

    if not hasattr(convert, "ARCHITECTURES"):
        pytest.skip("no conversion of checkpoints in this twc")
    assert set(official.ARCHITECTURES) == set(convert.ARCHITECTURES)
    assert {checkpoint.architecture for checkpoint in official.CHECKPOINTS} < set(official.ARCHITECTURES)


def test_a_damaged_copy_does_not_hide_a_sound_one():
    digest = model_file.digest_of(A)
    first, second = store.add(A, "one"), store.add(A, "two")
    for damaged, sound in ((first, "two"), (second, "one")):
        whole = damaged.path.read_bytes()
        damaged.path.write_bytes(whole[:-1])
        assert catalogue.read_by_digest(digest) == (sound, A)
        damaged.path.write_bytes(whole)
