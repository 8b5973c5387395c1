"""The manual pages that docs/man.py makes: one for every command, all of its options, and no warning when shown."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "man.py"
SECTIONS = "NAME SYNOPSIS DESCRIPTION EXAMPLES OPTIONS EXIT_STATUS ENVIRONMENT SEE_ALSO".replace("_", "\0").split()


@pytest.fixture(scope="module")
def man():
    spec = importlib.util.spec_from_file_location("man", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(man, tmp_path_factory):
    made = tmp_path_factory.mktemp("man")
    for name, text in man.pages().items():
        (made / name).write_text(text)
    return made


def shown(path: Path) -> str:
    """A page as `man` shows it, on lines as long as they come."""
    if not shutil.which("man"):
        pytest.skip("man is not installed")
    env = {**os.environ, "MANWIDTH": "1000", "LC_ALL": "C.UTF-8", "MANOPT": ""}
    done = subprocess.run(["man", "--warnings", "-l", str(path)], env=env, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return re.sub(".\b", "", done.stdout)


def test_every_command_has_a_page(man):
    from twcodec.cli.main import COMMANDS

    names = set(man.pages())
    assert {"twc.1", "twc-batch-encode.1", "twc-models-import.1"} | {f"twc-{name}.1" for name in COMMANDS} <= names


def test_every_page_shows_without_a_warning_and_has_every_option(man, folder):
    for path, command, context in man.walk(man.twc):
        text = shown(folder / f"{'-'.join(path)}.1")
        for section in SECTIONS:
            assert re.search(rf"^{section.replace(chr(0), ' ')}$", text, re.MULTILINE), (path, section)
        for option in command.get_params(context):
            if isinstance(option, click.Option) and not option.hidden:
                for word in option.opts + option.secondary_opts:
                    assert re.search(rf"(?<![\w-]){word}(?![\w-])", text), (path, word)
        assert "\b" not in text


def test_every_page_begins_with_examples_after_one_paragraph(man):
    """`--help` has them there, and the page in a section of their own."""
    for path, command, _ in man.walk(man.twc):
        assert re.match(r"[^\x08]+?\n\n\s*\x08\n", command.help), path
        examples, paragraphs = man.told(command)
        assert " ".join(path) in examples or path == ("twc", "completion")
        assert paragraphs
        assert len(command.help.split("\b")[0].strip().split("\n\n")) == 1, path


def test_mandoc_finds_nothing_wrong_either(folder):
    if not shutil.which("mandoc"):
        pytest.skip("mandoc is not installed")
    command = ["mandoc", "-T", "lint", "-W", "warning", *map(str, sorted(folder.iterdir()))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_examples_can_be_copied(folder):
    """No typographic quotes or dashes, in whatever encoding."""
    text = shown(folder / "twc-batch-encode.1")
    assert "twc batch encode 'scans/**/*.tif' -q 6 --jobs 4 -o compressed/" in text
    for page in folder.iterdir():  # a bare "-" is a hyphen, which some systems show as another character
        assert not re.search(r"(?<!\\)-", page.read_text().split("\n", 1)[1]), page


def test_the_same_day_makes_the_same_pages(man, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert '"1970-01-02"' in man.pages()["twc.1"]
    assert man.pages() == man.pages()


def test_the_script_writes_them(man, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["man.py", str(tmp_path / "build" / "man")])
    man.main()
    assert (tmp_path / "build" / "man" / "twc-encode.1").is_file()
    assert "twc-encode.1" in capsys.readouterr().out
