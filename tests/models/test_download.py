"""Downloads against a server on this machine, that answers as servers do on bad days."""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import random
import resource
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from twcodec.errors import LimitError, MissingError, OutputError, UnsupportedError
from twcodec.models import download as module
from twcodec.models import official, store
from twcodec.models.download import download, fetch

DATA = random.Random(4).randbytes(300_000)
SHA = hashlib.sha256(DATA).hexdigest()[:8]
OTHER = bytes(300_000)

Answer = Callable[[BaseHTTPRequestHandler], None]


class Mirror(ThreadingHTTPServer):
    """A server of one file. answers: how to take the next requests; normally: how to take those after."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[Answer] = []
        self.normally: Answer = ranged(DATA)
        self.requests: list[http.client.HTTPMessage] = []
        self.paths: list[str] = []
        self.released = threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def url(self) -> str:
        return f"{self.base}/file"

    @property
    def ranges(self) -> list[str | None]:
        return [headers.get("Range") for headers in self.requests]

    def handle_error(self, *_: object) -> None:
        """Clients that hang up are expected."""

    def stop(self) -> None:
        self.released.set()
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Mirror

    def do_GET(self) -> None:
        self.server.requests.append(self.headers)
        self.server.paths.append(self.path)
        (self.server.answers.pop(0) if self.server.answers else self.server.normally)(self)

    def log_message(self, *_: object) -> None:
        pass


def send(handler, code: int, headers: dict[str, object], body: bytes, cut: int | None = None, reason=None) -> None:
    handler.send_response(code, reason)
    for key, value in {"Content-Length": len(body), **headers}.items():
        if value is not None:
            handler.send_header(key, str(value))
    handler.end_headers()
    handler.wfile.write(body[:cut])
    if cut is not None or headers.get("Content-Length", 0) is None:
        handler.wfile.flush()
        handler.close_connection = True


def whole(data: bytes, cut: int | None = None, **headers: object) -> Answer:
    """A server that knows no ranges. cut: the bytes after which the connection breaks."""
    return lambda handler: send(handler, 200, headers, data, cut)


def ranged(data: bytes, cut: int | None = None, tag: str | None = None) -> Answer:
    """A server that knows ranges, and a tag."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        wanted = handler.headers.get("Range")
        if wanted is None or handler.headers.get("If-Range", tag) != tag:
            return send(handler, 200, {"ETag": tag}, data, cut)
        start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if start >= len(data):
            return send(handler, 416, {"Content-Range": f"bytes */{len(data)}"}, b"")
        where = f"bytes {start}-{len(data) - 1}/{len(data)}"
        return send(handler, 206, {"Content-Range": where, "ETag": tag}, data[start:], cut)

    return answer


def status(code: int, reason: str | None = None, **headers: object) -> Answer:
    return lambda handler: send(handler, code, headers, b"<html>", reason=reason)


def silence(handler: BaseHTTPRequestHandler) -> None:
    handler.server.released.wait(20)
    handler.close_connection = True


@pytest.fixture
def mirror(monkeypatch) -> Iterator[Mirror]:
    monkeypatch.setenv("no_proxy", "*")
    server = Mirror()
    yield server
    server.stop()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "file"


@pytest.fixture
def part(tmp_path):
    return tmp_path / "file.part"


@pytest.fixture
def folder(tmp_path):
    return lambda: {path.name for path in tmp_path.iterdir()}


def test_a_file_arrives_and_nothing_else_stays(mirror, target, folder):
    seen = []
    assert download(mirror.url, target, SHA, lambda *now: seen.append(now)) == target
    assert target.read_bytes() == DATA
    assert folder() == {"file"}
    assert seen[-1] == (300_000, 300_000)
    assert sorted(seen) == seen
    assert len(seen) > 2
    assert mirror.ranges == [None]
    assert mirror.requests[0]["User-Agent"].startswith("twc/")


