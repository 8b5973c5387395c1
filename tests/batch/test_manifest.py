"""A run goes on where the last one was stopped, does again what has changed, and replaces nothing of anybody else's."""

from __future__ import annotations

import fcntl
import json
import os
from collections import Counter

import pytest

from batch.conftest import done, lines, tree

MANIFEST = "twc-manifest.jsonl"


@pytest.fixture
def both(fill, tmp_path):
    """The command for two pictures."""
    fill("in/a.png", "in/b.png")
    return "encode", "in", "-o", "out"


def test_a_second_run_does_nothing(batch, engine, both, tmp_path):
    assert batch(*both).code == 0
    before = (tmp_path / "out" / "a.twc").stat()
    assert engine.seen == ["a.twc", "b.twc"]
    assert batch(*both).code == 0
    assert engine.seen == []
    assert (tmp_path / "out" / "a.twc").stat() == before


def test_the_manifest_says_what_was_made_of_what(batch, both, tmp_path):
    import hashlib

    assert batch(*both).code == 0
    head, *_ = lines(tmp_path / "out")
    assert (head["twc_manifest"], head["status"], head["job"]["kind"]) == (1, "run", "encode")
    for record, name in zip(done(tmp_path / "out"), ("a", "b"), strict=True):
        source, output = (tmp_path / "in" / f"{name}.png").read_bytes(), (tmp_path / "out" / f"{name}.twc").read_bytes()
        assert (record["source"], record["output"]) == (f"in/{name}.png", f"{name}.twc")
        assert (record["source_bytes"], record["bytes"]) == (len(source), len(output))
        assert record["source_sha256"] == hashlib.sha256(source).hexdigest()
        assert record["sha256"] == hashlib.sha256(output).hexdigest()
        assert record["settings"] == head["settings"]
        assert record["seconds"] > 0


@pytest.mark.parametrize("torn", [b'{"status": "done", "output": "b.t', b"{", b"\xff"])
def test_a_torn_last_line_is_cut_off(batch, engine, both, tmp_path, torn):
    assert batch(*both).code == 0
    manifest = tmp_path / "out" / MANIFEST
    whole = manifest.read_bytes()
    manifest.write_bytes(whole + torn)
    assert batch(*both).code == 0
    assert engine.seen == []
    assert manifest.read_bytes().startswith(whole + b'{"twc_manifest"')


def test_a_record_that_was_torn_is_made_again(batch, engine, both, tmp_path):
    assert batch(*both).code == 0
    manifest = tmp_path / "out" / MANIFEST
    manifest.write_bytes(manifest.read_bytes()[:-30])
    assert batch(*both).code == 0
    assert engine.seen == ["b.twc"]
    assert Counter(record["output"] for record in done(tmp_path / "out")) == {"a.twc": 1, "b.twc": 1}


def test_a_manifest_that_was_torn_in_its_first_line_is_begun_anew(batch, engine, both, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / MANIFEST).write_bytes(b'{"twc_manif')
    assert batch(*both).code == 0
    assert len(done(tmp_path / "out")) == 2


@pytest.mark.parametrize("more", [[], ["--no-resume"], ["--dry-run"]])
@pytest.mark.parametrize("content", [b"one\ntwo\n", b"no end of line", b'{"twc": 1}\n{"to', b"\x89PNG\r\n\x1a\n"])
def test_a_file_that_is_no_manifest_is_refused_and_left_as_it_is(batch, both, fill, tmp_path, content, more):
    (tmp_path / "precious").write_bytes(content)
    batch(*both, "--manifest", "precious", *more).refused(4, "precious", "no manifest", "--manifest")
    assert (tmp_path / "precious").read_bytes() == content
    assert not (tmp_path / "out").exists()


def test_a_damaged_line_is_named_and_can_be_forgotten_for_good(batch, engine, both, tmp_path):
    assert batch(*both).code == 0
    manifest = tmp_path / "out" / MANIFEST
    head, _, *rest = manifest.read_bytes().splitlines(keepends=True)
    manifest.write_bytes(head + b"\0" * 20 + b"\n" + b"".join(rest))
    batch(*both).refused(4, f"{MANIFEST}, line 2: damaged", "--no-resume")
    assert batch(*both, "--no-resume", "-f").code == 0
    assert len(engine.seen) == 2
    assert batch(*both).code == 0
    assert engine.seen == []


