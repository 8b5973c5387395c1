"""`twc compare`: two pictures in, figures out, the same as other programs compute them."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import numpy as np
import pytest
import pytorch_msssim
import torch
from PIL import Image
from skimage.metrics import structural_similarity

from twcodec.codec import resources
from twcodec.codec import similarity as similarity_module
from twcodec.codec.compare import check_memory, compare, difference_map
from twcodec.codec.similarity import similarity
from twcodec.errors import LimitError
from twcodec.imaging.align import aligned, stood_upright
from twcodec.imaging.read import read_picture

ORIENTATION = 274


@pytest.fixture
def save(tmp_path):
    """Save an array as a picture: save("a.png", array), with the orientation that EXIF is to have."""

    def saved(name, array, turn=1, **options):
        exif = Image.Exif()
        exif[ORIENTATION] = turn
        Image.fromarray(array).save(tmp_path / name, exif=exif, **options)
        return tmp_path / name

    return saved


@pytest.fixture
def pair(save, astronaut):
    """A photograph of 230 x 170 pixels, and what JPEG makes of it."""
    array = astronaut[20:190, 150:380]
    return save("a.png", array), save("b.jpg", array, quality=50)


@pytest.fixture
def figures(twc):
    """`twc compare --json` as a dictionary."""

    def run(*args, **more):
        done = twc("compare", "--json", *args, **more)
        assert done.code == 0, done
        return json.loads(done.out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))

    return run


def ms_ssim(a: torch.Tensor, b: torch.Tensor) -> float:
    """pytorch-msssim's of (C, H, W) in 0 .. 255, with a window in double precision: its own costs three digits."""
    at = torch.arange(11, dtype=torch.float64) - 5
    window = torch.exp(-(at**2) / (2 * 1.5**2))
    window = (window / window.sum()).repeat(len(a), 1, 1, 1)
    return pytorch_msssim.ms_ssim(a[None].double(), b[None].double(), data_range=255, win=window).item()


def test_the_figures_are_those_of_scikit_image_and_pytorch_msssim(figures, pair):
    a, b = (np.asarray(Image.open(path)) for path in pair)
    found = figures(*pair)
    error = np.mean((a.astype(float) - b) ** 2)
    assert found["mse"] == pytest.approx(error)
    assert found["psnr"] == pytest.approx(10 * math.log10(255**2 / error))
    assert found["max_error"] == np.abs(a.astype(int) - b).max()
    ssim = structural_similarity(
        a, b, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
    )
    assert found["ssim"] == pytest.approx(ssim, abs=1e-9)
    x, y = (torch.from_numpy(t.copy()).permute(2, 0, 1) for t in (a, b))
    assert found["ms_ssim"] == pytest.approx(ms_ssim(x, y), abs=1e-9)
    assert (found["a"]["bytes"], found["b"]["bytes"]) == tuple(path.stat().st_size for path in pair)
    assert found["b"]["bpp"] == pytest.approx(8 * pair[1].stat().st_size / (230 * 170))


