"""The choice between branches: what the paper promises, checked on files that were written and read back."""

import numpy as np
import pytest
import torch
from PIL import Image

from twcodec.codec import choice
from twcodec.codec import encode as encoding
from twcodec.codec.candidates import candidates
from twcodec.codec.settings import Settings
from twcodec.container import Container
from twcodec.errors import UsageError, VerificationError
from twcodec.imaging.picture import Picture
from twcodec.imaging.read import read_picture
from twcodec.transforms import BY_NAME

SIZES = [(1, 1), (7, 300), (63, 65), (512, 768)]


def loss_of_file(codec, picture, data: bytes) -> float:
    """Bits a pixel of the whole file + lambda 255^2 MSE of what it decodes to: nothing the encoder said is believed."""
    levels = (1 << picture.depth) - 1
    error = np.mean((codec.decode_picture(data).samples.astype(np.float64) - picture.samples) ** 2) / levels**2
    quality = Container.from_bytes(data).header.quality
    return 8 * len(data) / (picture.width * picture.height) + codec.model.lambda_(quality) * 255**2 * float(error)


@pytest.mark.parametrize("name", BY_NAME)
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_a_forced_transform_decodes_to_exactly_what_its_branch_reconstructed(
    codec, crop, name, height, width, monkeypatch
):
    seen = []
    original = encoding.branch.reconstruct

    def spy(*args):
        seen.append(original(*args))
        return seen[-1]

    picture = crop(height, width)
    monkeypatch.setattr("twcodec.codec.branch.reconstruct", spy)
    data, report = codec.encode_picture(
        picture, Settings(transform="always", transforms=(name,), seed=height, precision="fp32")
    )
    header = Container.from_bytes(data).header
    assert (header.transformed, report.chosen.transform) == (True, name)
    assert len(seen) == 1
    decoded = codec.decode_picture(data).samples
    assert decoded.shape == picture.samples.shape
    assert np.array_equal(seen[0].permute(1, 2, 0).numpy(), decoded)


@pytest.mark.parametrize("quality", [2, 4, 6])
@pytest.mark.parametrize("seed", range(4))
def test_the_two_way_file_is_never_worse_than_the_one_way_file(codec, crop, quality, seed):
    picture = crop(96 + 16 * seed, 160)
    for precision in ("fp32", "bf16"):
        one, _ = codec.encode_picture(picture, Settings(quality, transform="never", precision=precision))
        two, report = codec.encode_picture(picture, Settings(quality, seed=seed, precision=precision, measure=True))
        assert loss_of_file(codec, picture, two) <= loss_of_file(codec, picture, one)
        assert report.loss == pytest.approx(loss_of_file(codec, picture, two), rel=1e-9)
        assert report.precision == "fp32"


