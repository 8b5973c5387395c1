"""URLs: memory://, an S3 server on loopback, a web server; what is missing, denied or out of reach."""

from __future__ import annotations

import functools
import http.server
import importlib
import io
import json
import os
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from batch.conftest import done
from twcodec.batch import storage
from twcodec.batch.tar import seed_of
from twcodec.batch.tasks import Job
from twcodec.batch.work import Worker
from twcodec.errors import ExitCode, MissingError

fsspec = pytest.importorskip("fsspec")


def png(picture: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def pictures(small) -> dict[str, bytes]:
    """PNG files by their names."""
    return {name: png(small(i)) for i, name in enumerate(["a.png", "b.png", "sub/c.png", "sub/sub/d.png"])}


@pytest.fixture
def expected(engine) -> Callable[[dict[str, bytes], int], dict[str, bytes]]:
    """What becomes of pictures with a seed."""

    def make(pictures: dict[str, bytes], seed: int) -> dict[str, bytes]:
        worker = Worker(Job("encode", device="cpu", threads=1))
        outputs = {str(Path(name).with_suffix(".twc")): data for name, data in pictures.items()}
        return {key: worker.make(data, seed_of(seed, key)).data for key, data in outputs.items()}

    return make


@pytest.fixture
def memory() -> Iterator[Any]:
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    yield system
    system.store.clear()
    system.pseudo_dirs[:] = [""]


def below(system: Any, folder: str) -> dict[str, bytes]:
    """All that is there, by relative name."""
    return {path.partition(f"{folder}/")[2]: system.cat_file(path) for path in system.find(folder)}


def fill(system: Any, folder: str, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        system.pipe_file(f"{folder}/{name}", data)


def test_a_folder_in_memory_is_mirrored_and_decoded(batch, memory, pictures, expected):
    fill(memory, "/in", pictures)
    result = batch("encode", "memory://in", "-r", "-o", "memory://out", "--seed", 7)
    assert result.code == 0, result.err
    assert below(memory, "/out") == expected(pictures, 7)
    assert batch("decode", "memory://out", "-r", "-o", "memory://back", "--format", "PNG").code == 0
    assert sorted(below(memory, "/back")) == sorted(pictures)


def test_the_manifest_of_a_url_is_in_the_current_folder(batch, memory, pictures, tmp_path):
    fill(memory, "/in", pictures)
    batch("encode", "memory://in", "-o", "memory://out")
    assert [path.suffix for path in tmp_path.iterdir()] == [".jsonl"]
    (manifest,) = tmp_path.glob("*-twc-manifest.jsonl")
    assert [record["output"] for record in done(tmp_path, manifest.name)] == ["a.twc", "b.twc"]
    assert sorted(below(memory, "/out")) == ["a.twc", "b.twc"]


def test_what_is_there_is_skipped_and_what_is_missing_or_changed_is_made_again(
    batch, engine, memory, pictures, monkeypatch
):
    fill(memory, "/in", pictures)
    command = ("encode", "memory://in", "-r", "-o", "memory://out", "--seed", 7)
    assert batch(*command).code == 0
    assert batch(*command).code == 0
    assert engine.seen == []
    before = below(memory, "/out")
    memory.rm("/out/a.twc")
    other = bytes(len(before["b.twc"]))
    memory.pipe_file("/out/b.twc", other)
    memory.store["/out/b.twc"].created = memory.store["/out/b.twc"].created.replace(year=2000)  # not in this second
    assert batch(*command).code == 0
    assert sorted(engine.seen) == ["a.twc", "b.twc"]
    assert below(memory, "/out") == before


def test_nothing_of_somebody_else_is_overwritten(batch, memory, pictures):
    fill(memory, "/in", {"a.png": pictures["a.png"]})
    memory.pipe_file("/out/a.twc", b"mine")
    result = batch("encode", "memory://in", "-o", "memory://out")
    assert (result.code, memory.cat_file("/out/a.twc")) == (1, b"mine")
    assert "exists already" in result.err
    assert batch("encode", "memory://in", "-o", "memory://out", "-f").code == 0
    assert memory.cat_file("/out/a.twc") != b"mine"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of an S3 server."""
    moto = pytest.importorskip("moto.server")
    made = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    made.start()
    host, port = made.get_host_and_port()
    yield f"http://{host}:{port}"
    made.stop()


@pytest.fixture
def s3(server, monkeypatch) -> Iterator[Any]:
    """The server's file system, with an empty bucket, as the environment describes it to every process."""
    s3fs = pytest.importorskip("s3fs")
    for name, value in {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    s3fs.S3FileSystem.clear_instance_cache()
    system = fsspec.filesystem("s3", use_listings_cache=False)
    system.mkdir("bucket")
    yield system
    system.rm("bucket", recursive=True)
    s3fs.S3FileSystem.clear_instance_cache()


def test_s3_to_s3_in_worker_processes(s3, pictures, expected, tmp_path):
    fill(s3, "bucket/in", {**pictures, "": b"", "empty/": b"", "notes.txt": b"not mine"})
    command = [sys.executable, "-m", "twcodec", "batch", "encode", "s3://bucket/in", "-r", "-o", "s3://bucket/out"]
    result = subprocess.run(
        [*command, "--seed", "7", "--jobs", "1"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    assert below(s3, "bucket/out") == expected(pictures, 7)
    assert "left out, by their extensions: 1 file (s3://bucket/in/notes.txt)" in result.stderr
    assert len(result.stderr.splitlines()) == 3, result.stderr


def test_an_object_that_is_missing_or_was_replaced_is_made_again(batch, engine, s3, pictures):
    fill(s3, "bucket/in", pictures)
    command = ("encode", "s3://bucket/in", "-r", "-o", "s3://bucket/out", "--seed", 7)
    assert batch(*command).code == 0
    before = below(s3, "bucket/out")
    s3.rm("bucket/out/sub/c.twc")
    assert batch(*command).code == 0
    assert engine.seen == ["sub/c.twc"]
    assert below(s3, "bucket/out") == before


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("s3://bucket/in/**/*.png", ["a.twc", "b.twc", "sub/c.twc", "sub/sub/d.twc"]),
        ("s3://bucket/in/*", ["a.twc", "b.twc"]),
        ("s3://bucket/in", ["a.twc", "b.twc"]),
        ("s3://bucket/in/sub/c.png", ["c.twc"]),
    ],
)
def test_names_on_s3(batch, s3, pictures, source, names):
    fill(s3, "bucket/in", pictures)
    result = batch("encode", source, "-o", "s3://bucket/out/")
    assert result.code == 0, result.err
    assert sorted(below(s3, "bucket/out")) == names


def test_from_s3_to_a_folder_and_back(batch, s3, pictures, fill, tmp_path):
    fill("in/a.png")
    assert batch("encode", "in", "-o", "s3://bucket/out").code == 0
    assert batch("decode", "s3://bucket/out", "-o", "back").code == 0
    assert (tmp_path / "back" / "a.png").exists()


def test_a_tar_file_from_s3_to_s3(batch, s3, pictures):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, data in {**pictures, "a.cls": b"7"}.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    s3.pipe_file("bucket/in/000.tar", file.getvalue())
    result = batch("encode", "s3://bucket/in", "-o", "s3://bucket/out")
    assert result.code == 0, result.err
    with tarfile.open(fileobj=io.BytesIO(s3.cat_file("bucket/out/000.tar"))) as tar:
        assert tar.getnames() == ["a.twc", "b.twc", "sub/c.twc", "sub/sub/d.twc", "a.cls"]


def test_a_missing_object_or_bucket_is_named(batch, s3):
    result = batch("encode", "s3://bucket/in/none.png", "s3://nobucket/in/a.png", "-o", "out")
    assert result.code == 1
    assert "s3://bucket/in/none.png: cannot be read: there is no such file" in result.err
    assert "s3://nobucket/in/a.png: cannot be read: The specified bucket does not exist" in result.err


def test_a_run_is_given_up_when_the_bucket_of_its_outputs_is_missing(batch, engine, s3, fill):
    fill(*(f"in/{i}.png" for i in range(9)))
    result = batch("encode", "in", "-o", "s3://nobucket/out")
    assert result.code == ExitCode.OUTPUT
    assert len(engine.seen) == 1
    assert "given up: the output cannot be written: The specified bucket does not exist" in result.err


class Denies(http.server.BaseHTTPRequestHandler):
    """An S3 server that nobody may use."""

    def do_GET(self) -> None:
        body = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_PUT = do_HEAD = do_GET

    def log_message(self, *_args: Any) -> None:
        pass


@pytest.fixture
def serve() -> Iterator[Callable[[Any], str]]:
    """serve(handler): its address."""
    made = []

    def start(handler: Any) -> str:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        made.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in made:
        server.shutdown()
        server.server_close()


def test_what_may_not_be_listed_or_written_is_one_line(batch, engine, s3, serve, monkeypatch, fill):
    monkeypatch.setenv("AWS_ENDPOINT_URL", serve(Denies))
    type(s3).clear_instance_cache()
    batch("encode", "s3://bucket/in", "-r", "-o", "out").refused(
        ExitCode.UNREADABLE, "s3://bucket/in: cannot be listed"
    )
    fill("in/a.png", "in/b.png")
    result = batch("encode", "in", "-o", "s3://bucket/out")
    assert result.code == ExitCode.OUTPUT
    assert len(engine.seen) == 1
    assert "given up: the output cannot be written: " in result.err


def test_a_server_out_of_reach_is_one_line(batch, engine, s3, monkeypatch, fill):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    type(s3).clear_instance_cache()
    result = batch("encode", "s3://bucket/in", "-r", "-o", "out")
    result.refused(ExitCode.UNREADABLE, "s3://bucket/in: cannot be listed: ", "127.0.0.1:9")
    fill("in/a.png", "in/b.png")
    result = batch("encode", "in", "-o", "s3://bucket/out")
    assert (result.code, len(engine.seen)) == (ExitCode.OUTPUT, 1)


def test_pictures_are_read_from_a_web_server(batch, serve, pictures, expected, tmp_path, fill):
    (tmp_path / "www" / "sub").mkdir(parents=True)
    for name in ("a.png", "sub/c.png"):
        (tmp_path / "www" / name).write_bytes(pictures[name])

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_args: Any) -> None:
            pass

    address = serve(functools.partial(Quiet, directory=tmp_path / "www"))
    result = batch("encode", f"{address}/a.png", f"{address}/sub/c.png", f"{address}/no.png", "-o", "out", "--seed", 7)
    assert result.code == 1
    assert f"{address}/no.png: cannot be read: " in result.err
    assert result.err.count("\n") == 4, result.err
    found = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.twc")}
    assert found == expected({"a.png": pictures["a.png"], "c.png": pictures["sub/c.png"]}, 7)
    fill("in/a.png", "in/b.png")
    result = batch("encode", "in", "-o", f"{address}/out")
    assert result.code != 0
    assert "the output cannot be written: " in result.err


def test_a_library_that_is_missing_is_named(batch, monkeypatch, fill):
    registry = importlib.import_module("fsspec.registry")  # `fsspec.registry` is also the name of a mapping in it
    kinds = {**registry.known_implementations, "odd": {"class": "oddfs.OddFileSystem", "err": "Install something"}}
    monkeypatch.setattr(registry, "known_implementations", kinds)
    batch("encode", "odd://a/b.png", "-o", "out").refused(ExitCode.MISSING, "odd:// needs oddfs; pip install oddfs")
    fill("in/a.png")
    batch("encode", "in", "-o", "odd://a").refused(ExitCode.MISSING, "odd:// needs oddfs; pip install oddfs")
    assert storage._library("s3://bucket/a.png") == "s3:// needs s3fs; pip install s3fs"
    batch("encode", "strange://a/b.png", "-o", "out").refused(ExitCode.UNREADABLE, "strange")


def test_fsspec_itself_is_named_when_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(MissingError, match=r"pip install 'twcodec\[batch\]'"):
        storage.opened("s3://bucket/a.png")


def test_events_hold_urls(batch, memory, pictures):
    fill(memory, "/in", {"a.png": pictures["a.png"]})
    result = batch("encode", "memory://in", "-o", "memory://out", "--json")
    item = json.loads(result.out.splitlines()[0])
    assert (item["source"], item["output"]) == ("memory:///in/a.png", "a.twc")


def test_objects_whose_names_lead_out_stay_inside(batch, pictures, tmp_path):
    """What a bucket calls its objects is anybody's choice."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    for name in ("/in/../../evil.png", "/in/./sub//deep.png", "/in/a.png"):
        system.store[name] = fsspec.implementations.memory.MemoryFile(system, name, pictures["a.png"])
    assert batch("encode", "memory://in", "-r", "-o", "out").code == 0
    assert sorted(p.name for p in (tmp_path / "out").rglob("*.twc")) == ["a.twc", "deep.twc", "evil.twc"]
    assert not list(tmp_path.parent.glob("*.twc"))


def test_an_object_of_somebody_else_is_not_taken_for_ours(batch, pictures, tmp_path):
    """Not even by the run after one that was stopped: nothing says that it was begun."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pipe({"/in/a.png": pictures["a.png"], "/out/a.twc": b"somebody's"})
    for _ in range(2):
        run = batch("encode", "memory://in", "-o", "memory://out", "--manifest", "m.jsonl")
        assert (run.code, system.cat("/out/a.twc")) == (1, b"somebody's")
        assert "the output exists already" in run.err
    assert "started" not in (tmp_path / "m.jsonl").read_text()
    assert batch("encode", "memory://in", "-o", "memory://out", "--manifest", "m.jsonl", "-f").code == 0


def test_a_server_that_is_out_of_reach_for_one_source_ends_nothing(batch, engine, fill, tmp_path):
    """Some file systems connect when they are made."""
    fill("in/a.png")
    (tmp_path / "list").write_text("ftp://127.0.0.1:9/x.png\nin/a.png\n")
    run = batch("encode", "--files-from", "list", "-o", "out")
    assert run.code == 1
    assert "ftp://127.0.0.1:9/x.png" in run.err
    assert "cannot be re" in run.err
    assert (tmp_path / "out" / "in" / "a.twc").exists()