def test_a_file_has_its_name_only_when_it_is_whole(mirror, target, monkeypatch):
    renamed, sizes = Path.replace, []

    def replace(path, other):
        sizes.append(path.stat().st_size)
        return renamed(path, other)

    monkeypatch.setattr(Path, "replace", replace)
    mirror.normally = ranged(DATA[:1000])
    download(mirror.url, target, hashlib.sha256(DATA[:1000]).hexdigest())
    assert sizes == [1000]


def test_a_file_that_is_there_is_not_fetched(mirror, target):
    target.write_bytes(DATA)
    download(mirror.url, target, SHA)
    assert mirror.requests == []
    target.write_bytes(OTHER)
    download(mirror.url, target, SHA)
    assert target.read_bytes() == DATA


def test_a_part_is_gone_on_with(mirror, target, part, folder):
    part.write_bytes(DATA[:123_456])
    seen = []
    download(mirror.url, target, SHA, lambda *now: seen.append(now))
    assert target.read_bytes() == DATA
    assert mirror.ranges == ["bytes=123456-"]
    assert seen[0][0] > 123_456
    assert seen[-1] == (300_000, 300_000)
    assert folder() == {"file"}


def test_a_server_without_ranges_sends_all_again(mirror, target, part):
    mirror.normally = whole(DATA)
    part.write_bytes(DATA[:123_456])
    download(mirror.url, target, SHA)
    assert target.read_bytes() == DATA
    assert len(mirror.requests) == 1


@pytest.mark.parametrize("length", [300_000, None])
def test_a_server_that_does_not_say_how_long_the_file_is(mirror, target, length):
    mirror.normally = whole(DATA, **{"Content-Length": length})
    seen = []
    download(mirror.url, target, SHA, lambda *now: seen.append(now))
    assert target.read_bytes() == DATA
    assert seen[-1] == (300_000, length)


def test_a_part_that_lacks_nothing_needs_no_network(mirror, target, part, folder):
    part.write_bytes(DATA)
    download(mirror.url, target, SHA)
    assert (target.read_bytes(), folder(), mirror.requests) == (DATA, {"file"}, [])


def test_a_connection_that_breaks_is_made_again_where_it_broke(mirror, target):
    mirror.answers = [ranged(DATA, cut=100_000), ranged(DATA, cut=50_000)]
    download(mirror.url, target, SHA)
    assert target.read_bytes() == DATA
    assert mirror.ranges == [None, "bytes=100000-", "bytes=150000-"]


def test_a_connection_that_always_breaks_is_given_up_and_the_part_kept(mirror, target, part, folder):
    mirror.normally = ranged(DATA, cut=10_000)
    with pytest.raises(MissingError, match="broke off"):
        download(mirror.url, target, SHA)
    assert len(mirror.requests) == 5
    assert part.read_bytes() == DATA[:50_000]
    mirror.normally = ranged(DATA)
    download(mirror.url, target, SHA)
    assert mirror.ranges[-1] == "bytes=50000-"
    assert folder() == {"file"}


def test_a_connection_that_brings_nothing_is_not_made_again(mirror, target, part, folder):
    mirror.normally = ranged(DATA, cut=0)
    with pytest.raises(MissingError, match="broke off"):
        download(mirror.url, target, SHA)
    assert len(mirror.requests) == 1
    assert folder() == set()


def test_a_file_in_chunks_that_breaks(mirror, target, part):
    def chunked(handler):
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"3e8\r\n" + DATA[:1000] + b"\r\n")
        handler.wfile.flush()
        handler.close_connection = True

    mirror.answers = [chunked]
    assert download(mirror.url, target, SHA).read_bytes() == DATA
    assert mirror.ranges == [None, "bytes=1000-"]
    target.unlink()
    mirror.normally = chunked
    with pytest.raises(MissingError, match="broke off"):
        download(mirror.url, target, SHA)
    assert part.read_bytes() == DATA[:1000]


def test_without_ranges_a_broken_connection_begins_anew(mirror, target, part):
    mirror.answers = [whole(DATA, cut=100_000), whole(DATA, cut=50_000)]
    mirror.normally = whole(DATA)
    download(mirror.url, target, SHA)
    assert target.read_bytes() == DATA


