"""Pictures in tar files: in, out, and packed from single files."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from batch.conftest import done, tree
from twcodec.batch import tar


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def write(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as out:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1234567890
            out.addfile(info, io.BytesIO(data))
    return path


def read(path: Path) -> dict[str, bytes]:
    """Name to bytes, in order; no name is there twice."""
    with tarfile.open(path) as found:
        members = found.getmembers()
        assert len({m.name for m in members}) == len(members)
        return {m.name: found.extractfile(m).read() for m in members}


@pytest.fixture
def samples(small) -> dict[str, bytes]:
    """Two samples as WebDataset has them."""
    return {"x/0.png": png(small(0)), "x/0.cls": b"7", "x/1.png": png(small(1)), "x/1.json": b'{"a": 1}'}


@pytest.fixture
def shard(samples, tmp_path) -> Path:
    return write(tmp_path / "in" / "s.tar", samples)


def test_pictures_are_compressed_and_labels_copied_in_order(batch, shard, samples, tmp_path):
    assert batch("encode", "in", "-o", "out").code == 0
    assert tree(tmp_path / "out") == ["s.tar"]
    made = read(tmp_path / "out" / "s.tar")
    assert list(made) == ["x/0.twc", "x/0.cls", "x/1.twc", "x/1.json"]
    assert (made["x/0.cls"], made["x/1.json"]) == (b"7", b'{"a": 1}')
    with tarfile.open(tmp_path / "out" / "s.tar") as found:
        assert found.getmember("x/0.twc").mtime == 1234567890


def test_each_picture_has_a_seed_of_its_own_that_makes_the_same_bytes(batch, twc, shard, samples, tmp_path):
    assert batch("encode", "in", "-o", "out").code == 0
    (record,) = done(tmp_path / "out")
    made = read(tmp_path / "out" / "s.tar")
    assert [p["name"] for p in record["pictures"]] == ["x/0.twc", "x/1.twc"]
    for picture, source in zip(record["pictures"], ("x/0.png", "x/1.png"), strict=True):
        assert picture["seed"] == tar.seed_of(record["seed"], source)
        alone = twc("encode", "--seed", picture["seed"], "-", "-", stdin=samples[source])
        assert alone.out == made[picture["name"]]
        assert picture["bytes"] == len(alone.out)


def test_a_bad_picture_is_listed_left_out_and_tried_again(batch, engine, shard, samples, tmp_path):
    write(shard, {**samples, "x/2.jpg": b"no picture", "x/3.txt": b"kept"})
    for _ in range(2):
        result = batch("encode", "in", "-o", "out")
        assert (result.code, engine.seen) == (1, ["s.tar"])
        assert "in/s.tar: x/2.jpg: " in result.err
        assert "1 pictures in tar files failed" in result.err
        assert list(read(tmp_path / "out" / "s.tar"))[-2:] == ["x/1.json", "x/3.txt"]
    write(shard, samples)
    assert batch("encode", "in", "-o", "out").code == 0
    assert batch("encode", "in", "-o", "out").code == 0
    assert engine.seen == []


def test_two_pictures_of_one_name_are_both_there(batch, small, tmp_path):
    write(tmp_path / "in" / "s.tar", {"a.png": png(small(0)), "a.bmp": png(small(1))})
    assert batch("encode", "in", "-o", "out").code == 0
    assert list(read(tmp_path / "out" / "s.tar")) == ["a.twc", "a.bmp.twc"]


def test_a_link_to_a_picture_is_not_lost_in_silence(batch, small, tmp_path):
    write(tmp_path / "in" / "s.tar", {"a.png": png(small(0))})
    with tarfile.open(tmp_path / "in" / "s.tar", "a") as out:
        info = tarfile.TarInfo("b.png")
        info.type, info.linkname = tarfile.LNKTYPE, "a.png"
        out.addfile(info)
    result = batch("encode", "in", "-o", "out")
    assert result.code == 1
    assert "b.png: it is a link to a.png" in result.err


def sizes_where_cut(shard: Path) -> dict[str, int]:
    with tarfile.open(shard) as found:
        second = found.getmembers()[1]
    return {"in a picture": 900, "in a header": second.offset + 100, "between files": second.offset, "at once": 0}


@pytest.mark.parametrize("where", ["in a picture", "in a header", "between files", "at once"])
def test_a_truncated_tar_file_is_refused(batch, shard, tmp_path, where):
    shard.write_bytes(shard.read_bytes()[: sizes_where_cut(shard)[where]])
    result = batch("encode", "in", "-o", "out")
    assert result.code == 1
    assert "in/s.tar: " in result.err
    assert tree(tmp_path / "out") == []


def test_what_is_no_tar_file_is_refused(batch, tmp_path):
    (tmp_path / "a.tar").write_bytes(b"hello" * 1000)
    result = batch("encode", "a.tar", "-o", "out")
    assert result.code == 1
    assert "a.tar: not a sound tar file" in result.err
    assert tree(tmp_path / "out") == []


def test_a_tar_file_never_replaces_itself(batch, shard, samples):
    for more in ([], ["-f"]):
        result = batch("encode", "in", "-o", "in", *more)
        assert result.code == 1
        assert "in/s.tar: the output is the input itself" in result.err
        assert read(shard) == samples


def test_a_tar_file_comes_back(batch, shard, samples, small, tmp_path):
    assert batch("encode", "in", "-o", "out").code == 0
    assert batch("decode", "out/*.tar", "-o", "back", "--format", "bmp").code == 0
    back = read(tmp_path / "back" / "s.tar")
    assert list(back) == ["x/0.bmp", "x/0.cls", "x/1.bmp", "x/1.json"]
    assert back["x/0.cls"] == b"7"
    with Image.open(io.BytesIO(back["x/0.bmp"])) as image:
        assert (image.format, image.size) == ("BMP", (64, 48))


def test_single_pictures_are_packed(batch, engine, twc, fill, tmp_path):
    paths = fill(*(f"in/{i // 2}/{i}.png" for i in range(5)))
    assert batch("encode", "in", "-r", "-o", "out", "--pack", 2).code == 0
    assert tree(tmp_path / "out") == ["000000.tar", "000001.tar", "000002.tar"]
    made = [read(tmp_path / "out" / name) for name in tree(tmp_path / "out")]
    assert [list(m) for m in made] == [["0/0.twc", "0/1.twc"], ["1/2.twc", "1/3.twc"], ["2/4.twc"]]
    seeds = {p["name"]: p["seed"] for record in done(tmp_path / "out") for p in record["pictures"]}
    assert twc("encode", "--seed", seeds["1/2.twc"], paths[2], "-").out == made[1]["1/2.twc"]
    assert batch("encode", "in", "-r", "-o", "out", "--pack", 2).code == 0
    assert engine.seen == []


def test_a_pack_is_made_again_when_other_pictures_fall_into_it(batch, engine, small, tmp_path):
    """All of a size and an age, so that names alone tell."""
    import os

    (tmp_path / "in").mkdir()
    for i in range(4):
        small(i).save(tmp_path / "in" / f"{i}.bmp")
        os.utime(tmp_path / "in" / f"{i}.bmp", (1, 1))
    assert batch("encode", "in", "-o", "out", "--pack", 2).code == 0
    (tmp_path / "in" / "1.bmp").unlink()
    assert batch("encode", "in", "-o", "out", "--pack", 2).code == 0
    assert engine.seen == ["000000.tar", "000001.tar"]
    assert list(read(tmp_path / "out" / "000000.tar")) == ["0.twc", "2.twc"]
    assert batch("encode", "in", "-o", "out", "--pack", 2).code == 0
    assert engine.seen == []


def test_a_bad_picture_is_left_out_of_a_pack(batch, fill, tmp_path):
    fill("in/a.png", "in/b.jpg", "in/b.png")
    (tmp_path / "in" / "c.png").write_bytes(b"")
    result = batch("encode", "in", "-o", "out", "--pack", 9)
    assert result.code == 1
    assert "c.png: the file is empty" in result.err
    assert list(read(tmp_path / "out" / "000000.tar")) == ["a.twc", "b.twc", "b.png.twc"]


def test_no_two_names_share_a_seed():
    seeds = {tar.seed_of(seed, f"{i}.png") for seed in range(30) for i in range(30)}
    assert len(seeds) == 900
    assert max(seeds) < 2**31
    assert tar.seed_of(1, "a") == tar.seed_of(1, "a")


def test_a_damaged_header_is_not_taken_for_the_end(batch, samples, tmp_path):
    """tarfile ends in silence where a header's checksum is wrong."""
    path = write(tmp_path / "in" / "s.tar", samples)
    with tarfile.open(path) as found:
        at = found.getmember("x/1.png").offset
    data = bytearray(path.read_bytes())
    data[at + 3] ^= 1
    path.write_bytes(data)
    run = batch("encode", "in", "-o", "out")
    assert run.code == 1
    assert f"the tar file is damaged at byte {at}" in run.err
    assert tree(tmp_path / "out") == []


