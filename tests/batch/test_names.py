"""Which files are taken, and what their outputs are called."""

from __future__ import annotations

import io
import os
import sys

import pytest

from batch.conftest import tree
from twcodec.batch import names
from twcodec.batch.names import PICTURES, Selection
from twcodec.batch.run import Naming, tasks
from twcodec.errors import UnreadableError

RECURSIVE = Selection(PICTURES, recursive=True)


@pytest.fixture
def files(tmp_path, monkeypatch):
    """files("a.png", "sub/b.png"): empty files in the current folder."""
    monkeypatch.chdir(tmp_path)

    def make(*paths) -> None:
        for path in map(os.fsdecode, paths):
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).touch()

    return make


def find(*sources, selection=RECURSIVE, avoid="", left_out=None) -> dict[str, str]:
    """Name to source."""
    missing = [] if left_out is None else left_out
    found = names.find(sources, selection, missing.append, avoid)
    assert len({one.source for one in found}) == len(found)
    return {one.name: one.source for one in found}


def outputs(*sources, suffix=".twc", **naming) -> list[str]:
    """The keys of all tasks, "" for those that cannot be done."""
    found = names.find(sources, RECURSIVE, lambda source: None)
    planned = tasks(found, Naming("out", suffix, **naming))
    return [(one[0] if isinstance(one, tuple) else one).key for one in planned]


def test_a_folder_gives_its_pictures_in_order_and_says_what_it_leaves_out(files):
    files("in/b.png", "in/a.JPG", "in/notes.txt", "in/sub/c.png", "in/.hidden.png", "in/.git/d.png")
    left_out: list[str] = []
    assert list(find("in", selection=Selection(PICTURES), left_out=left_out)) == ["a.JPG", "b.png"]
    assert left_out == ["in/notes.txt"]


def test_recursion_keeps_the_tree_and_leaves_hidden_folders_alone(files):
    files("in/b.png", "in/sub/c.png", "in/sub/deep/c.png", "in/.git/d.png")
    assert list(find("in")) == ["b.png", "sub/c.png", "sub/deep/c.png"]
    assert outputs("in") == ["b.twc", "sub/c.twc", "sub/deep/c.twc"]


def test_a_pattern_names_outputs_after_what_lies_behind_its_fixed_folders(files):
    files("x/2020/a/1.png", "x/2020/b/2.png", "x/2021/a/3.png", "x/2020/a/notes.txt")
    assert list(find("x/2020/*/*.png")) == ["a/1.png", "b/2.png"]
    assert list(find("x/**/*.png")) == ["2020/a/1.png", "2020/b/2.png", "2021/a/3.png"]
    assert list(find("x/20*")) == ["2020/a/1.png", "2020/b/2.png", "2021/a/3.png"]
    assert list(find("./x/2020/a/*.png", "x/2020/a/1.png")) == ["1.png"]


def test_a_pattern_never_leads_out_of_the_output_folder(files, tmp_path, monkeypatch):
    files("x/a/1.png", "y.png")
    assert list(find("x/*/../../*.png")) == ["y.png"]


def test_a_pattern_that_matches_nothing_is_an_error(files):
    with pytest.raises(UnreadableError, match=r"x/\*\.png: nothing matches"):
        find("x/*.png")


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(files):
    files("photo[1].png", "photo1.png")
    assert list(find("photo[1].png")) == ["photo[1].png"]


def test_a_file_that_is_named_is_taken_whatever_it_is_called(files):
    files("scan.dat", ".hidden.png")
    assert list(find("scan.dat", ".hidden.png")) == ["scan.dat", ".hidden.png"]


def test_no_source_is_there_twice(files):
    files("in/a.png", "in/sub/b.png")
    assert list(find("in", "in/", "./in/a.png", "in/sub/../a.png", "in/sub")) == ["a.png", "sub/b.png"]


def test_include_and_exclude_match_the_path_and_its_last_part(files):
    files("in/a.png", "in/a.dat", "in/thumbs/a.png", "in/thumbs/b.png", "in/c.jpg")

    def names_with(include=(), exclude=(), left_out=None):
        return list(find("in", selection=Selection(PICTURES, True, include, exclude), left_out=left_out))

    left_out: list[str] = []
    assert names_with(include=("a.*",), left_out=left_out) == ["a.dat", "a.png", "thumbs/a.png"]
    assert names_with(exclude=("thumbs/*", "*.dat"), left_out=left_out) == ["a.png", "c.jpg"]
    assert left_out == []  # it was said that they are not wanted
    assert names_with(include=("*.png",), exclude=("thumbs/*",)) == ["a.png"]