@pytest.mark.parametrize(
    "where", ["bytes 0-299999/300000", "bytes 100001-299999/300000", "bytes */300000", "100000", "", None]
)
def test_an_answer_that_does_not_continue_the_part_is_not_appended(mirror, target, part, where):
    part.write_bytes(DATA[:100_000])
    mirror.answers = [lambda handler: send(handler, 206, {"Content-Range": where}, DATA)]
    download(mirror.url, target, SHA)
    assert target.read_bytes() == DATA
    assert mirror.ranges == ["bytes=100000-", None]


def test_a_part_that_is_longer_than_the_file_is_thrown_away(mirror, target, part):
    for rest in (b"", b"more"):
        part.write_bytes(OTHER + rest)
        target.unlink(missing_ok=True)
        download(mirror.url, target, SHA)
        assert target.read_bytes() == DATA
        assert mirror.ranges[-2:] == [f"bytes={300_000 + len(rest)}-", None]


def test_a_file_that_changed_meanwhile_is_fetched_from_its_beginning(mirror, target, part, folder):
    """The tag says so: without it the halves of two files would be put together."""
    mirror.answers = [ranged(OTHER, cut=1000, tag='"old"'), status(503)]
    with pytest.raises(MissingError, match="503"):
        download(mirror.url, target, SHA)
    assert part.read_bytes() == OTHER[:1000]
    mirror.normally = ranged(DATA, tag='"new"')
    download(mirror.url, target, SHA)
    assert mirror.requests[-1]["If-Range"] == '"old"'
    assert target.read_bytes() == DATA
    assert len(mirror.requests) == 3
    assert folder() == {"file"}


def test_a_tag_is_forgotten_with_its_file(mirror, target):
    """It would vouch for bytes that are not its own."""
    mirror.answers = [ranged(OTHER, cut=1000, tag='"old"'), whole(DATA, cut=2000)]
    download(mirror.url, target, SHA)
    assert [headers["If-Range"] for headers in mirror.requests] == [None, '"old"', None]
    assert target.read_bytes() == DATA


def test_a_file_with_the_same_tag_is_gone_on_with(mirror, target, part):
    mirror.answers = [ranged(DATA, cut=1000, tag='"same"')]
    mirror.normally = ranged(DATA, tag='"same"')
    download(mirror.url, target, SHA)
    assert mirror.ranges == [None, "bytes=1000-"]
    assert target.read_bytes() == DATA


@pytest.mark.parametrize("tag", ['W/"weak"', "bare", '"a" "b"', '"\xff"'])
def test_a_tag_that_vouches_for_no_bytes_is_not_used(mirror, target, tag):
    mirror.answers = [whole(DATA, cut=1000, ETag=tag)]
    download(mirror.url, target, SHA)
    assert mirror.ranges == [None, "bytes=1000-"]
    assert mirror.requests[1]["If-Range"] is None


def test_wrong_bytes_are_deleted_and_both_digests_named(mirror, target, folder):
    mirror.normally = ranged(OTHER, tag='"t"')
    with pytest.raises(UnsupportedError) as caught:
        download(mirror.url, target, SHA)
    for word in (SHA, hashlib.sha256(OTHER).hexdigest()[:8], mirror.url):
        assert word in str(caught.value)
    assert folder() == set()


def test_a_part_of_something_else_does_not_stand_in_the_way_for_ever(mirror, target, part, folder):
    part.write_bytes(OTHER[:1000])
    with pytest.raises(UnsupportedError, match="SHA-256"):
        download(mirror.url, target, SHA)
    assert folder() == set()
    assert download(mirror.url, target, SHA).read_bytes() == DATA


