"""The examples in the pages run, in order, in one folder a page, and print what the pages show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

from .examples import Place, differs
from .pages import DOCS, ROOT, Block, blocks, dialogue
from .served import commands

PAGES = ("index", "tutorial", "research", "choosing", "faq", "defence")
RUN = ("sh", "console", "python")

README = ROOT / "README.md"
UNRUN = {
    "twc models pull": "needs a network",
    "twc encode --model mbt2018": "needs the model that was pulled",
    "s3://": "needs S3",
    "$TASK": "needs an array job",
    "make ": "installs",
    "pip ": "installs",
    "twc evaluate": "takes minutes; tests/robustness has it",
    "twc attack": "takes a minute; tests/cli/test_attack.py has it",
}
"""Lines of the README that are not run, by what is in them, and why."""


def in_page(name: str) -> list[Block]:
    return [block for block in blocks(DOCS / f"{name}.md") if block.kind in RUN]


@pytest.fixture(scope="module")
def bin_folder(tmp_path_factory):
    with commands(tmp_path_factory.mktemp("served")) as folder:
        yield folder


@pytest.fixture
def place(tmp_path, bin_folder) -> Place:
    """photo.jpg, photo.png and the folder photographs/, as the pages take for granted."""
    picture = Image.fromarray(skimage.data.astronaut()[:256, 100:356])
    picture.save(tmp_path / "photo.png")
    picture.save(tmp_path / "photo.jpg", quality=95)
    photographs = tmp_path / "photographs"
    (photographs / "cats").mkdir(parents=True)
    Image.fromarray(skimage.data.coffee()[100:292, 150:406]).save(photographs / "coffee.jpg", quality=95)
    Image.fromarray(skimage.data.rocket()[100:292, 200:456]).save(photographs / "rocket.png")
    Image.fromarray(skimage.data.chelsea()[40:232, 80:336]).save(photographs / "cats" / "chelsea.png")
    return Place(tmp_path, bin_folder)


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_of_a_page_run_and_print_what_it_shows(page, place):
    for block in in_page(page):
        if not block.reason:
            place.run(block)


@pytest.mark.parametrize("block", [b for page in PAGES for b in in_page(page) if b.reason], ids=lambda b: b.where)
def test_an_example_that_is_not_run_says_why(block):
    pytest.skip(f"{block.where}: {block.reason}")


def readme_lines() -> list[str]:
    """The commands of the README: the lines that stand four to the right."""
    lines = [
        line[4:].partition("  #")[0].strip() for line in README.read_text().splitlines() if line.startswith("    ")
    ]
    return [line for line in lines if line]


def reason_of(line: str) -> str:
    return next((reason for words, reason in UNRUN.items() if words in line), "")


def test_the_readmes_examples_run(place):
    (place.folder / "photo.png").rename(place.folder / "a.png")
    for line in readme_lines():
        if not reason_of(line):
            code, out = place.shell(f"set -o pipefail\n{line}")
            assert code == 0, f"README: {line}\n{out}"
    for block in blocks(README):
        place.run(block)


@pytest.mark.parametrize("line", [line for line in readme_lines() if reason_of(line)])
def test_a_line_of_the_readme_that_is_not_run(line):
    pytest.skip(reason_of(line))


def test_three_guides_for_researchers_are_whole_programs_of_some_fifty_lines():
    programs = [block for block in in_page("research") if block.kind == "python" and block.title]
    assert [p.title for p in programs] == ["own_model.py", "own_transform.py", "own_attack.py"]
    assert all(len(program.text.splitlines()) <= 55 for program in programs)


def test_every_picture_a_page_shows_is_there_and_small():
    shown = list((DOCS / "images").glob("defence-*"))
    assert shown
    assert sum(path.stat().st_size for path in shown) < 600_000


# what the tests above stand on


def test_notes_belong_to_the_block_behind_them():
    text = "<!-- not run: needs S3 -->\n```sh\ntwc a\n```\n\n```console\n$ twc b\nout\n```\n"
    first, second = blocks(README, text)
    assert (first.reason, first.kind, first.text) == ("needs S3", "sh", "twc a\n")
    assert (second.reason, second.line) == ("", 6)
    assert dialogue(second.text) == [("twc b", "out\n")]


@pytest.mark.parametrize(
    ("shown", "got", "varies", "same"),
    [
        ("a: 4112 bytes", "a: 4150 bytes", "", True),
        ("a: 4112 bytes", "a: 5150 bytes", "", False),
        ("a: 4112 bytes", "b: 4112 bytes", "", False),
        ("1\n...\n9", "1\nx\ny\n9", "", True),
        ("branch: identity (of 2)", "branch: flip-turn (of 2)", r"(?<=branch: )\S+", True),
        ("branch: identity (of 2)", "branch: flip-turn (of 3)", r"(?<=branch: )\S+", False),
        ("PSNR  33 dB", "PSNR   33 dB", "", True),
    ],
)
def test_numbers_may_be_a_little_off_and_words_may_not(shown, got, varies, same):
    assert (differs(shown, got, varies) == "") == same


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("```console\n$ twc info none.twc\n```", "failed"),
        ("```sh\ntwc info none.twc\n```", "failed"),
        ("```console\n$ twc info photo.jpg || true\nphoto.jpg is a TWC file\n```", "the words differ"),
        ("```python\nimport sys\nsys.exit(1)\n```", "failed"),
    ],
)
def test_an_example_that_does_otherwise_is_found(place, text, words):
    (block,) = blocks(README, text)
    with pytest.raises(AssertionError, match=words):
        place.run(block)


def test_a_shell_sees_pipes_and_exit_codes(place: Place):
    code, out = place.shell("cat photo.png | twc encode --quiet - - | twc info - | head -1; twc info nothing; echo $?")
    assert code == 0
    assert out.splitlines()[0] == "standard input"
    assert out.splitlines()[-1] == "3"
    assert Path(place.commands / "twc").exists()


def test_photographs_are_as_small_as_the_pages_say(place):
    sizes = {np.asarray(Image.open(path)).shape for path in (place.folder / "photographs").rglob("*.*")}
    assert sizes == {(192, 256, 3)}