def test_what_follows_the_end_is_not_lost_in_silence(batch, samples, tmp_path):
    """cat a.tar b.tar > in/s.tar"""
    one, two = (write(tmp_path / name, samples) for name in ("a.tar", "b.tar"))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "s.tar").write_bytes(one.read_bytes() + two.read_bytes())
    run = batch("encode", "in", "-o", "out")
    assert run.code == 1
    assert "or another one follows" in run.err


def test_three_pictures_of_one_name_and_a_label_of_that_name(batch, small, tmp_path):
    members = {"a.png": png(small(0)), "a.bmp": b"", "a.gif": b"", "a.png.twc": b"label"}
    for kind in ("BMP", "GIF"):
        file = io.BytesIO()
        small(1).save(file, kind)
        members[f"a.{kind.lower()}"] = file.getvalue()
    write(tmp_path / "in" / "s.tar", {**members})
    assert batch("encode", "in", "-o", "out").code == 0
    assert list(read(tmp_path / "out" / "s.tar")) == ["a.twc", "a.bmp.twc", "a.gif.twc", "a.png.twc"]
    taken = {"a.twc", "a.png.twc"}
    assert tar._name("a.png", ".twc", taken) == "a.png-2.twc"


def test_a_label_that_has_the_name_of_an_output_is_listed(batch, small, tmp_path):
    write(tmp_path / "in" / "s.tar", {"a.png": png(small(0)), "a.twc": b"label"})
    run = batch("encode", "in", "-o", "out")
    assert run.code == 1
    assert "a.twc: there is something of this name already" in run.err
    assert list(read(tmp_path / "out" / "s.tar")) == ["a.twc"]
    assert read(tmp_path / "out" / "s.tar")["a.twc"] != b"label"


def test_a_pack_of_three_of_one_name_has_all(batch, fill, tmp_path):
    fill("in/1/a.png", "in/2/a.png", "in/3/a.png")
    assert batch("encode", "in/1", "in/2", "in/3", "-o", "out", "--pack", "9").code == 0
    assert list(read(tmp_path / "out" / "000000.tar")) == ["a.twc", "a.png.twc", "a.png-2.twc"]
