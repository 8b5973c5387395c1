"""Fetching an official checkpoint: resumable, bounded, checked, with nothing but the standard library.

What has arrived lies in FILE.part, and the server's tag for it in FILE.part.etag; both outlive an interruption. The
file gets its name when its SHA-256 begins as the catalogue says.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import http.client
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO
from urllib.parse import urlsplit

from twcodec import __version__
from twcodec.errors import LimitError, MissingError, OutputError, UnsupportedError
from twcodec.models.file import MOST_BYTES
from twcodec.models.official import Checkpoint
from twcodec.models.store import make_folder

Progress = Callable[[int, "int | None"], None]
"""Called with the bytes that are there and those there will be, None if the server does not say."""

TIMEOUT = 30.0
"""Seconds without a byte after which a connection is given up."""

_BLOCK = 1 << 16
_TRIES = 5
"""Connections; each after the first goes on where the last one broke, or begins anew where the part was wrong."""


def fetch(checkpoint: Checkpoint, progress: Progress | None = None) -> Path:
    """An official checkpoint as a file in the store's folder; the caller deletes it when it is converted.

    MissingError: it could not be fetched. UnsupportedError: it is not the file that it should be. LimitError: over
    1 GiB. OutputError: the disk. An interrupted download goes on where it was.
    """
    try:
        return download(checkpoint.url, make_folder() / checkpoint.file, checkpoint.sha256, progress)
    except MissingError as error:
        by_hand = f"twc models import FILE --arch {checkpoint.options}"
        raise MissingError(f"{error}; a file fetched by other means can be given to: {by_hand}") from None


def download(url: str, target: Path, sha256: str, progress: Progress | None = None, limit: int = MOST_BYTES) -> Path:
    """Fetch `url` to `target`. sha256: hex digits with which the file's digest begins. Errors as `fetch`."""
    try:
        if target.is_file() and hashlib.sha256(target.read_bytes()).hexdigest().startswith(sha256):
            return target
        with _locked(target.with_name(f"{target.name}.part")) as part:
            if not part.digest.startswith(sha256):  # else it lacked nothing but its name
                _complete(part, url, progress, limit)
            if not part.digest.startswith(sha256):
                part.forget()
                raise UnsupportedError(
                    f"{url} is not the file it should be: its SHA-256 begins with {part.digest[: len(sha256)]}, "
                    f"{sha256} was expected; it has been deleted"
                )
            part.publish(target)
    except OSError as error:  # the network's have become MissingError
        raise OutputError(f"{target} cannot be written: {error.strerror or error}") from None
    return target


class _Part:
    """What has arrived of a file; hashed as it comes. OutputError: the disk does not take it."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self._path, self._tag = file, path, path.with_name(f"{path.name}.etag")
        self._hash, self.have = hashlib.sha256(), 0
        file.seek(0)
        while block := file.read(_BLOCK):
            self._count(block)

    def _count(self, block: bytes) -> None:
        self._hash.update(block)
        self.have += len(block)

    @property
    def digest(self) -> str:
        """SHA-256 in hex."""
        return self._hash.hexdigest()

    @property
    def tag(self) -> str | None:
        """The server's tag of the file that this is a part of, if it gave one."""
        try:
            return self._tag.read_text("latin-1")
        except OSError:
            return None

    def append(self, block: bytes) -> None:
        """What comes next."""
        try:
            self._file.write(block)
        except OSError as error:
            raise OutputError(f"{self._path} cannot be written: {error.strerror}") from None
        self._count(block)

    def restart(self, tag: str | None = None) -> None:
        """Throw away what is there. tag: of the file that will come; a weak one does not vouch for bytes."""
        self._hash, self.have = hashlib.sha256(), 0
        try:
            self._file.truncate(0)
            self._tag.unlink(missing_ok=True)
            if tag and re.fullmatch(r'"[!#-~]*"', tag):
                self._tag.write_text(tag, "latin-1")
        except OSError as error:
            raise OutputError(f"{self._path} cannot be written: {error.strerror}") from None

    def forget(self) -> None:
        """Leave nothing on the disk."""
        self._path.unlink(missing_ok=True)
        self._tag.unlink(missing_ok=True)

    def publish(self, target: Path) -> None:
        """Give the finished file its name."""
        self._file.flush()
        self._path.replace(target)
        self._tag.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[_Part]:
    """The part at `path`, and no other process's. OutputError: another process is at it."""
    while True:
        with path.open("ab+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise OutputError(f"{path} is being downloaded by another process; wait for it") from None
            except OSError:  # a file system without locks
                pass
            if path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno())):
                yield _Part(file, path)
                return
        # another process has given it its name between our opening and our locking


