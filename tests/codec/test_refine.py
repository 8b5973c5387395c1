"""Refining latents: the decoded file has a lower loss, never a higher one, and nothing else about it changes."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

import twcodec
from twcodec.codec import memory, refine
from twcodec.codec.candidates import PLAIN, Candidate
from twcodec.codec.codec import Codec
from twcodec.codec.memory import Size
from twcodec.codec.settings import MAX_EFFORT, Settings
from twcodec.errors import UsageError
from twcodec.imaging.picture import Picture
from twcodec.models.convert import convert_checkpoint
from twcodec.models.model import Model
from twcodec.transforms import by_name

PLAIN_WAY = {"transform": "never", "precision": "fp32"}


@pytest.fixture(scope="module", params=["default", "default-1"])
def each(request):
    return twcodec.open_codec(request.param, device="cpu")


def photograph(name: str, side: int = 128) -> Picture:
    import skimage.data

    samples = getattr(skimage.data, name)()[64 : 64 + side, 64 : 64 + side]
    samples = np.ascontiguousarray(samples.reshape(*samples.shape[:2], -1))
    return Picture(samples, "RGB" if samples.shape[2] == 3 else "L")


def loss_of_file(codec: Codec, picture: Picture, data: bytes, quality: float) -> float:
    """Nothing that the encoder said is believed; an effort of 0 decodes it, which knows nothing of refining."""
    levels = (1 << picture.depth) - 1
    error = np.mean((codec.decode_picture(data).samples.astype(float) - picture.samples) ** 2) / levels**2
    return 8 * len(data) / (picture.width * picture.height) + codec.model.lambda_(quality) * 255**2 * float(error)


def ratio(codec: Codec, picture: Picture, quality: float, effort: int, **how) -> float:
    """Loss of the file over that at effort 0."""
    settings = Settings(quality, **{**PLAIN_WAY, **how})
    files = [codec.encode_picture(picture, dataclasses.replace(settings, effort=at))[0] for at in (effort, 0)]
    refined, plain = (loss_of_file(codec, picture, data, quality) for data in files)
    return refined / plain


# --- The loss -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("quality", "three", "five"), [(2, 0.996, 0.993), (6, 0.985, 0.978)])
def test_the_more_effort_the_lower_the_loss_of_the_decoded_file(each, quality, three, five):
    pictures = [photograph(name) for name in ("astronaut", "coffee", "camera")]
    few, more = (np.array([ratio(each, picture, quality, effort) for picture in pictures]) for effort in (3, 5))
    assert (few < 1).all()
    assert (more < few).all()
    assert few.mean() < three
    assert more.mean() < five


def odd(kind: str) -> Picture:
    rng = np.random.default_rng(1)
    arrays = {
        "flat": np.full((64, 64, 3), 90),
        "white": np.full((64, 64, 3), 255),
        "noise": rng.integers(0, 256, (64, 64, 3)),
        "one pixel": np.full((1, 1, 3), 200),
        "a strip": rng.integers(90, 130, (7, 300, 3)),
        "an upright strip": rng.integers(90, 130, (300, 7, 3)),
        "grey": rng.integers(0, 256, (33, 47, 1)),
    }
    return Picture(np.ascontiguousarray(arrays[kind], np.uint8), "L" if kind == "grey" else "RGB")


@pytest.mark.parametrize("kind", ["flat", "white", "noise", "one pixel", "a strip", "an upright strip", "grey"])
@pytest.mark.parametrize("quality", [1, 7])
def test_the_loss_never_rises(codec, kind, quality):
    assert ratio(codec, odd(kind), quality, 3) <= 1
    shifted = {"transform": "always", "transforms": ("flip-turn-shift",), "seed": 3}
    assert ratio(codec, odd(kind), quality, 3, **shifted) <= 1


def test_a_refinement_that_does_harm_is_not_sent(codec, monkeypatch):
    picture, settings = photograph("astronaut", 64), Settings(4, **PLAIN_WAY)
    plain = codec.encode_picture(picture, settings)[0]
    monkeypatch.setattr(refine, "refined", lambda _job, _draw, y, _z: y + 3)
    assert codec.encode_picture(picture, dataclasses.replace(settings, effort=3))[0] == plain


def test_deep_and_grey_pictures_gain_too(codec):
    eight = photograph("camera", 96)
    sixteen = Picture(eight.samples.astype(np.uint16) * 257, "I;16", 16)
    assert ratio(codec, eight, 6, 3) < 0.995
    assert ratio(codec, sixteen, 6, 3) < 0.995


def test_a_transformed_branch_is_refined_in_its_own_domain(codec):
    for transform in ("flip-turn", "grid-shift"):
        how = {"transform": "always", "transforms": (transform,), "seed": 5}
        assert ratio(codec, photograph("astronaut", 90), 6, 3, **how) < 0.99


def test_what_is_cropped_away_does_not_count(codec):
    """The margin of a shift and the padding: only the picture's own pixels are in what a tile compares."""
    picture = photograph("astronaut", 50)
    from twcodec.codec import branch, grid

    draw = by_name("grid-shift").from_seed(5, 50, 50)
    job = branch.Job(codec.model, grid.to_samples(picture.samples, torch.device("cpu")), 255, Settings(4), 4.0)
    y, z = branch._analyse(job, Candidate(draw))
    ((tile, _),) = refine._tiles(job, draw, y, z)
    assert torch.equal(tile.x, draw.apply(job.samples)[:, draw.dy :, draw.dx :] / 255)
    assert [(p.start, p.stop) for p in tile.pixels] == [(draw.dy, draw.dy + 50), (draw.dx, draw.dx + 50)]


