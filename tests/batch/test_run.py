"""A run: what is said, what is returned, and how it ends before its end."""

from __future__ import annotations

import io
import json
import os
import signal

import pytest
from PIL import Image

from batch.conftest import done, lines, tree
from twcodec.batch import storage
from twcodec.batch.work import Worker

ENCODE = ("encode", "in", "-o", "out")


def events(result) -> list[dict]:
    return [json.loads(line) for line in result.out.splitlines()]


def test_each_output_is_that_of_a_single_command_with_its_seed(batch, twc, fill, small, tmp_path):
    fill("in/rgb.png", "in/photo.jpg")
    small(2).convert("L").save(tmp_path / "in" / "grey.png")
    rgba = small(3).convert("RGBA")
    rgba.putalpha(small(4).convert("L"))
    rgba.save(tmp_path / "in" / "rgba.png")
    small(5).convert("CMYK").save(tmp_path / "in" / "cmyk.tif")
    assert batch(*ENCODE).code == 0
    records = done(tmp_path / "out")
    assert len({record["seed"] for record in records}) == len(records) == 5
    for record in records:
        single = twc("encode", "--seed", record["seed"], record["source"], "-")
        assert single.out == (tmp_path / "out" / record["output"]).read_bytes(), record["source"]


def test_one_seed_makes_the_same_files_in_any_order(batch, fill, tmp_path):
    fill("in/a.png", "in/b.png", "in/c.png")
    assert batch(*ENCODE, "--seed", 5).code == 0
    assert batch("encode", "in/c.png", "in/a.png", "in/b.png", "-o", "out2", "--seed", 5).code == 0
    for name in ("a.twc", "b.twc", "c.twc"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "out2" / name).read_bytes()
    assert len({record["seed"] for record in done(tmp_path / "out")}) == 3


def test_pictures_come_back_with_their_tree_in_the_format_asked_for(batch, fill, tmp_path):
    fill("in/a.png", "in/sub/b.png")
    assert batch(*ENCODE, "-r").code == 0
    assert batch("decode", "out", "-r", "-o", "back", "--format", "jpeg").code == 0
    assert tree(tmp_path / "back") == ["a.jpg", "sub/b.jpg"]
    for name in tree(tmp_path / "back"):
        with Image.open(tmp_path / "back" / name) as image:
            assert (image.format, image.size) == ("JPEG", (64, 48))
    assert batch("decode", "out", "-r", "-o", "back2").code == 0
    assert tree(tmp_path / "back2") == ["a.png", "sub/b.png"]