@pytest.mark.parametrize("size", [(161, 161), (163, 250), (400, 162)])
def test_ms_ssim_of_odd_sizes_and_in_strips(astronaut, monkeypatch, size):
    from twcodec.codec import similarity as module

    monkeypatch.setattr(module, "_PART", 7 * size[1])
    a = torch.from_numpy(astronaut[: size[0], : size[1]].copy()).permute(2, 0, 1)
    b = (a.int() + torch.randint(-20, 21, a.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 255)
    assert similarity(a, b, 255)[1] == pytest.approx(ms_ssim(a, b), abs=1e-9)
    ssim = structural_similarity(
        *(t.permute(1, 2, 0).numpy().astype(float) for t in (a, b)),
        channel_axis=2,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
    )
    assert similarity(a, b, 255)[0] == pytest.approx(ssim, abs=1e-9)


def test_a_twc_file_is_decoded(twc, figures, photo, coded, tmp_path):
    report = json.loads(twc("encode", "--json", "--seed", 1, photo, tmp_path / "again.twc").out)
    found = figures(photo, coded)
    assert found["psnr"] == pytest.approx(report["psnr"], abs=0.02)
    assert (found["a"]["kind"], found["b"]["kind"]) == ("picture", "TWC")
    assert found["b"]["bytes"] == coded.stat().st_size
    assert twc("decode", coded, tmp_path / "b.png").code == 0
    assert figures(coded, tmp_path / "b.png")["identical"]
    assert figures(coded, coded)["identical"]


def test_one_of_them_may_be_a_pipe(twc, figures, photo, coded):
    by_name = figures(photo, coded)
    for args, data in (((photo, "-"), coded), (("-", coded), photo)):
        by_pipe = figures(*args, stdin=data.read_bytes())
        assert by_pipe["psnr"] == by_name["psnr"]
        assert [by_pipe[side]["bytes"] for side in "ab"] == [by_name[side]["bytes"] for side in "ab"]
    twc("compare", "-", "-", stdin=b"").refused(2, "only one")


def test_identical_pictures_are_called_so(twc, figures, photo):
    done = twc("compare", photo, photo)
    assert (done.code, b"identical" in done.out, b"dB" in done.out) == (0, True, False)
    found = figures(photo, photo)
    assert found["identical"] is True
    assert (found["psnr"], found["mse"], found["max_error"], found["ssim"]) == (None, 0.0, 0, 1.0)


def test_the_text_says_all_of_it(twc, pair):
    text = twc("compare", *pair).out.decode()
    for word in ("a.png:", "b.jpg:", "230x170 RGB", "bytes", "bpp", "PSNR", "MS-SSIM", "SSIM", "largest error", "MSE"):
        assert word in text


@pytest.mark.parametrize("turn", range(1, 9))
def test_both_are_turned_upright(figures, save, pixels, turn):
    """Stored as it is to be looked at, and stored lying down with a note which way up it is."""
    back = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270, 2: Image.Transpose.FLIP_LEFT_RIGHT}
    back |= {3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM}
    back |= {5: Image.Transpose.TRANSPOSE, 7: Image.Transpose.TRANSVERSE}
    lying = Image.fromarray(pixels).transpose(back[turn]) if turn in back else Image.fromarray(pixels)
    assert figures(save("upright.png", pixels), save("lying.png", np.asarray(lying), turn))["identical"]


def test_a_twc_file_carries_its_orientation(twc, figures, save, pixels, tmp_path):
    lying = save("lying.jpg", pixels, 6, quality=95)
    assert twc("encode", "-q", 7, lying, tmp_path / "a.twc").code == 0
    found = figures(lying, tmp_path / "a.twc")
    assert (found["a"]["width"], found["a"]["height"]) == (found["b"]["width"], found["b"]["height"]) == (96, 120)
    assert found["psnr"] > 30


def test_sixteen_bits_are_compared_in_sixteen_bits(twc, figures, save, pixels):
    a = pixels[..., 0].astype(np.uint16) * 257
    b = a.copy()
    b[5, 7] ^= 1
    found = figures(save("a.png", a), save("b.png", b))
    assert (found["peak"], found["max_error"]) == (65535, 1)
    assert found["mse"] == pytest.approx(1 / a.size)
    assert found["psnr"] == pytest.approx(10 * math.log10(65535**2 * a.size))
    twc("compare", "a.png", "b.png").refused(3, "a.png")
    twc("compare", save("a.png", a), save("c.png", pixels)).refused(2, "16 bits", "8", "one depth")


def test_other_sizes_are_refused(twc, save, pixels):
    a, b = save("a.png", pixels), save("b.png", pixels[:, 1:])
    twc("compare", a, b).refused(2, "120x96", "119x96", "one size")


def test_alpha_is_compared_where_both_have_one(twc, figures, save, pixels):
    a = np.dstack([pixels, pixels[..., :1]])
    b = a.copy()
    b[3, 4, 3] ^= 64
    found = figures(save("a.png", a), save("b.png", b))
    assert (found["identical"], found["psnr"], found["max_error"]) == (False, None, 0)
    assert (found["alpha"]["max_error"], found["alpha"]["identical"]) == (64, False)
    assert b"alpha" in twc("compare", "--json", save("a.png", a), save("a2.png", a)).out
    text = twc("compare", save("a.png", a), save("b.png", b)).out.decode()
    assert "infinite" in text
    assert "largest error 64 of 255" in text


def test_what_had_to_be_converted_is_said(twc, figures, save, pixels, tmp_path):
    grey, alpha = pixels[..., 0].copy(), np.dstack([pixels, pixels[..., :1]])
    found = figures(save("a.png", grey), save("b.png", np.dstack([grey] * 3)))
    assert found["identical"]
    assert any("a.png is grey" in note for note in found["notes"])
    found = figures(save("c.png", grey > 99), save("d.png", np.where(grey > 99, 255, 0).astype(np.uint8)))
    assert found["identical"]
    assert any("bilevel" in note for note in found["notes"])
    opaque = save("e.png", np.dstack([pixels, np.full_like(grey, 255)]))
    found = figures(opaque, save("f.png", pixels))
    assert found["identical"]
    assert any("opaque" in note for note in found["notes"])
    assert twc("encode", save("g.png", alpha), tmp_path / "g.twc").code == 0
    assert twc("decode", tmp_path / "g.twc", tmp_path / "g.bmp").code == 0
    found = figures(tmp_path / "g.twc", tmp_path / "g.bmp")  # flattened as decode does it
    assert found["identical"]
    assert "warning: " in twc("compare", tmp_path / "g.png", tmp_path / "f.png").err
    assert twc("compare", "--quiet", tmp_path / "g.png", tmp_path / "f.png").err == ""