def test_the_loss_that_is_lowered_is_the_codecs(codec):
    """What a tile says of a picture of one tile is what the tables and the rounded pixels give, in bits."""
    from twcodec.codec import branch, grid

    picture = photograph("coffee", 96)
    job = branch.Job(codec.model, grid.to_samples(picture.samples, torch.device("cpu")), 255, Settings(4), 4.0)
    y, z = branch._analyse(job, PLAIN)
    ((tile, _),) = refine._tiles(job, PLAIN.draw, y, z)
    scored = branch._quantised(job, PLAIN)
    wanted = float(scored.bits) + 96 * 96 * float(scored.penalty)
    assert tile.state(y[None]).loss == pytest.approx(wanted, rel=0.003)


# --- Tiles --------------------------------------------------------------------------------------------------------------


def test_a_picture_of_several_tiles_gains_what_it_gains_in_one(codec, monkeypatch):
    picture = photograph("astronaut", 208)
    whole = ratio(codec, picture, 6, 3)
    monkeypatch.setattr(refine, "TILE", 8)
    assert ratio(codec, picture, 6, 3) == pytest.approx(whole, abs=0.15 * (1 - whole))


def test_tiles_lie_on_the_grid_of_z_and_change_every_latent_once(codec):
    from twcodec.codec import branch

    samples = torch.zeros(3, 40 * 16, 70 * 16 - 5, dtype=torch.uint8)
    job = branch.Job(codec.model, samples, 255, Settings(4), 4.0)
    y, z = torch.zeros(2, 40, 70), torch.zeros(1, 10, 18)
    changed = torch.zeros(40, 70)
    for tile, (_, rows, columns) in refine._tiles(job, PLAIN.draw, y, z):
        assert rows.start % 4 == columns.start % 4 == 0
        assert max(tile.free.shape) <= refine.TILE + 2 * refine.MARGIN
        assert tile.z.shape[2:] == (-(-tile.free.shape[0] // 4), -(-tile.free.shape[1] // 4))
        changed[rows, columns] += tile.free
    assert (changed == 1).all()


def test_memory_for_a_tile_is_counted(codec, monkeypatch):
    def held(side, effort):
        grid, size = (side // 16, side // 16), Size(side, side, 3)
        return memory._encoding(codec.model.family.footprint, grid, size, Settings(effort=effort)).without

    assert held(320, 1) > held(320, 0) + 50e6
    assert 400e6 < held(1280, 1) < 700e6, "a tile of 48 x 48 latents was measured to take 440 MiB"
    assert held(6400, 1) < 2 * held(6400, 0) + 500e6


# --- Everything else is as it was ---------------------------------------------------------------------------------------


def test_the_same_picture_gives_the_same_file(codec):
    settings = Settings(4, seed=1, effort=4)
    files = {codec.encode_picture(photograph("coffee"), settings)[0] for _ in range(2)}
    assert len(files) == 1
    other = twcodec.open_codec(device="cpu")
    assert other.encode(np_image(photograph("coffee")), 4, seed=1, effort=4) in files


def np_image(picture: Picture):
    from PIL import Image

    return Image.fromarray(picture.samples)


def test_without_effort_nothing_of_it_runs(codec, monkeypatch):
    monkeypatch.delattr(refine, "refined")
    monkeypatch.delattr(refine, "check")
    picture = photograph("coffee", 64)
    implied, said = (codec.encode_picture(picture, Settings(4, seed=1, **how))[0] for how in ({}, {"effort": 0}))
    assert implied == said
    with pytest.raises(AttributeError):
        codec.encode_picture(picture, Settings(4, seed=1, effort=1))


def test_only_symbols_of_y_change(codec):
    picture = photograph("astronaut")
    plain, refined = (
        codec.decode_symbols(codec.encode_picture(picture, Settings(4, effort=effort, **PLAIN_WAY))[0])
        for effort in (0, 5)
    )
    assert torch.equal(plain.z, refined.z)
    assert 0 < (plain.y != refined.y).float().mean() < 0.1


def test_a_model_that_was_loaded_in_inference_mode_is_refined_too():
    with torch.inference_mode():
        inside = twcodec.open_codec("default-1", device="cpu")
        assert ratio(inside, photograph("astronaut", 64), 6, 2) < 1


def test_gradients_that_are_switched_off_outside_do_no_harm(codec):
    with torch.no_grad():
        assert ratio(codec, photograph("astronaut", 64), 6, 2) < 1


# --- What is refused ----------------------------------------------------------------------------------------------------


def test_ms_ssim_is_refused():
    with pytest.raises(UsageError, match="--metric mse only"):
        Settings(metric="ms-ssim", effort=1)
    Settings(metric="ms-ssim", effort=0)


@pytest.mark.parametrize("effort", [-1, MAX_EFFORT + 1, 2.0, "3", None, True])
def test_an_effort_that_cannot_be_meant_is_refused(effort):
    with pytest.raises(UsageError, match="0 to 9 is possible"):
        Settings(effort=effort)


def test_every_effort_has_its_steps():
    assert len(refine.STEPS) == MAX_EFFORT + 1
    assert list(refine.STEPS) == sorted(set(refine.STEPS))
    assert refine.STEPS[0] == 0


def test_a_serial_context_is_refused():
    serial = twcodec.open_codec("default-context", device="cpu")
    with pytest.raises(UsageError, match=r"--effort needs a model whose context is parallel.*its context is serial"):
        serial.encode_picture(photograph("astronaut", 64), Settings(effort=1))


@pytest.mark.parametrize("architecture", ["bmshj2018-hyperprior", "mbt2018-mean"])
def test_published_models_without_serial_context_gain_too(architecture):
    codec = published(architecture, 4)
    assert ratio(codec, photograph("astronaut", 96), 4, 3) < 1


@pytest.mark.parametrize(
    ("architecture", "quality", "why"),
    [
        ("bmshj2018-factorized", 4, "factorised prior"),
        ("mbt2018", 4, "context is serial"),
        ("mbt2018-mean-vbr-z", None, "every quality"),
    ],
)
def test_published_models_whose_latents_cannot_be_refined_are_refused(architecture, quality, why):
    with pytest.raises(UsageError, match=f"--effort needs a model whose context is parallel.*{why}"):
        published(architecture, quality).encode_picture(photograph("astronaut", 64), Settings(effort=1))


def published(name: str, quality: float | None) -> Codec:
    """A small network that was trained for the tests."""
    path = Path(__file__).parents[1] / "models" / "checkpoints" / f"{name}.pth.tar"
    data = convert_checkpoint(path, name.removesuffix("-z"), quality=quality)
    return Codec(Model(data, name, torch.device("cpu")))