def test_a_corrupt_file_is_listed_with_its_reason_and_stops_nothing(batch, fill, tmp_path):
    fill("in/a.png", "in/b.png", "in/c.png")
    assert batch(*ENCODE).code == 0
    data = bytearray((tmp_path / "out" / "b.twc").read_bytes())
    data[len(data) // 2] ^= 8
    (tmp_path / "out" / "b.twc").write_bytes(data)
    result = batch("decode", "out", "-o", "back")
    assert result.code == 1
    assert [line for line in result.err.splitlines() if line.startswith("twc: out/b.twc: ")]
    assert "2 done, 0 skipped, 1 failed, of 3" in result.err
    assert tree(tmp_path / "back") == ["a.png", "c.png"]


def test_bad_pictures_are_each_listed_with_a_reason(batch, fill, twc, tmp_path):
    fill("in/good.png", "in/z.png")
    whole = (tmp_path / "in" / "good.png").read_bytes()
    bad = {"empty.png": b"", "cut.png": whole[:200], "text.jpg": b"hello", "large.png": None}
    for name, data in bad.items():
        if data is None:
            Image.new("L", (300, 300)).save(tmp_path / "in" / name)
        else:
            (tmp_path / "in" / name).write_bytes(data)
    result = batch(*ENCODE, "--max-pixels", 10000)
    assert result.code == 1
    for name in bad:
        assert len([line for line in result.err.splitlines() if line.startswith(f"twc: in/{name}: ")]) == 1
    assert "in/empty.png: the file is empty" in result.err
    assert "2 done, 0 skipped, 4 failed, of 6" in result.err
    assert tree(tmp_path / "out") == ["good.twc", "z.twc"]
    assert {r["source"]: r["code"] for r in lines(tmp_path / "out") if r["status"] == "failed"} == {
        "in/cut.png": 3,
        "in/empty.png": 3,
        "in/large.png": 6,
        "in/text.jpg": 3,
    }


def test_folders_that_are_closed_are_listed(batch, fill, mortal, tmp_path):
    fill("in/a.png", "in/closed/b.png")
    (tmp_path / "in" / "closed").chmod(0)
    try:
        result = batch(*ENCODE, "-r")
        assert result.code == 1
        assert "in/closed: cannot be read" in result.err
        assert tree(tmp_path / "out") == ["a.twc"]
        batch("encode", "in/closed", "-o", "out2").refused(3, "in/closed", "Permission denied")
    finally:
        (tmp_path / "in" / "closed").chmod(0o755)


def test_a_folder_of_outputs_that_is_closed_is_one_line(batch, fill, mortal, tmp_path):
    fill("in/a.png")
    (tmp_path / "out").mkdir(mode=0o555)
    batch(*ENCODE).refused(7, "out/twc-manifest.jsonl", "Permission denied")
    batch("encode", "in", "-o", "out/sub").refused(7, "out/sub", "Permission denied")


@pytest.mark.parametrize("option", [["--fail-fast"], ["--max-errors", "2"]])
def test_after_so_many_failures_nothing_more_is_begun(batch, engine, fill, tmp_path, option):
    fill(*(f"in/{i}.png" for i in range(6)))
    for i in (1, 2, 3):
        (tmp_path / "in" / f"{i}.png").write_bytes(b"no picture")
    failures = 1 if option == ["--fail-fast"] else 2
    result = batch(*ENCODE, *option)
    assert result.code == 1
    assert engine.seen == [f"{i}.twc" for i in range(1 + failures)]
    assert f"1 done, 0 skipped, {failures} failed, {5 - failures} not begun, of 6" in result.err
    assert batch(*ENCODE).code == 1
    assert tree(tmp_path / "out") == ["0.twc", "4.twc", "5.twc"]


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(batch, engine, fill, tmp_path):
    fill("in/a.png", "in/b.jpg", "in/b.png")
    result = batch(*ENCODE, "--dry-run")
    assert result.code == 0
    assert result.out.decode().splitlines()[:2] == ["in/a.png -> out/a.twc", "in/b.jpg -> out/b.twc"]
    assert b"in/b.png: would fail: b.twc is what" in result.out
    assert "2 of 3 would be done" in result.err
    assert not (tmp_path / "out").exists()

    assert batch("encode", "in/a.png", "-o", "out").code == 0
    manifest = tmp_path / "out" / "twc-manifest.jsonl"
    manifest.write_bytes(manifest.read_bytes() + b'{"torn')
    (tmp_path / "out" / "b.twc").write_bytes(b"precious")
    before = [(p.name, p.stat().st_mtime_ns, p.read_bytes()) for p in sorted((tmp_path / "out").iterdir())]
    result = batch(*ENCODE, "--dry-run")
    assert b"in/a.png" not in result.out
    assert b"in/b.jpg: would fail: the output exists already" in result.out
    assert engine.seen == []
    assert [(p.name, p.stat().st_mtime_ns, p.read_bytes()) for p in sorted((tmp_path / "out").iterdir())] == before


def test_events_are_json_a_line_on_standard_output(batch, fill, tmp_path):
    fill("in/a.png", "in/b.png")
    (tmp_path / "in" / "bad.png").write_bytes(b"no picture")
    (tmp_path / "in" / "notes.txt").touch()
    result = batch(*ENCODE, "--json", "--quiet")
    assert (result.code, result.err) == (1, "")
    left_out, *items, summary = events(result)
    assert left_out == {"event": "left-out", "source": "in/notes.txt"}
    assert {(e["event"], e["output"], e["status"]) for e in items} == {
        ("item", "a.twc", "done"),
        ("item", "b.twc", "done"),
        ("item", "bad.twc", "failed"),
    }
    assert summary["event"] == "summary"
    assert (summary["done"], summary["failed"], summary["skipped"], summary["not_begun"]) == (2, 1, 0, 0)
    assert summary["bytes"] == sum(e["bytes"] for e in items if e["status"] == "done")


def test_quiet_says_nothing_but_what_failed(batch, fill, tmp_path):
    fill("in/a.png")
    (tmp_path / "in" / "notes.txt").touch()
    result = batch(*ENCODE, "--quiet")
    assert (result.code, result.out, result.err) == (0, b"", "")
    (tmp_path / "in" / "bad.png").write_bytes(b"no picture")
    result = batch(*ENCODE, "--quiet")
    assert (result.code, result.out) == (1, b"")
    (line,) = result.err.splitlines()
    assert line.startswith("twc: in/bad.png: ")


def test_verbose_says_a_line_for_each(batch, fill):
    fill("in/a.png", "in/b.png")
    assert "in/b.png -> out/b.twc: " in batch(*ENCODE, "-v").err
    assert "in/b.png: done already" in batch(*ENCODE, "-v").err


def test_names_that_come_by_a_pipe_are_done(batch, fill, tmp_path):
    fill("in/a.png", "in/b.png")
    found = b"in/a.png\0in/b.png\0in/missing.png\0"
    result = batch("encode", "--files-from", "-", "-o", "out", stdin=found)
    assert result.code == 1
    assert "in/missing.png: cannot be read: " in result.err
    assert tree(tmp_path / "out") == ["in/a.twc", "in/b.twc"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_run_after_what_was_begun_and_it_goes_on_later(batch, engine, fill, tmp_path, number, code):
    fill(*(f"in/{i}.png" for i in range(4)))
    engine.before = lambda task: os.kill(os.getpid(), number) if task.key == "1.twc" else None
    result = batch(*ENCODE)
    assert (result.code, result.out) == (code, b"")
    assert "finishing what was begun; Ctrl-C again stops at once" in result.err
    assert "2 done, 0 skipped, 0 failed, 2 not begun, of 4" in result.err
    assert tree(tmp_path / "out") == ["0.twc", "1.twc"]
    engine.before = lambda task: None
    assert batch(*ENCODE).code == 0
    assert engine.seen == ["2.twc", "3.twc"]


def test_a_signal_at_the_last_picture_changes_nothing(batch, engine, fill):
    fill("in/a.png")
    engine.before = lambda task: os.kill(os.getpid(), signal.SIGINT)
    assert batch(*ENCODE).code == 0


def test_a_second_signal_stops_at_once_and_a_third_does_not_disturb_it(batch, engine, fill, tmp_path, monkeypatch):
    fill(*(f"in/{i}.png" for i in range(4)))
    tidy = storage.tidy

    def interrupt(task):
        if task.key == "1.twc":
            (tmp_path / "out" / temporary(task)).write_bytes(b"half of it")
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)

    def interrupted_tidy(name):
        os.kill(os.getpid(), signal.SIGINT)
        tidy(name)

    engine.before = interrupt
    with monkeypatch.context() as patch:
        patch.setattr(storage, "tidy", interrupted_tidy)
        result = batch(*ENCODE)
    assert result.code == 130
    assert "stopped; the same command goes on from here" in result.err
    assert tree(tmp_path / "out") == ["0.twc"]
    engine.before = lambda task: None
    assert batch(*ENCODE).code == 0
    assert engine.seen == ["1.twc", "2.twc", "3.twc"]


def temporary(task) -> str:
    return f".twc-{storage.token_of(task.target)}.tmp"


def test_what_a_killed_run_left_of_a_picture_that_is_bad_now_is_removed(batch, engine, fill, tmp_path):
    fill("in/a.png", "in/b.png")

    def die(task):
        (tmp_path / "out" / temporary(task)).write_bytes(b"half of it")
        raise SystemExit  # no more than SIGKILL would leave, but for the tidying

    engine.before = die
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("twcodec.batch.storage.tidy", lambda name: None)
        with pytest.raises(SystemExit):
            batch(*ENCODE)
    assert len(tree(tmp_path / "out")) == 1
    engine.before = lambda task: None
    (tmp_path / "in" / "a.png").write_bytes(b"no picture")
    assert batch(*ENCODE).code == 1
    assert tree(tmp_path / "out") == ["b.twc"]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["encod", "in", "-o", "out"], ["encod", "encode"]),
        (["encode", "in", "-o", "out", "--recursiv"], ["--recursiv", "--recursive"]),
        (["encode", "in"], ["--output-dir"]),
        (["encode", "-o", "out"], ["--files-from"]),
        (["encode", "in", "-o", ""], ["--output-dir"]),
        (["encode", "", "-o", "out"], ["empty file name"]),
        (["encode", "in", "-o", "out", "--shard", "4/3"], ["'4/3'", "3/10"]),
        (["encode", "in", "-o", "out", "--shard", "0/3"], ["'0/3'"]),
        (["encode", "in", "-o", "out", "--jobs", "0"], ["--jobs"]),
        (["encode", "in", "-o", "out", "--transforms", "warp"], ["warp", "flip-turn"]),
        (["encode", "in", "-o", "out", "--seed", "-1"], ["-1"]),
        (["encode", "in", "-o", "out", "--pack", "0"], ["--pack"]),
        (["encode", "empty", "-o", "out"], ["nothing to do", "-r"]),
        (["encode", "others", "-o", "out"], ["nothing to do", "1 files", "--include"]),
        (["decode", "in", "-o", "out", "--format", "gifs"], ["gifs", "JPEG"]),
    ],
)
def test_what_cannot_be_meant_is_one_line_before_anything_is_done(batch, fill, tmp_path, args, words):
    fill("in/a.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "notes.txt").touch()
    batch(*args).misused(*words)
    assert not (tmp_path / "out").exists()


def test_a_quality_that_the_model_has_not_is_said_once_not_for_each_picture(batch, engine, fill, tmp_path):
    fill("in/a.png", "in/b.png")
    batch(*ENCODE, "-q", 9).refused(2, "quality 9 is out of range")
    assert engine.seen == []
    assert batch(*ENCODE).code == 0


def test_what_cannot_be_found_is_one_line(batch, fill, tmp_path):
    fill("in/a.png")
    batch("encode", "in/*.jpg", "-o", "out").refused(3, "in/*.jpg: nothing matches")
    batch("encode", "--files-from", "list", "-o", "out").refused(3, "list", "No such file")
    batch("encode", "in", "-o", "in/a.png").refused(7, "in/a.png", "File exists")
    batch("encode", "in", "-o", "out", "--model", "mbt2018").refused(5, "mbt2018")
    assert not (tmp_path / "out").exists()
    batch("encode", "nowhere.png", "-o", "out", "--quiet").refused(3, "nowhere.png: there is no such file or folder")
    batch("encode", "-", "-o", "out").refused(2, "--files-from -")
    assert not (tmp_path / "out").exists()
    result = batch("encode", "nowhere.png", "in", "-o", "out", "--quiet")
    assert (result.code, len(result.err.splitlines())) == (1, 1)
    assert "nowhere.png: cannot be read: " in result.err


def test_data_that_is_written_to_standard_output_meanwhile_cannot_break_the_events(batch, engine, fill):
    fill("in/a.png")
    result = batch(*ENCODE, "--json", "-v")
    for line in io.BytesIO(result.out):
        json.loads(line)


def test_pipes_and_devices_are_no_pictures(batch, fill, tmp_path):
    fill("in/a.png")
    os.mkfifo(tmp_path / "in" / "pipe.png")
    (tmp_path / "in" / "zero.png").symlink_to("/dev/zero")
    run = batch("encode", "in", "-o", "out")
    assert run.code == 1
    assert run.err.count("it is a pipe or a device") == 2
    assert tree(tmp_path / "out") == ["a.twc"]


def test_a_source_that_changes_while_it_waits_is_done_again(batch, engine, fill, tmp_path, monkeypatch):
    """What is compared later is the file as it was before it was read."""
    (path,) = fill("in/a.png")
    before, make = path.stat(), Worker.make

    def later(self, data, seed):
        path.write_bytes(data[::-1])  # another file, of the same size
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 10**9))
        return make(self, data, seed)

    with monkeypatch.context() as patch:
        patch.setattr(Worker, "make", later)
        assert batch("encode", "in", "-o", "out").code == 0
    assert batch("encode", "in", "-o", "out").code == 1, "what is there now is no picture"