def test_different_profiles_are_pointed_out(figures, save, pixels):
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    found = figures(save("a.png", pixels, icc_profile=profile), save("b.png", pixels))
    assert found["identical"]
    assert any("ICC" in note for note in found["notes"])


def test_small_pictures_have_fewer_figures(twc, figures, save, pixels):
    found = figures(save("a.png", pixels), save("b.png", pixels[::-1]))
    assert found["ms_ssim"] is None
    assert found["ssim"] < 1
    assert found["notes"] == ["no MS-SSIM: it needs 161 pixels a side"]
    tiny = save("c.png", pixels[:10, :40]), save("d.png", pixels[1:11, :40])
    assert figures(*tiny)["ssim"] is None
    assert "no SSIM" in twc("compare", *tiny).err


def test_the_map_shows_where_they_differ(twc, figures, save, pixels, tmp_path):
    other = pixels.copy()
    other[40:60, 10:30] = np.where(pixels[40:60, 10:30] < 128, pixels[40:60, 10:30] + 5, pixels[40:60, 10:30] - 5)
    a, b, target = save("a.png", pixels), save("b.png", other), tmp_path / "map.png"
    assert figures("--diff", target, a, b)["diff_gain"] == 51
    shown = np.asarray(Image.open(target))
    assert shown.shape == pixels.shape
    assert (shown[40:60, 10:30] == 255).all()
    assert shown.sum() == 255 * 20 * 30 * 2
    twc("compare", "--diff", target, a, b).refused(7, "map.png", "-f")
    twc("compare", "--diff", a, "-f", a, b).refused(7, "the input itself")
    done = twc("compare", "-f", "--diff", target, a, b)
    assert b"the differences, times 51" in done.out
    done = twc("compare", "--json", "--diff", "-", a, b)
    assert done.out == target.read_bytes()
    assert json.loads(done.err)["diff_gain"] == 51


def test_one_sample_far_off_does_not_make_the_map_dark(save, pixels):
    other = np.clip(pixels.astype(int) + 2, 0, 255).astype(np.uint8)
    other[0, 0, 0] ^= 255
    a, b = (read_picture(Image.fromarray(array)) for array in (pixels, other))
    assert difference_map(a, b)[1] == 127
    assert difference_map(a, a)[1] == 1


def test_a_script_can_ask_for_a_quality(twc, pair, figures):
    value = figures(*pair)["psnr"]
    done = twc("compare", "--quiet", "--min-psnr", value - 0.01, *pair)
    assert (done.code, done.out, done.err) == (0, b"", "")
    done = twc("compare", "--quiet", "--min-psnr", value + 0.01, *pair)
    assert (done.code, done.out) == (9, b"")
    assert "--min-psnr asks for" in done.err
    assert twc("compare", "--min-psnr", "inf", pair[0], pair[0]).code == 0
    assert twc("compare", "--min-psnr", "inf", *pair).code == 9
    assert b"PSNR" in twc("compare", "--min-psnr", 99, *pair).out
    twc("compare", "--min-psnr", "nan", *pair).refused(2, "--min-psnr")


def test_what_cannot_be_read_is_named(twc, photo, coded, tmp_path):
    broken = tmp_path / "broken.twc"
    broken.write_bytes(coded.read_bytes()[:-5])
    twc("compare", photo, broken).refused(4, "broken.twc", "truncated")
    twc("compare", photo, tmp_path / "nowhere.png").refused(3, "nowhere.png")
    (tmp_path / "text.txt").write_text("no picture")
    twc("compare", tmp_path / "text.txt", photo).refused(3, "text.txt")
    twc("compare", "--max-pixels", 100, photo, photo).refused(6, "photo.png", "100")
    twc("compare", "--max-pixels", 100, coded, photo).refused(6, "photo.twc", "100")
    twc("compare", "", photo).refused(2, "empty")


