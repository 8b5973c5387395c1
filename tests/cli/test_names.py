"""File names are bytes: any that the system takes is taken, and shown as text."""

from __future__ import annotations

import json
import os

import pytest

NAMES = {
    "spaces": b"a photo of mine",
    "a line break": b"two\nlines",
    "quotes": b'it\'s "quoted" $(touch x) `y`',
    "another script": "写真 ñ".encode(),
    "not UTF-8": b"caf\xe9\xff\xfe",
    "a percent sign": b"100%s%d{0}[red]",
    "a leading dot": b".hidden",
    "every byte that is allowed": bytes(range(1, 47)) + bytes(range(48, 200)),
    "as long as can be": b"n" * 251,
}


@pytest.mark.parametrize("what", NAMES)
def test_any_name_is_taken(twc, photo, coded_bytes, tmp_path, what):
    picture, file = (tmp_path / os.fsdecode(NAMES[what] + suffix) for suffix in (b".png", b".twc"))
    photo.rename(picture)
    done = twc("encode", "--seed", 1, picture, file)
    assert done.code == 0
    assert len(done.err.splitlines()) == 1
    assert file.read_bytes() == coded_bytes
    assert twc("decode", "-f", file, picture).code == 0
    assert twc("verify", "--quiet", file).code == 0
    lines = len(twc("info", file).out.splitlines())
    assert set(tmp_path.iterdir()) == {picture, file}
    assert lines == len(twc("info", "-", stdin=coded_bytes).out.splitlines())
    twc("encode", picture, file).refused(7, "exists already")
    twc("info", picture).refused(3, "not a TWC file")


@pytest.mark.parametrize(
    "what",
    [
        "spaces",
        "a line break",
        "quotes",
        "another script",
        "a percent sign",
        "a leading dot",
    ],
)
def test_json_holds_the_name_as_it_is(twc, coded, tmp_path, what):
    file = tmp_path / os.fsdecode(NAMES[what] + b".twc")
    coded.rename(file)
    assert json.loads(twc("info", "--json", file).out)["file"] == str(file)


def test_json_is_valid_for_a_name_that_is_no_text(twc, coded, tmp_path):
    """A lone surrogate is no character: strict parsers refuse it."""
    file = tmp_path / os.fsdecode(b"caf\xe9.twc")
    coded.rename(file)
    json.loads(twc("info", "--json", file).out)["file"].encode()


def test_a_long_name_in_another_script(twc, coded, tmp_path):
    assert twc("decode", coded, tmp_path / ("写" * 83 + ".png")).code == 0


def test_a_name_that_is_too_long_to_read(twc, tmp_path):
    twc("info", tmp_path / ("n" * 300)).refused(3, "nnn", "too long")
    twc("encode", tmp_path / ("n" * 300), tmp_path / "a.twc").refused(3, "nnn", "too long")


def test_a_name_that_is_too_long_to_write(twc, photo, tmp_path):
    twc("encode", photo, tmp_path / ("n" * 300)).refused(7, "nnn", "too long")


def test_a_leading_dash_needs_a_double_dash_or_a_folder(twc, photo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photo.rename("-q.png")
    assert twc("encode", "-q.png", "-f.twc").code == 2
    assert twc("encode", "-q", 3, "--", "-q.png", "-f.twc").code == 0
    assert twc("decode", "./-f.twc", "./-b.png").code == 0
    assert twc("info", "--", "-f.twc").code == 0
    assert {path.name for path in tmp_path.iterdir()} == {"-b.png", "-f.twc", "-q.png"}


def test_a_file_called_dash_is_reached_by_its_folder(twc, photo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert twc("encode", photo, "./-").code == 0
    assert twc("decode", "./-", "b.png").code == 0


def test_an_empty_name_is_refused(twc, photo, coded, tmp_path, folder):
    assert twc("encode", "", tmp_path / "a.twc").code in (2, 3)
    assert twc("encode", photo, "").code in (2, 7)
    assert twc("decode", "", tmp_path / "b.png").code in (2, 3)
    assert twc("decode", coded, "").code in (2, 7)
    assert twc("info", "").code in (2, 3)
    assert folder() == {"photo.png", "photo.twc"}


def test_control_characters_of_a_name_do_not_reach_the_terminal(twc, coded, tmp_path):
    name = tmp_path / "\x1b[2J\rok.twc"
    twc("info", name).refused(3, "ok.twc")
    coded.rename(name)
    for text in (twc("info", tmp_path / "\x1b[2J\rno.twc").err, twc("info", name).out.decode()):
        assert "\x1b" not in text
        assert "\r" not in text


def test_the_table_shows_a_name_in_one_line(twc, coded, tmp_path):
    other = tmp_path / "two\nlines.twc"
    lines = len(twc("info", coded).out.splitlines())
    coded.rename(other)
    assert len(twc("info", other).out.splitlines()) == lines
