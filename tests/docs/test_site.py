"""The site builds without a warning, loads nothing from other servers, and quotes the figures that were measured."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import pytest

from .pages import DOCS, ROOT

BENCHMARKS = ROOT / "benchmarks"
MARKDOWN = [*sorted(DOCS.glob("*.md")), ROOT / "README.md", ROOT / "formats" / "twc-1.md"]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    pytest.importorskip("mkdocs")
    pytest.importorskip("material")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]  # --quiet forgives all
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


class Loaded(HTMLParser):
    """Addresses that a browser fetches by itself, and the names of places that links may lead to."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("script", "img", "iframe", "source"):
            self.fetched.append(given.get("src") or "")
        if tag == "link" and given.get("rel") not in ("canonical", "next", "prev"):
            self.fetched.append(given.get("href") or "")


def test_the_site_builds_with_every_page(site):
    made = {path.stem for path in site.glob("*.html")} - {"404"}
    assert made == {path.stem for path in DOCS.glob("*.md")} | {"format", "vectors", "changelog", "security"}


def test_nothing_is_loaded_from_other_servers(site):
    pages = sorted(site.glob("*.html"))
    assert pages
    for page in pages:
        outside = [address for address in Loaded(page).fetched if re.match(r"(https?:)?//", address)]
        assert not outside, f"{page.name} loads {outside}"
        styles = [path.read_text() for path in site.rglob("*.css")]
    assert not [found for text in styles for found in re.findall(r"url\(['\"]?https?:[^)]*\)", text)]


def test_the_format_is_the_file_itself(site):
    assert "1. Conventions" in (site / "format.html").read_text()
    assert not (DOCS / "format.md").exists()
    assert 'href="format.html"' in (site / "exactness.html").read_text()


def test_no_script_of_ours_is_published(site):
    assert not list(site.rglob("*.py"))


@pytest.mark.parametrize("page", MARKDOWN, ids=lambda path: path.name)
def test_links_to_files_hold_on_github(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        path = target.partition("#")[0]
        if path and ":" not in path:
            assert (page.parent / path).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("page", MARKDOWN, ids=lambda path: path.name)
def test_a_list_has_an_empty_line_before_it(page):
    """GitHub does without, the site does not."""
    previous, fenced = "", False
    for number, line in enumerate(page.read_text().splitlines(), 1):
        fenced ^= line.startswith("```")
        begins = re.match(r"[-*] ", line) and not fenced
        assert not begins or not previous or re.match(r"[-*] | ", previous), f"{page.name}:{number}"
        previous = line


def script(name: str) -> ModuleType:
    """A module of benchmarks/."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(BENCHMARKS))


def test_the_defences_figures_are_those_that_were_measured():
    made = script("defence_pictures")
    results, page = json.loads(made.RESULTS.read_text()), (DOCS / "defence.md").read_text()
    assert made.tables(results) in page
    assert made.means(results) in page


def test_the_figures_by_which_to_choose_are_those_that_were_measured():
    made = script("choosing")
    page = (DOCS / "choosing.md").read_text()
    for table in made.tables(json.loads(made.RESULTS.read_text())).split("\n\n"):
        assert table in page
