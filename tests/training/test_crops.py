import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from twcodec.errors import UnreadableError, UsageError
from twcodec.training import crops
from twcodec.training.crops import Loader, batch, load


def test_every_picture_under_a_folder_is_found_and_some_are_held_out(photographs):
    found = load([photographs], 128)
    names = {p.path.name for p in found.train} | {p.path.name for p in found.held_out}
    assert len(found.train) + len(found.held_out) == 7
    assert "grey.png" in names
    assert len(found.held_out) == 1
    assert not {p.path for p in found.train} & {p.path for p in found.held_out}


def test_pictures_that_are_small_or_broken_are_left_out_with_a_reason(photographs, tmp_path):
    Image.new("RGB", (90, 500)).save(tmp_path / "thin.png")
    (tmp_path / "notes.txt").write_text("no picture")
    found = load([photographs, tmp_path], 128)
    assert len(found.train) + len(found.held_out) == 7
    assert any("thin.png: 90x500 pixels, 128 a side are needed" in line for line in found.skipped)
    assert any("notes.txt" in line for line in found.skipped)
    with pytest.raises(UsageError, match="0 pictures of at least 128"):
        load([tmp_path], 128)


def test_a_batch_depends_on_nothing_but_its_arguments(photographs):
    found = load([photographs], 128).train
    first, again, other = (batch(found, step, 5, 4, 128, 7) for step in (3, 3, 4))
    assert torch.equal(first.x, again.x)
    assert torch.equal(first.rows, again.rows)
    assert first.rng_seed == again.rng_seed
    assert not torch.equal(first.x, other.x)
    assert not torch.equal(first.x, batch(found, 3, 6, 4, 128, 7).x)


def test_batches_are_pictures(photographs):
    made = batch(load([photographs], 128).train, 0, 0, 8, 128, 7)
    assert made.x.shape == (8, 3, 128, 128)
    assert made.x.is_contiguous(memory_format=torch.channels_last)
    assert 0 <= float(made.x.min()) < 0.3
    assert 0.7 < float(made.x.max()) <= 1


def test_quality_rows_are_spread_evenly(photographs):
    found = load([photographs], 128).train
    for size in (3, 7, 16):
        counts = np.bincount(batch(found, 1, 0, size, 64, 7).rows.numpy(), minlength=7)
        assert counts.max() - counts.min() <= 1
    drawn = np.concatenate([batch(found, step, 0, 2, 64, 7).rows.numpy() for step in range(60)])
    assert np.bincount(drawn, minlength=7).min() > 5


def test_the_loader_gives_the_same_batches_from_any_step(photographs):
    found = load([photographs], 128).train
    loader = Loader(found, 1, 2, 64, 7)
    for step in (40, 41, 42):
        assert torch.equal(loader(step).x, batch(found, step, 1, 2, 64, 7).x)
    loader.close()


def test_each_file_counts_once_and_the_runs_folder_not_at_all(photographs, tmp_path):
    run = photographs / "run"
    run.mkdir()
    Image.new("RGB", (300, 300)).save(run / "rd.png")
    (tmp_path / "link.png").symlink_to(photographs / "00.png")
    (run / "settings.json").write_text("{}")
    found = load([photographs, photographs / "00.png", tmp_path], 128)
    shutil.rmtree(run)
    assert len(found.train) + len(found.held_out) == 7


def test_a_run_may_lie_in_the_folder_of_its_photographs(tmp_path):
    for name in ("a.png", "b.png", "rd.png"):
        Image.new("RGB", (130, 130)).save(tmp_path / name)
    assert "rd.png" in {p.path.name for p in (lambda f: [*f.train, *f.held_out])(load([tmp_path], 128))}
    (tmp_path / "settings.json").write_text("{}")
    found = load([tmp_path], 128)
    assert {p.path.name for p in (*found.train, *found.held_out)} == {"a.png", "b.png"}


def test_names_that_are_no_text_and_files_that_are_none(tmp_path):
    for name in ("a.png", "b.png"):
        Image.new("RGB", (130, 130)).save(tmp_path / name)
    (tmp_path / "a.png").rename(os.fsdecode(bytes(tmp_path) + b"/\xff.png"))
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "dangling.png").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to(tmp_path)
    found = load([tmp_path], 128)
    assert len(found.train) + len(found.held_out) == 2
    assert sum("no regular file" in line for line in found.skipped) == 2


def test_a_picture_that_has_changed_since_is_reported_by_name(tmp_path):
    for i in range(3):
        Image.new("RGB", (130, 130)).save(tmp_path / f"{i}.png")
    found = load([tmp_path], 128, memory=1)
    Image.new("RGB", (140, 130)).save(found.train[0].path)
    with pytest.raises(UnreadableError, match=found.train[0].path.name):
        found.train[0].read()
    found.train[0].path.unlink()
    with pytest.raises(UnreadableError, match=found.train[0].path.name):
        found.train[0].read()


def test_pictures_beyond_the_memory_are_read_again_and_are_the_same(photographs):
    kept, read_again = load([photographs], 128).train, load([photographs], 128, memory=1).train
    assert kept[0].pixels is not None
    assert read_again[0].pixels is None
    assert torch.equal(batch(kept, 2, 0, 4, 64, 7).x, batch(read_again, 2, 0, 4, 64, 7).x)


def test_other_pictures_give_another_digest(photographs, tmp_path):
    Image.new("RGB", (200, 200)).save(tmp_path / "new.png")
    assert load([photographs], 128).names == load([photographs], 128).names
    assert load([photographs], 128).names != load([photographs, tmp_path], 128).names


@pytest.mark.parametrize("mode", ["1", "L", "P", "I;16", "RGBA", "CMYK"])
def test_every_kind_of_picture_becomes_8_bit_rgb(tmp_path, mode):
    white = {"1": 1, "L": 255, "P": 0, "I;16": 65535, "RGBA": (255,) * 4, "CMYK": (0,) * 4}[mode]
    image = Image.new(mode, (9, 5), white)
    if mode == "P":
        image.putpalette([255] * 768)
    image.save(tmp_path / ("a.tif" if mode in ("CMYK", "I;16") else "a.png"))
    pixels = crops.read_pixels(next(tmp_path.iterdir()))
    assert pixels.shape == (5, 9, 3)
    assert pixels.dtype == np.uint8
    assert (pixels == 255).all()