def test_a_manifest_of_a_later_version_is_refused(batch, both, tmp_path):
    (tmp_path / "m").write_text('{"twc_manifest": 2, "status": "run"}\n')
    batch(*both, "--manifest", "m").refused(5, "m is of a later version")


def test_a_second_run_at_the_same_time_is_refused(batch, engine, both, tmp_path):
    (tmp_path / "out").mkdir()
    with (tmp_path / "out" / MANIFEST).open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        batch(*both).refused(7, MANIFEST, "another run", "--shard")
        assert batch(*both, "--dry-run").code == 0
    assert engine.seen == []
    assert batch(*both).code == 0


@pytest.mark.parametrize("more", [["-q", "2"], ["--metadata", "none"], ["--transform", "never"], ["--seed", "3"]])
def test_changed_settings_do_it_again(batch, engine, both, more):
    assert batch(*both).code == 0
    assert batch(*both, *more).code == 0
    assert engine.seen == ["a.twc", "b.twc"]
    assert batch(*both, *more).code == 0
    assert engine.seen == []


@pytest.mark.parametrize("more", [["--threads", "1"], ["--jobs", "3"], ["--fsync"], ["-f"], ["--max-memory", "3G"]])
def test_what_changes_no_output_does_nothing_again(batch, engine, both, more):
    assert batch(*both).code == 0
    assert batch(*both, *more).code == 0
    assert engine.seen == []


def test_a_run_with_a_seed_is_gone_on_with_without_one(batch, engine, both):
    assert batch(*both, "--seed", 3).code == 0
    assert batch(*both).code == 0
    assert engine.seen == []
    assert batch(*both, "--seed", 4).code == 0
    assert len(engine.seen) == 2


def test_a_changed_source_is_done_again(batch, engine, both, small, tmp_path):
    assert batch(*both).code == 0
    before = (tmp_path / "out" / "a.twc").read_bytes()
    small(9).save(tmp_path / "in" / "a.png")
    assert batch(*both).code == 0
    assert engine.seen == ["a.twc"]
    assert (tmp_path / "out" / "a.twc").read_bytes() != before


def test_a_source_that_changed_but_not_in_size_is_done_again(batch, engine, both, small, tmp_path):
    for i, name in enumerate("ab"):
        small(i).save(tmp_path / "in" / f"{name}.png", "BMP")
    assert batch(*both).code == 0
    small(9).save(tmp_path / "in" / "a.png", "BMP")
    assert batch(*both).code == 0
    assert engine.seen == ["a.twc"]


@pytest.mark.parametrize("what", ["in/a.png", "out/a.twc"])
def test_what_was_merely_touched_is_not_done_again(batch, engine, both, tmp_path, what):
    assert batch(*both).code == 0
    os.utime(tmp_path / what, (1, 1))
    assert batch(*both).code == 0
    assert engine.seen == []


@pytest.mark.parametrize("how", ["missing", "cut", "altered"])
def test_an_output_that_is_not_as_it_was_written_is_made_again(batch, engine, both, twc, tmp_path, how):
    assert batch(*both).code == 0
    output = tmp_path / "out" / "a.twc"
    data = output.read_bytes()
    output.unlink()
    if how != "missing":
        output.write_bytes(data[:-1] if how == "cut" else data[:-1] + bytes([data[-1] ^ 1]))
    assert batch(*both).code == 0
    assert engine.seen == ["a.twc"]
    assert twc("verify", output).code == 0


def test_what_failed_is_tried_again(batch, engine, both, small, tmp_path):
    (tmp_path / "in" / "a.png").write_bytes(b"no picture")
    assert batch(*both).code == 1
    assert batch(*both).code == 1
    assert engine.seen == ["a.twc"]
    small(0).save(tmp_path / "in" / "a.png")
    assert batch(*both).code == 0
    assert engine.seen == ["a.twc"]
    assert len(done(tmp_path / "out")) == 2


