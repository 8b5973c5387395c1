"""What tells other programs about TWC files: the entry for `file`, the MIME type, the thumbnailer."""

from __future__ import annotations

import configparser
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

FORMATS = Path(__file__).resolve().parents[2] / "formats"
VALID = FORMATS / "vectors" / "valid"
MAGIC, MIME = FORMATS / "magic" / "twc", FORMATS / "mime" / "twc.xml"
THUMBNAILER = FORMATS / "desktop" / "twc.thumbnailer"
DEPTHS = {"1": "1-bit", "L": "8-bit grey", "LA": "8-bit grey+alpha", "RGB": "8-bit RGB", "RGBA": "8-bit RGBA"}


def output(*command: str | Path, **environment: str) -> str:
    if shutil.which(str(command[0])) is None:
        pytest.skip(f"no {command[0]} on this machine")
    done = subprocess.run(command, env={**os.environ, **environment}, check=True, capture_output=True, text=True)
    assert done.stderr == ""
    return done.stdout.strip()


def pictures() -> list[Path]:
    return sorted(path for path in VALID.glob("*.twc") if path.with_suffix(".png").exists())


@pytest.mark.parametrize("path", pictures(), ids=lambda path: path.stem)
def test_file_tells_the_size_and_the_mode_of_every_golden_file(path):
    with Image.open(path.with_suffix(".png")) as image:
        width, height = image.size
        depth = "16-bit grey" if image.mode.startswith("I") else DEPTHS[image.mode]
    version = "1.7" if path.stem == "later-minor" else "1.0"
    said = output("file", "-b", "-m", MAGIC, path)
    assert said == f"TWC image data, {width} x {height}, {depth}, version {version}"


def test_file_gives_the_mime_type_and_the_extension():
    path = VALID / "rgb-63x65.twc"
    assert output("file", "-b", "--mime-type", "-m", MAGIC, path) == "image/x-twc"
    assert output("file", "-b", "--extension", "-m", MAGIC, path) == "twc"


def test_file_takes_no_other_file_for_a_picture_of_ours():
    for path in (VALID / "rgb-63x65.png", FORMATS / "vectors" / "malformed" / "magic-cut.twc"):
        assert "TWC" not in output("file", "-b", "-m", MAGIC, path)


def test_the_entry_for_file_compiles(tmp_path):
    if shutil.which("file") is None:
        pytest.skip("no file on this machine")
    done = subprocess.run(["file", "-C", "-m", MAGIC], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert (tmp_path / "twc.mgc").stat().st_size > 0


@pytest.fixture
def data_home(tmp_path) -> Path:
    """A folder as ~/.local/share is, in which the type is installed."""
    packages = tmp_path / "share" / "mime" / "packages"
    packages.mkdir(parents=True)
    shutil.copy(MIME, packages)
    output("update-mime-database", packages.parent, XDG_DATA_HOME=str(tmp_path / "share"))
    return tmp_path / "share"


@pytest.mark.parametrize("name", ["photo.twc", "photo.TWC", "without-extension"])
def test_a_desktop_knows_the_type_by_the_name_or_by_the_first_bytes(data_home, tmp_path, name):
    path = tmp_path / name
    shutil.copy(VALID / "rgb-63x65.twc", path)
    said = output("gio", "info", "-a", "standard::content-type", path, XDG_DATA_HOME=str(data_home))
    assert said.endswith("standard::content-type: image/x-twc")


def test_the_mime_type_says_what_the_format_says():
    space = {"m": "http://www.freedesktop.org/standards/shared-mime-info"}
    kind = ElementTree.parse(MIME).getroot().find("m:mime-type", space)
    assert kind is not None
    assert kind.attrib["type"] == "image/x-twc"
    match = kind.find("m:magic/m:match", space)
    assert match is not None
    value = match.attrib["value"].encode().decode("unicode_escape").encode("latin-1")
    assert (VALID / "rgb-63x65.twc").read_bytes().startswith(value)
    assert len(value) == 8


def thumbnailer() -> dict[str, str]:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(THUMBNAILER)
    return dict(parser["Thumbnailer Entry"])


def test_the_thumbnailer_writes_into_the_file_that_a_desktop_has_open_for_it(tmp_path):
    """Tumbler reads through the descriptor with which it made the file: one that is put in its place is never seen."""
    source, target = tmp_path / "it's a $photo.twc", tmp_path / "thumbnail.png"
    shutil.copy(VALID / "rgb-63x65.twc", source)
    entry = thumbnailer()
    assert (entry["TryExec"], entry["MimeType"]) == ("twc", "image/x-twc;")
    names = {"%i": str(source), "%o": str(target)}
    command = [names.get(word, word) for word in shlex.split(entry["Exec"])]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with target.open("w+b") as opened:
        subprocess.run(command, check=True, env={**os.environ, "PATH": path})
        with Image.open(opened) as image:
            assert (image.format, image.size) == ("PNG", (63, 65))