def test_what_is_too_large_for_a_share_is_tried_alone(batch, engine, fill, tmp_path, monkeypatch):
    from twcodec.batch.tasks import failed
    from twcodec.cli.batch import shared
    from twcodec.errors import ExitCode

    fill("in/a.png", "in/b.png", "in/c.png")

    class Small:
        workers = 2

        def run(self, tasks):
            for task in tasks:
                if task.key == "b.twc":
                    yield task, failed(task, ExitCode.LIMIT, "too large")
                else:
                    yield from engine.run(iter([task]))

    plain = shared._engines
    monkeypatch.setattr(shared, "_engines", lambda *given: (lambda: Small(), plain(*given)[0]))
    assert batch("encode", "in", "-o", "out").code == 0
    assert engine.seen == ["a.twc", "c.twc", "b.twc"]
    begun = [line["output"] for line in lines(tmp_path / "out") if line["status"] == "started"]
    assert sorted(begun) == ["a.twc", "b.twc", "c.twc"], "each is begun once"


def test_what_an_encoder_warns_of_is_said_at_the_end(batch, small, fill, tmp_path):
    fill("in/a.png")
    small(1).save(tmp_path / "in" / "moving.gif", save_all=True, append_images=[small(2)])
    run = batch("encode", "in", "-o", "out")
    assert run.code == 0
    assert "moving.gif: warning: only the first of 2 frames" in run.err
    assert "warning" not in batch("encode", "in", "-o", "again", "--quiet").err


