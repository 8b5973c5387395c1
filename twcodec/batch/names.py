"""Which pictures, and what their outputs are called: files, folders, globs, lists, URLs."""

from __future__ import annotations

import fnmatch
import glob
import itertools
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from twcodec.batch import storage
from twcodec.errors import UnreadableError, UsageError

PICTURES = frozenset(
    ".avif .bmp .dib .gif .ico .j2c .j2k .jfif .jp2 .jpc .jpe .jpeg .jpf .jpg .jpx .pbm .pcx .pgm .png .apng .pnm .ppm "
    ".qoi .sgi .tga .tif .tiff .webp".split()
)
"""Extensions that count as pictures in folders; files that are named are taken whatever they are called."""

TARS = frozenset([".tar"])

MANIFESTS = "twc-manifest*.jsonl"
"""What manifests are called; in place of the star a shard's has "-3-of-10"."""


@dataclass(frozen=True, slots=True)
class Found:
    """A source: path or URL. name: relative, with slashes, what its output is named after."""

    source: str
    name: str


@dataclass(frozen=True)
class Selection:
    """Which files of those that are found.

    recursive: also those in folders of folders. include, exclude: patterns of names as shells have them, matched with
    the relative path and with the last part; include stands in for `extensions`, which hold in folders only.
    """

    extensions: frozenset[str]
    recursive: bool = False
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def takes(self, name: str, named: bool) -> bool:
        """Whether a file is wanted. named: by the user, not found in a folder."""
        if self.excludes(name):
            return False
        if self.include:
            return any(_matches(name, pattern) for pattern in self.include)
        return named or PurePosixPath(name).suffix.lower() in self.extensions

    def excludes(self, name: str) -> bool:
        """Whether a pattern has this file, or a folder that it lies in."""
        parents = [name, *(str(parent) for parent in PurePosixPath(name).parents)]
        return any(_matches(part, pattern.rstrip("/")) for part in parents for pattern in self.exclude)


def find(
    sources: Iterable[str],
    selection: Selection,
    left_out: Callable[[str], None],
    avoid: str = "",
    listed: Iterable[Found] = (),
) -> list[Found]:
    """All sources, in a fixed order, none twice. listed: see `listed`.

    left_out: is told of files in folders whose extension is no picture's. avoid: a folder that is not looked into, that
    of the outputs. Errors: UnreadableError: nothing there.
    """
    found: dict[str, Found] = {}
    expanded = (_expanded(source, selection.recursive, avoid) for source in sources)
    for one, named in itertools.chain(((one, True) for one in listed), itertools.chain.from_iterable(expanded)):
        if selection.takes(one.name, named):
            found.setdefault(_absolute(one.source), one)
        elif not named and not selection.include and not selection.excludes(one.name):
            left_out(one.source)
    return list(found.values())


def listed(file: str) -> list[Found]:
    """Sources that a file lists, "-" for standard input, one a line, or ended by NUL as `find -print0` does.

    Their names are what the list says: an absolute path loses its root, one that leads out of the folder all but its
    end.
    """
    if file == "-" and sys.stdin is None:
        raise UnreadableError("standard input is closed")
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise UnreadableError(f"{file}: cannot be read: {error.strerror}") from None
    lines = data.split(b"\0") if b"\0" in data else [line.rstrip(b"\r") for line in data.split(b"\n")]
    if any(len(line) > _LONGEST_NAME or _CONTROL & set(line) for line in lines[:_LOOKED_AT]):
        raise UnreadableError(f"{file}: this is no list of names")
    return [Found(path, _relative(path)) for path in map(os.fsdecode, lines) if path]


_LONGEST_NAME, _LOOKED_AT, _CONTROL = 4096, 20, frozenset(range(9))


def _absolute(source: str) -> str:
    """The same for ./a.png as for a.png."""
    return source if storage.is_url(source) else os.path.abspath(source)  # noqa: PTH100 - links are names of their own


def _relative(path: str) -> str:
    if storage.is_url(path):
        return PurePosixPath(path.partition("://")[2]).name
    normal = os.path.normpath(path)
    parts = [part for part in Path(normal).parts if part != Path(normal).anchor]
    if ".." in parts or not parts:
        parts = parts[-1:] if parts and parts[-1] != ".." else [Path(path).resolve().name or "root"]
    return "/".join(parts)