def test_a_source_that_was_bad_for_a_while_replaces_its_own_output(batch, engine, both, small, tmp_path):
    assert batch(*both).code == 0
    (tmp_path / "in" / "a.png").write_bytes(b"no picture")
    assert batch(*both).code == 1
    small(9).save(tmp_path / "in" / "a.png")
    assert batch(*both).code == 0
    assert engine.seen == ["a.twc"]


def test_a_source_that_cannot_be_read_any_more_fails_alone(batch, engine, both, mortal, tmp_path):
    assert batch(*both).code == 0
    os.utime(tmp_path / "in" / "a.png", (1, 1))
    (tmp_path / "in" / "a.png").chmod(0)
    done_again = batch(*both)
    assert done_again.code == 1
    assert "in/a.png: cannot be read: Permission denied" in done_again.err
    assert "0 done, 1 skipped, 1 failed" in done_again.err


def test_a_file_of_somebody_elses_is_replaced_by_force_only(batch, engine, both, twc, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.twc").write_bytes(b"precious")
    for _ in range(2):  # that it failed does not make it ours
        refused = batch(*both)
        assert refused.code == 1
        assert "in/a.png: the output exists already; overwrite it with -f" in refused.err
        assert (tmp_path / "out" / "a.twc").read_bytes() == b"precious"
    assert batch(*both, "-f").code == 0
    assert engine.seen == ["a.twc"]
    assert twc("verify", tmp_path / "out" / "a.twc").code == 0


def test_a_file_of_somebody_elses_is_not_taken_for_that_of_a_killed_run(batch, engine, both, tmp_path):
    """The manifest must not say that it was begun: a run that was killed then could have made the file."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.twc").write_bytes(b"precious")
    assert batch(*both).code == 1
    assert not [line for line in lines(tmp_path / "out") if line["status"] == "started" and line["output"] == "a.twc"]


def test_no_resume_does_everything_again_and_replaces_by_force_only(batch, engine, both):
    assert batch(*both).code == 0
    refused = batch(*both, "--no-resume")
    assert (refused.code, engine.seen) == (1, [])
    assert "-f" in refused.err
    assert batch(*both, "--no-resume", "-f").code == 0
    assert len(engine.seen) == 2


def test_one_output_of_two_sources_is_the_firsts_and_stays_done(batch, engine, fill, tmp_path):
    fill("in/photo.jpg", "in/photo.png", "in/z.png")
    for run in range(3):
        result = batch("encode", "in", "-o", "out")
        assert result.code == 1
        assert "in/photo.png: photo.twc is what in/photo.jpg becomes; --keep-extension tells them apart" in result.err
        assert engine.seen == (["photo.twc", "z.twc"] if run == 0 else [])
    assert batch("encode", "in", "-o", "out2", "--keep-extension").code == 0
    assert tree(tmp_path / "out2") == ["photo.jpg.twc", "photo.png.twc", "z.png.twc"]


def test_each_shard_has_a_manifest_and_together_they_do_everything_once(batch, fill, tmp_path):
    fill(*(f"in/{i}.png" for i in range(5)))
    for i in (1, 2, 3):
        assert batch("encode", "in", "-o", "out", "--shard", f"{i}/3").code == 0
    made = [r["output"] for i in (1, 2, 3) for r in done(tmp_path / "out", f"twc-manifest-{i}-of-3.jsonl")]
    assert sorted(made) == tree(tmp_path / "out") == [f"{i}.twc" for i in range(5)]


def test_a_manifest_may_lie_elsewhere(batch, engine, both, tmp_path):
    assert batch(*both, "--manifest", "logs/m").code == 0
    assert batch(*both, "--manifest", "logs/m").code == 0
    assert engine.seen == []
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.twc", "b.twc"]
    assert json.loads((tmp_path / "logs" / "m").read_text().splitlines()[0])["twc_manifest"] == 1