def test_a_plan_is_json_where_events_are(batch, fill, tmp_path):
    fill("in/a.png", "in/b.png")
    assert batch("encode", "in/a.png", "-o", "out").code == 0
    found = events(batch("encode", "in", "-o", "out", "--dry-run", "--json"))
    assert [(e["event"], e["output"], e["verdict"]) for e in found] == [
        ("plan", "a.twc", "done"),
        ("plan", "b.twc", "do"),
    ]


def test_other_shards_know_what_is_done(batch, engine, fill, tmp_path):
    fill("in/a.png", "in/b.png", "in/c.png")
    for shard in ("1/2", "2/2"):
        assert batch("encode", "in", "-o", "out", "--shard", shard).code == 0
    for shard in ("1/3", "2/3", "1/1"):
        assert batch("encode", "in", "-o", "out", "--shard", shard).code == 0
        assert engine.seen == []


def test_outputs_that_come_of_nothing_any_more_are_named(batch, fill, tmp_path):
    paths = fill(*(f"in/{i}.png" for i in range(5)))
    assert batch("encode", "in", "-o", "out", "--pack", "2").code == 0
    assert "000002.tar" in batch("encode", "in", "-o", "out", "--pack", "4").err
    assert batch("encode", "in", "-o", "single").code == 0
    paths[3].unlink()
    assert "come of nothing any more: 1 (3.twc)" in batch("encode", "in", "-o", "single").err


def test_many_failures_of_one_kind_are_few_lines(batch, tmp_path):
    (tmp_path / "in").mkdir()
    for i in range(60):
        (tmp_path / "in" / f"{i:02d}.png").write_bytes(b"no picture")
    lines_said = batch("encode", "in", "-o", "out").err.splitlines()
    assert sum("no picture format" in line for line in lines_said) == 40
    assert any("60 such lines in all" in line for line in lines_said)


def test_what_is_no_list_is_not_taken_for_one(batch, fill, tmp_path):
    fill("in/a.png")
    batch("encode", "--files-from", "in/a.png", "-o", "out").refused(3, "in/a.png: this is no list of names")