@pytest.mark.parametrize("seed", range(3))
def test_nor_where_bf16_gets_the_distortion_wrong(codec, seed):
    """The transformed branch of such a picture leads in bfloat16, by more than its usual doubt, and loses."""
    rows, columns = np.mgrid[:96, :200]
    board = ((rows // 2 + columns // 2) % 2 * 255).astype(np.uint8)
    picture = read_picture(Image.fromarray(np.repeat(board[..., None], 3, 2)))
    one, _ = codec.encode_picture(picture, Settings(7, transform="never", precision="bf16"))
    two, _ = codec.encode_picture(picture, Settings(7, seed=seed, precision="bf16"))
    assert loss_of_file(codec, picture, two) <= loss_of_file(codec, picture, one)


def test_two_way_is_never_worse_on_kodak(codec, kodak):
    from twcodec.codec.codec import read

    for path in kodak[::8]:
        picture = read(path)
        one, _ = codec.encode_picture(picture, Settings(4, transform="never"))
        two, _ = codec.encode_picture(picture, Settings(4))
        assert loss_of_file(codec, picture, two) <= loss_of_file(codec, picture, one)


def test_more_ways_are_never_worse(codec, crop):
    picture = crop(80, 112)
    losses = [
        loss_of_file(codec, picture, codec.encode_picture(picture, Settings(4, ways=k, seed=1))[0])
        for k in (1, 2, 4, 8)
    ]
    assert losses == sorted(losses, reverse=True)


def test_a_branch_that_wins_is_recorded_with_its_transform_and_seed(codec, astronaut):
    picture = Picture(np.ascontiguousarray(astronaut[200:296, 150:246]), "RGB")
    for seed in range(30):
        data, report = codec.encode_picture(picture, Settings(4, seed=seed))
        header = Container.from_bytes(data).header
        if header.transformed:
            break
    else:
        pytest.fail("no transformed branch ever won")
    assert header.seed == report.chosen.seed == seed
    assert header.ways == 2
    assert report.chosen.loss < report.branches[0].loss


def test_the_loss_counts_the_whole_file_and_the_original_pixels(codec, crop):
    picture = crop(33, 47)
    data, report = codec.encode_picture(picture, Settings(4, transform="never", measure=True))
    assert report.bpp == 8 * len(data) / (33 * 47)
    assert report.loss == pytest.approx(loss_of_file(codec, picture, data))


@pytest.mark.parametrize("quality", [1, 4, 7])
def test_estimated_bits_are_the_written_bytes(codec, crop, quality):
    for size in ((16, 16), (100, 130), (512, 512)):
        _, report = codec.encode_picture(crop(*size), Settings(quality, transform="never"))
        branch = report.chosen
        assert abs(branch.estimated_bytes - branch.payload_bytes) <= 0.001 * branch.payload_bytes + 8


def test_never_and_always_are_what_they_say(codec, crop):
    picture = crop(64, 64)
    for seed in range(5):
        never, _ = codec.encode_picture(picture, Settings(4, transform="never", seed=seed))
        always, _ = codec.encode_picture(picture, Settings(4, transform="always", seed=seed))
        assert not Container.from_bytes(never).header.transformed
        assert Container.from_bytes(always).header.transformed


def test_a_seed_makes_the_file_repeatable_and_no_seed_does_not_repeat_the_draw(codec, crop):
    picture = crop(48, 48)
    settings = Settings(4, transform="always", seed=77)
    assert codec.encode_picture(picture, settings)[0] == codec.encode_picture(picture, settings)[0]
    seeds = {codec.encode_picture(picture, Settings(4, transform="always"))[1].chosen.seed for _ in range(4)}
    assert len(seeds) > 1


def test_ways_draw_distinct_transforms_and_stop_when_there_are_no_more():
    for ways in (1, 2, 5, 8):
        drawn = [c.draw for c in candidates(Settings(ways=ways), 512, 768)]
        assert len(drawn) == len(set(drawn)) == ways
    assert len(candidates(Settings(ways=64), 512, 768)) == 8
    assert len(candidates(Settings(ways=1, transform="always"), 512, 768)) == 1
    assert candidates(Settings(ways=3), 512, 768)[0].transform == 0


def test_ms_ssim_can_be_the_metric(codec, crop):
    for size in ((5, 5), (40, 200), (176, 200)):
        picture = crop(*size)
        data, report = codec.encode_picture(picture, Settings(4, metric="ms-ssim", seed=1))
        assert report.metric == "ms-ssim"
        assert codec.decode_picture(data).samples.shape == picture.samples.shape


@pytest.mark.parametrize(
    "wrong",
    [
        {"quality": 0.99},
        {"quality": 7.01},
        {"quality": float("nan")},
        {"ways": 0},
        {"ways": 2.5},
        {"seed": 1.5},
        {"quality": "4"},
        {"ways": 65},
        {"transform": "sometimes"},
        {"metric": "vmaf"},
        {"seed": -1},
        {"seed": 1 << 32},
        {"transforms": ("spin",)},
    ],
)
def test_settings_that_cannot_be_meant_are_refused(codec, crop, wrong):
    with pytest.raises(UsageError):
        codec.encode_picture(crop(16, 16), Settings(**wrong))


def test_the_encoder_notices_when_its_coder_goes_wrong(codec, crop, monkeypatch):
    entropy = codec.model.family.entropy
    original = entropy.encode
    monkeypatch.setattr(entropy, "encode", lambda symbols: original(symbols)[:-9])
    with pytest.raises(VerificationError):
        codec.encode_picture(crop(64, 64), Settings(4))


def test_what_bf16_says_of_a_file_is_nearly_right_and_said_to_be_bf16(codec, crop):
    picture = crop(64, 64)
    data, report = codec.encode_picture(picture, Settings(4, transform="never", precision="bf16"))
    assert report.psnr > 25
    assert report.precision == "bf16"
    assert report.loss == pytest.approx(loss_of_file(codec, picture, data), rel=0.005)


def test_branches_that_bf16_cannot_tell_apart_are_as_good_as_the_plain_one():
    """It takes more than the doubt to win against the picture as it is, and less decides between the others."""
    plain, close, closer, sure = (
        scored(loss, doubt) for loss, doubt in ((1, 0), (0.99, 0.02), (0.985, 0.02), (0.97, 0.02))
    )
    assert choice.best([plain, close, closer]) == 0
    assert choice.best([plain, close, sure]) == 2
    assert choice.best([close, closer]) == 1


def scored(loss, doubt):
    return choice.Scored(None, 0.0, 0.0, loss, doubt, b"")


def test_doubt_is_for_transformed_branches_in_bf16_only(codec, crop, monkeypatch):
    seen = []
    original = choice.score
    monkeypatch.setattr(choice, "score", lambda *a: seen.extend(original(*a)) or seen[-2:])
    codec.encode_picture(crop(64, 64), Settings(4, precision="bf16"))
    codec.encode_picture(crop(64, 64), Settings(4, precision="fp32"))
    codec.encode_picture(crop(176, 176), Settings(4, precision="bf16", metric="ms-ssim"))
    assert [s.doubt > 0 for s in seen] == [False, True, False, False, False, False]


def test_quality_is_continuous(codec, crop):
    picture = crop(128, 128)
    sizes = [
        len(codec.encode_picture(picture, Settings(q, transform="never"))[0])
        for q in (1, 1.5, 2, 2.001, 3.999, 4, 6.9, 7)
    ]
    assert sizes == sorted(sizes)
    assert sizes[1] < 0.95 * sizes[2]


def test_a_broken_number_in_the_latent_does_not_reach_the_coder(codec):
    entropy = codec.model.family.entropy
    y = torch.full((codec.model.family.m, 4, 4), float("nan"))
    y[0] = float("inf")
    symbols = entropy.quantise(y, torch.full((96, 1, 1), float("nan")))
    assert entropy.verify(entropy.encode(symbols), symbols)