@pytest.mark.parametrize("code", [401, 403, 404, 410, 429, 500, 503])
def test_a_refusal_is_named(mirror, target, part, folder, code):
    mirror.normally = status(code)
    with pytest.raises(MissingError, match=f"{mirror.url} .* {code} {http.client.responses[code]}"):
        download(mirror.url, target, SHA)
    assert (folder(), len(mirror.requests)) == (set(), 1)
    part.write_bytes(DATA[:1000])
    with pytest.raises(MissingError, match=str(code)):
        download(mirror.url, target, SHA)
    assert part.read_bytes() == DATA[:1000]


@pytest.mark.parametrize(("code", "where"), [(203, None), (203, "bytes 0-5/6"), (204, None), (206, None)])
def test_an_answer_of_another_kind_is_no_file(mirror, target, folder, code, where):
    mirror.normally = status(code, **{"Content-Range": where})
    with pytest.raises(MissingError):
        download(mirror.url, target, SHA)
    assert folder() == set()


def test_the_servers_own_words_are_not_shown(mirror, target):
    mirror.normally = status(404, "\x1b[31mred")
    with pytest.raises(MissingError) as caught:
        download(mirror.url, target, SHA)
    assert "red" not in str(caught.value)


def test_nobody_listens(target, folder, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/file"
        with pytest.raises(MissingError, match=f"{url} .*refused"):
            download(url, target, SHA)
    assert folder() == set()


def test_a_host_that_is_not_there(target, folder, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")

    def unknown(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(MissingError, match=r"host\.invalid/file .* not known"):
        download("http://host.invalid/file", target, SHA)
    assert folder() == set()


def test_a_server_that_is_silent(mirror, target, part, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT", 0.2)
    mirror.normally = silence
    began = time.monotonic()
    with pytest.raises(MissingError, match=r"no answer within 0\.2 s"):
        download(mirror.url, target, SHA)
    assert time.monotonic() - began < 4
    assert not part.exists()


def test_a_server_that_falls_silent(mirror, target, part, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT", 0.2)

    def tired(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "300000")
        handler.end_headers()
        handler.wfile.write(DATA[:1000])
        handler.wfile.flush()
        silence(handler)

    mirror.answers, mirror.normally = [tired], silence
    with pytest.raises(MissingError, match="no answer"):
        download(mirror.url, target, SHA)
    assert part.read_bytes() == DATA[:1000]
    assert mirror.ranges == [None, "bytes=1000-"]


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.1 2xx\r\n\r\n", b"", b"\0" * 100])
def test_a_server_that_speaks_something_else(target, folder, monkeypatch, answer):
    monkeypatch.setenv("no_proxy", "*")
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve():
            connection, _ = listening.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(MissingError):
            download(f"http://127.0.0.1:{listening.getsockname()[1]}/", target, SHA)
        thread.join()
    assert folder() == set()


@pytest.mark.parametrize("length", [300_000, None])
def test_more_than_the_limit_is_not_fetched(mirror, target, folder, length):
    mirror.normally = whole(DATA, **{"Content-Length": length})
    seen = []
    with pytest.raises(LimitError, match="299999"):
        download(mirror.url, target, SHA, lambda have, _: seen.append(have), limit=299_999)
    assert folder() == set()
    assert seen == [] if length else max(seen) < 300_000
    assert download(mirror.url, target, SHA, limit=300_000).read_bytes() == DATA


def test_the_limit_holds_for_what_is_gone_on_with(mirror, target, part, folder):
    part.write_bytes(DATA[:100_000])
    with pytest.raises(LimitError):
        download(mirror.url, target, SHA, limit=250_000)
    assert folder() == set()


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://127.0.0.1/a", "data:,a", "/etc/hostname", ""])
def test_only_http_is_fetched(target, folder, url):
    with pytest.raises(MissingError, match="only http"):
        download(url, target, SHA)
    assert folder() == set()


@pytest.mark.parametrize("url", ["http://", "http://[", "http://a b/", "http://a:b/", "http://" + "a" * 300])
def test_an_address_that_is_none(target, url, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(MissingError):
        download(url, target, SHA)


def test_a_redirection_is_followed_with_the_range(mirror, target, part):
    part.write_bytes(DATA[:1000])
    mirror.answers = [status(302, Location="/elsewhere")]
    download(mirror.url, target, SHA)
    assert target.read_bytes() == DATA
    assert mirror.paths == ["/file", "/elsewhere"]
    assert mirror.ranges == ["bytes=1000-"] * 2


@pytest.mark.parametrize("where", ["file:///etc/hostname", "ftp://127.0.0.1:1/a", "data:,a", "/file"])
def test_a_redirection_that_leads_elsewhere_or_nowhere_is_not(mirror, target, folder, where):
    mirror.normally = status(302, Location=where)
    with pytest.raises(MissingError):
        download(mirror.url, target, SHA)
    assert folder() == set()


def test_a_redirection_does_not_leave_https():
    redirects, asked = module._Redirects(), urllib.request.Request("https://a/b")
    headers = http.client.HTTPMessage()
    with pytest.raises(urllib.error.HTTPError):
        redirects.redirect_request(asked, None, 302, "Found", headers, "http://a/b")
    assert redirects.redirect_request(asked, None, 302, "Found", headers, "https://c/d").full_url == "https://c/d"


def test_an_interruption_leaves_the_part(mirror, target, part):
    def interrupt(have, _):
        if have > 100_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(mirror.url, target, SHA, interrupt)
    left = part.read_bytes()
    assert 100_000 < len(left) < 300_000
    assert DATA.startswith(left)
    download(mirror.url, target, SHA)
    assert mirror.ranges == [None, f"bytes={len(left)}-"]
    assert target.read_bytes() == DATA


def test_two_processes_do_not_write_to_one_part(mirror, target, part):
    with part.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(OutputError, match="another process"):
            download(mirror.url, target, SHA)
    assert download(mirror.url, target, SHA).read_bytes() == DATA


def test_a_part_that_was_finished_while_its_lock_was_waited_for_is_not_touched(target, part, monkeypatch):
    """The lock is then that of the finished file."""
    part.write_bytes(DATA)
    lock = fcntl.flock

    def late(file, how):
        if part.exists() and not target.exists():
            part.rename(target)
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with module._locked(part) as found:
        found.append(b"x")
    assert target.read_bytes() == DATA
    assert part.read_bytes() == b"x"


def test_a_disk_that_is_full(mirror, target, part):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OutputError, match="cannot be written"):
            download(mirror.url, target, SHA)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not target.exists()


def test_a_folder_that_is_none(mirror, tmp_path, target):
    target.write_bytes(b"")
    for place in (tmp_path / "none" / "file", target / "file"):
        with pytest.raises(OutputError):
            download(mirror.url, place, SHA)
    assert mirror.requests == []


@pytest.fixture
def checkpoint(mirror, tmp_path, monkeypatch):
    monkeypatch.setenv("TWC_MODEL_DIR", str(tmp_path / "models"))
    monkeypatch.setenv("TWC_MODEL_URL", f"{mirror.base}/v1/")
    return official.Checkpoint("mbt2018", "ms-ssim", 4, 16.64, f"mbt2018-ms-ssim-4-{SHA}.pth.tar", SHA)


def test_a_checkpoint_comes_from_the_mirror_to_the_store(mirror, checkpoint):
    path = fetch(checkpoint)
    assert path == store.folder() / checkpoint.file
    assert path.read_bytes() == DATA
    assert mirror.paths == [f"/v1/{checkpoint.file}"]
    assert store.entries() == []


def test_a_checkpoint_that_cannot_be_had_can_be_brought(mirror, checkpoint):
    mirror.normally = status(404)
    with pytest.raises(MissingError) as caught:
        fetch(checkpoint)
    for word in (f"{mirror.base}/v1/{checkpoint.file}", "404 Not Found"):
        assert word in str(caught.value)
    assert "twc models import FILE --arch mbt2018 -q 4 --metric ms-ssim" in str(caught.value)
    assert "\n" not in str(caught.value)