def _complete(part: _Part, url: str, progress: Progress | None, limit: int) -> None:
    """Fetch what the part lacks. MissingError: it cannot be had now."""
    for _ in range(_TRIES):
        before = part.have
        try:
            if _go_on(part, url, progress, limit):
                return
            why = "the connection broke off"
        except (OSError, http.client.HTTPException, ValueError) as error:
            why = _reason(error)
        if part.have == before:
            break
    if not part.have:
        part.forget()
    raise MissingError(f"{url} cannot be fetched: {why}")


def _go_on(part: _Part, url: str, progress: Progress | None, limit: int) -> bool:
    """One connection. Returns whether the file is whole; OSError, HTTPException or ValueError if the network fails."""
    try:
        answer = _open(url, part)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE or not part.have:
            raise
        part.restart()  # it is as long as the file, or longer, and not the file
        return False
    with answer:
        total = _total(part, answer)
        while block := answer.read1(_BLOCK):
            part.append(block)
            _check(part, url, total, limit)
            if progress:
                progress(part.have, total)
    return total is None or part.have == total


def _open(url: str, part: _Part) -> http.client.HTTPResponse:
    headers = {"User-Agent": f"twc/{__version__}", "Accept-Encoding": "identity"}
    if part.have:
        headers["Range"] = f"bytes={part.have}-"
        if part.tag:
            headers["If-Range"] = part.tag
    if urlsplit(url).scheme not in ("http", "https"):
        raise ValueError("only http and https addresses can be")
    answer: http.client.HTTPResponse = _opener().open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    return answer


def _total(part: _Part, answer: http.client.HTTPResponse) -> int | None:
    """The length of the whole file, if the answer says it. An answer that does not continue the part restarts it."""
    length = answer.headers.get("Content-Length", "")
    if answer.status == http.client.OK:
        part.restart(answer.headers.get("ETag"))
        return int(length) if length.isdecimal() else None
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
    if answer.status != http.client.PARTIAL_CONTENT or not found or int(found[1]) != part.have:
        part.restart()
        raise http.client.HTTPException("the server does not send the part that was asked for")
    return int(found[2]) if found[2].isdecimal() else None


def _check(part: _Part, url: str, total: int | None, limit: int) -> None:
    if max(part.have, total or 0) > limit:
        part.forget()
        raise LimitError(f"{url} has more than {limit} bytes, which is the limit for a checkpoint")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Not from https to http: who listens there could send anything."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if urlsplit(req.full_url).scheme == "https" and urlsplit(newurl).scheme != "https":
            raise urllib.error.HTTPError(req.full_url, code, "not to http", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """As urllib's own, with proxies, and without its ways to files, FTP and data."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        _Redirects(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def _reason(error: Exception) -> str:
    """In a few words, none of them the server's."""
    if isinstance(error, urllib.error.HTTPError):
        if error.code in (301, 302, 303, 307, 308):
            return f"the server redirects ({error.code}) to where twc does not follow"
        return f"the server answers {error.code} {http.client.responses.get(error.code, '')}".rstrip()
    inner = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(inner, TimeoutError):
        return f"no answer within {TIMEOUT:g} s"
    if isinstance(inner, OSError):
        return inner.strerror or str(inner) or "the connection broke off"
    if isinstance(inner, http.client.IncompleteRead):
        return "the connection broke off"
    return " ".join(str(inner).split()) or type(inner).__name__