def test_a_picture_compared_from_python(pixels):
    a = read_picture(Image.fromarray(pixels))
    b = read_picture(Image.fromarray(pixels[..., 0]))
    x, y, said = aligned(stood_upright(a), stood_upright(b), ("one", "two"))
    assert said == ("two is grey; converted to RGB",)
    assert compare(x, y).max_error > 0


def test_bilevel_pictures_are_compared_as_they_are(figures, save, pixels):
    found = figures(save("a.png", pixels[..., 0] > 99), save("b.png", pixels[..., 0] > 109))
    assert (found["peak"], found["max_error"], found["a"]["mode"]) == (1, 1, "1")


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_a_picture_whose_alpha_was_left_out_has_a_mode_without(pixels, mode):
    flat = Image.fromarray(pixels).convert(mode.removesuffix("A"))
    for alpha in (255, 99):
        veiled = flat.copy()
        veiled.putalpha(alpha)
        one, other, _ = aligned(read_picture(veiled), read_picture(flat), ("one", "two"))
        assert (one.mode, one.alpha) == (flat.mode, None)
        assert one.samples.shape == other.samples.shape


@pytest.mark.parametrize("shape", [(1, 171, 9001), (1, 9001, 171), (3, 161, 162), (1, 162, 161), (1, 12, 9001)])
def test_similarity_in_blocks_is_that_of_the_whole(monkeypatch, shape):
    """Sides of every kind: odd ones, those that end a row before or after a block, and very long ones."""
    generator = torch.Generator().manual_seed(1)
    a = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    b = a ^ torch.randint(0, 16, shape, dtype=torch.uint8, generator=generator)
    found = similarity(a, b, 255)
    if min(shape[1:]) > 161:  # pytorch-msssim wants more than 160 pixels, and so do we
        assert found[1] == pytest.approx(ms_ssim(a, b), abs=1e-9)
    monkeypatch.setattr("twcodec.codec.similarity._PART", 1 << 40)
    whole = similarity(a, b, 255)
    assert [value and round(value, 12) for value in found] == [value and round(value, 12) for value in whole]


def test_the_memory_for_similarities_is_bounded(monkeypatch):
    """Of the planes only the coarser scales are held, of a very wide picture too; no block is large."""
    made = []
    blurred = similarity_module._blurred
    monkeypatch.setattr(similarity_module, "_blurred", lambda plane: made.append(plane.numel()) or blurred(plane))
    a = torch.zeros(1, 11, 1 << 21, dtype=torch.uint8)
    similarity(a, a, 255)
    assert max(made) < 1 << 18


MEASURED = """
import sys
from twcodec.cli.main import _code_of
code = _code_of(sys.argv[1:])
print(open("/proc/self/status").read().split("VmHWM:")[1].split()[0], file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("options", [[], ["--diff", "map.png"]])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_memory_is_what_was_allowed(tmp_path, kind, options):
    """With less than what it says it needs it is refused; with that much it stays within.

    What torch and its libraries have of memory differs by some 4 MB from one process to the next.
    """
    noise = np.random.default_rng(1).integers(0, np.iinfo(kind).max, (2600, 2600, 3), kind)
    a, b = (array if kind == np.uint8 else array[..., 0] for array in (noise, noise ^ kind(1)))
    for name, array in (("a.png", a), ("b.png", b)):
        Image.fromarray(array).save(tmp_path / name, compress_level=0)

    def run(allowed: str) -> tuple[int, list[str]]:
        command = [sys.executable, "-c", MEASURED, "compare", "--max-memory", allowed, *options, "a.png", "b.png"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        return done.returncode, done.stderr.splitlines()

    code, lines = run("256M")
    assert code == 6
    assert "comparing these pictures takes about" in lines[0]
    needed = int(lines[0].split("about ")[1].split("M,")[0]) + 8
    code, lines = run(f"{needed}M")
    assert code == 0, lines
    assert int(lines[-1]) <= needed << 10
    assert not options or (tmp_path / "map.png").exists()


def test_more_memory_is_needed_for_a_map_and_for_16_bits(pixels):
    def needed(array, with_map=False) -> int:
        picture = read_picture(Image.fromarray(array))
        with pytest.raises(LimitError) as error:
            check_memory(picture, picture, with_map, 64 << 20)
        return int(str(error.value).split("about ")[1].split("M,")[0])

    large = np.zeros((4000, 4000, 3), np.uint8)
    grey = large[..., 0].copy()
    check_memory(*[read_picture(Image.fromarray(pixels))] * 2, True, resources.resident() + (128 << 20))
    assert needed(large) + 100 < needed(large, True)
    assert needed(grey) + 100 < needed(grey.astype(np.uint16))