def _inwards(name: str) -> str:
    """A name that leads nowhere but into a folder: what a bucket calls its objects is anybody's choice."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        parts = [part for part in parts[-1:] if part != ".."]
    return "/".join(parts) or "unnamed"


def _matches(name: str, pattern: str) -> bool:
    return fnmatch.fnmatch(name, pattern) or fnmatch.fnmatch(PurePosixPath(name).name, pattern)


def _expanded(source: str, recursive: bool, avoid: str) -> Iterator[tuple[Found, bool]]:
    """The files that one argument stands for, and whether it names them."""
    if not source:
        raise UsageError("an empty file name was given")
    if source == "-":
        raise UsageError("a batch reads no picture from a pipe; --files-from - reads names from one")
    if storage.is_url(source):
        yield from _remote(source, recursive)
    elif Path(source).is_dir():
        yield from ((found, Path(found.source).is_dir()) for found in _folder(source, recursive, avoid))
    elif os.path.lexists(source) or not glob.has_magic(source):
        yield Found(source, Path(source).name), True
    else:
        start = _fixed_part(source)
        matches = sorted(glob.glob(source, recursive=True))  # noqa: PTH207 - absolute patterns, too
        if not matches:
            raise UnreadableError(f"{source}: nothing matches")
        for match in matches:
            if Path(match).is_dir():
                if recursive:
                    inside = _folder(match, recursive, avoid)
                    yield from ((Found(f.source, _inside(f.source, start)), False) for f in inside)
            else:
                yield Found(match, _inside(match, start)), True


def _fixed_part(pattern: str) -> str:
    """The folders in front of the first wildcard."""
    parts = Path(pattern).parts
    fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    return str(Path(*parts[:fixed])) if fixed else ""


def _inside(path: str, folder: str) -> str:
    relative = Path(os.path.relpath(path, folder or "."))
    return relative.name if ".." in relative.parts else relative.as_posix()


def _folder(folder: str, recursive: bool, avoid: str) -> Iterator[Found]:
    """The files in it, by name; hidden ones are left alone."""
    avoided = os.path.realpath(avoid) if avoid and not storage.is_url(avoid) else ""
    closed: list[OSError] = []
    for here, folders, files in os.walk(folder, onerror=closed.append):
        inside = (f for f in folders if not f.startswith(".") and os.path.realpath(Path(here, f)) != avoided)
        folders[:] = sorted(inside) if recursive else []
        for name in sorted(files):
            if not name.startswith(".") and not fnmatch.fnmatch(name, MANIFESTS):
                path = str(Path(here, name))
                yield Found(path, _inside(path, folder))
    for error in closed:
        if str(error.filename) == folder:
            raise UnreadableError(f"{folder}: the folder cannot be read: {error.strerror}")
        yield Found(str(error.filename), _inside(str(error.filename), folder))  # fails as a picture, with a reason


def _remote(url: str, recursive: bool) -> Iterator[tuple[Found, bool]]:
    """What a URL stands for: a file, a folder of files, or a pattern; of the web, always a file."""
    system, path = storage.opened(url)
    if url.startswith(("http://", "https://")):
        yield Found(url, PurePosixPath(urlsplit(url).path).name or "index"), True
        return
    try:
        if glob.has_magic(path):
            start, folder = _fixed_part(path), False
            found = system.glob(path, detail=True)
            matches = sorted(match for match, about in found.items() if about["type"] != "directory")
        elif system.isdir(path):
            start, folder = path, True
            matches = sorted(system.find(path, maxdepth=None if recursive else 1))
        else:
            start, folder, matches = path.rsplit("/", 1)[0], False, [path]
    except Exception as error:
        raise UnreadableError(f"{url}: cannot be listed: {storage.reason(error)}") from None
    for match in matches:
        name = match.removeprefix(start).strip("/") or PurePosixPath(match).name
        stands_for_folder = folder and match.endswith("/")  # an empty object, which consoles of S3 make
        if not PurePosixPath(name).name.startswith(".") and not stands_for_folder:
            yield Found(url if match == path else str(system.unstrip_protocol(match)), _inwards(name)), not folder