def test_the_folder_of_outputs_is_not_looked_into(files, tmp_path):
    files("in/a.png", "in/out/a.png", "in/outer/b.png")
    assert list(find("in", avoid="in/out")) == ["a.png", "outer/b.png"]
    assert list(find(str(tmp_path / "in"), avoid="in/../in/out/")) == ["a.png", "outer/b.png"]


@pytest.mark.parametrize(
    "data",
    [b"in/a.png\nin/b c.png\n", b"in/a.png\nin/b c.png", b"in/a.png\r\nin/b c.png\r\n", b"in/a.png\0in/b c.png\0"],
)
def test_a_list_has_lines_of_any_system_or_nul(tmp_path, monkeypatch, data):
    (tmp_path / "list").write_bytes(data)
    assert [one.source for one in names.listed(str(tmp_path / "list"))] == ["in/a.png", "in/b c.png"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert [one.source for one in names.listed("-")] == ["in/a.png", "in/b c.png"]


def test_a_newline_in_a_name_survives_where_nul_ends_it(tmp_path):
    (tmp_path / "list").write_bytes(b"a\nb.png\0c.png\0")
    assert [one.source for one in names.listed(str(tmp_path / "list"))] == ["a\nb.png", "c.png"]


def test_listed_paths_keep_their_folders_but_never_lead_out_of_the_output_folder(tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    paths = ["/data/a/b.png", "../up/c.png", "./d/./e.png", "d/../f.png", "..", ".", "/"]
    (tmp_path / "list").write_text("\n".join(paths))
    assert [one.name for one in names.listed(str(tmp_path / "list"))] == [
        "data/a/b.png",
        "c.png",
        "d/e.png",
        "f.png",
        tmp_path.name,
        "work",
        "root",
    ]
    planned = tasks(names.listed(str(tmp_path / "list")), Naming("out", ".twc"))
    assert all(isinstance(one, tuple) or os.path.normpath(one.target).startswith("out/") for one in planned)


def test_names_that_are_no_unicode_are_names(batch, fill, tmp_path):
    stray = os.fsdecode(b"in/caf\xe9.png")
    fill(stray, "in/new\nline.png")
    assert batch("encode", "in", "-o", "out", "--json").code == 0
    assert sorted(os.fsencode(name) for name in tree(tmp_path / "out")) == [b"caf\xe9.twc", b"new\nline.twc"]
    assert batch("encode", "--files-from", "-", "-o", "out2", stdin=b"in/caf\xe9.png\n").code == 0
    assert os.fsencode(tree(tmp_path / "out2")[0]) == b"in/caf\xe9.twc"
    assert b'"skipped": 2' in batch("encode", "in", "-o", "out", "--json").out


@pytest.mark.parametrize("pack", [0, 3])
def test_shards_together_do_everything_once(files, pack):
    files(*(f"in/{i:02d}.png" for i in range(23)))
    found = names.find(["in"], RECURSIVE, lambda source: None)
    parts = [list(tasks(found, Naming("out", ".twc", pack=pack, shard=(i, 5)))) for i in range(1, 6)]
    everything = [task for part in parts for task in part]
    sources = [m.source for task in everything for m in task.members] if pack else [t.source for t in everything]
    assert sorted(sources) == [one.source for one in found]
    assert len({task.key for task in everything}) == len(everything)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_two_sources_of_one_output_are_told_apart_in_whatever_shard_they_are(files):
    files("in/photo.jpg", "in/photo.png")
    found = names.find(["in"], RECURSIVE, lambda source: None)
    ((task, reason),) = tasks(found, Naming("out", ".twc", shard=(2, 2)))
    assert task.source == "in/photo.png"
    assert "in/photo.jpg" in reason
    assert outputs("in") == ["photo.twc", ""]
    assert outputs("in", keep=True) == ["photo.jpg.twc", "photo.png.twc"]


def test_only_the_last_extension_is_replaced(files):
    files("in/a.tar.gz.png", "in/v1.2.png", "in/shard.tar")
    assert outputs("in/*") == ["a.tar.gz.twc", "shard.tar", "v1.2.twc"]
    assert outputs("in/*", suffix=".png", keep=True)[1] == "shard.tar"


def test_folders_may_be_excluded_with_all_that_is_in_them(tmp_path):
    for name in ("a.png", "sub/b.png", "sub/deep/c.png", "other/sub.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for pattern in ("sub", "sub/", "su?"):
        selection = Selection(PICTURES, recursive=True, exclude=(pattern,))
        found = names.find([str(tmp_path)], selection, lambda _: None)
        assert [one.name for one in found] == ["a.png", "other/sub.png"]
