import pytest
import torch
from torch.nn import functional

import twcodec
from twcodec.exact import hyperprior, walk
from twcodec.exact.tiles import tiled, tiled_in_place


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (9, 23), (40, 7)])
@pytest.mark.parametrize(("kernel", "halo"), [(1, 0), (3, 1), (5, 2)])
def test_a_local_network_on_tiles_is_the_network_on_the_whole(size, kernel, halo):
    x = torch.randint(-9, 9, (2, *size)).double()
    weight = torch.randint(-9, 9, (3, 2, kernel, kernel)).double()

    def network(a):
        return functional.conv2d(a[None], weight, padding=kernel // 2)[0]

    assert torch.equal(tiled(network, x, 8, halo), network(x))


def test_a_halo_that_is_too_small_shows():
    x, weight = torch.rand(1, 20, 20), torch.ones(1, 1, 5, 5)

    def network(a):
        return functional.conv2d(a[None], weight, padding=2)[0]

    assert not torch.allclose(tiled(network, x, 8, 1), network(x))


def test_tiles_scale_up_and_down():
    x = torch.rand(3, 48, 80)
    down = tiled(lambda a: functional.avg_pool2d(a, 16), x, 32, 0, down=16)
    assert torch.equal(down, functional.avg_pool2d(x, 16))
    up = tiled(lambda a: a.repeat_interleave(4, 1).repeat_interleave(4, 2), x, 32, 2, up=4)
    assert torch.equal(up, x.repeat_interleave(4, 1).repeat_interleave(4, 2))


def test_a_tile_that_is_no_multiple_is_rounded_up_when_it_scales_down():
    x = torch.rand(3, 50, 81)
    expected = functional.avg_pool2d(x[None], 4, ceil_mode=True)[0]
    found = tiled(lambda a: functional.avg_pool2d(a[None], 4, ceil_mode=True)[0], x, 16, 4, down=4)
    assert found.shape == (3, 13, 21)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("size", [(8, 8), (9, 23)])
def test_the_whole_lies_in_memory_as_its_tiles_do(size):
    x = torch.rand(5, *size)
    first = tiled(lambda a: a.contiguous(), x, 8, 0)
    last = tiled(lambda a: a.permute(1, 2, 0).contiguous().permute(2, 0, 1), x, 8, 0)
    assert first.is_contiguous()
    assert last.permute(1, 2, 0).is_contiguous()
    assert torch.equal(first, x)
    assert torch.equal(last, x)


def test_windows_are_made_when_they_are_asked_for():
    """A picture need never be there as a whole."""
    whole, asked = torch.rand(2, 20, 30), []

    class Made:
        shape = whole.shape

        def __getitem__(self, window):
            asked.append(whole[window].shape)
            return whole[window]

    assert torch.equal(tiled(lambda a: a + 1, Made(), 8, 1), whole + 1)
    assert len(asked) == 12
    assert max(asked) == (2, 10, 10)


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (9, 23), (40, 7)])
@pytest.mark.parametrize(("kernel", "halo"), [(1, 0), (3, 1), (5, 2), (3, 3)])
@pytest.mark.parametrize("last", [True, False])
def test_in_place_tiles_see_what_was_there_before(size, kernel, halo, last):
    x = torch.randint(-9, 9, (2, *size)).double()
    weight = torch.randint(-9, 9, (2, 2, kernel, kernel)).double()

    def network(a):
        return functional.conv2d(a[None], weight, padding=kernel // 2)[0]

    expected = network(x)
    given = x.permute(1, 2, 0).contiguous().permute(2, 0, 1) if last else x.clone()
    found = tiled_in_place(network, given, 8, halo)
    assert torch.equal(found, expected)
    if max(size) > 8:
        assert found.data_ptr() == given.data_ptr()


def test_in_place_a_halo_that_is_too_small_shows():
    x, weight = torch.rand(1, 20, 20), torch.ones(1, 1, 5, 5)

    def network(a):
        return functional.conv2d(a[None], weight, padding=2)[0]

    expected = network(x)
    assert not torch.allclose(tiled_in_place(network, x, 8, 1), expected)


@pytest.fixture(params=["default", "default-1"])
def codec(request):
    return twcodec.open_codec(request.param, device="cpu")


def test_symbols_do_not_depend_on_the_tiles(codec, crop, monkeypatch):
    from twcodec.codec.settings import Settings

    data = codec.encode_picture(crop(300, 420), Settings(5, transform="never"))[0]
    whole = codec.decode_symbols(data)
    monkeypatch.setattr(hyperprior, "TILE", 2)
    monkeypatch.setattr(walk, "_POSITIONS", 60)
    tiles = codec.decode_symbols(data)
    assert torch.equal(whole.y, tiles.y)
    assert torch.equal(whole.levels, tiles.levels)
    assert torch.equal(whole.y_hat, tiles.y_hat)


def test_pixels_and_latents_on_tiles_differ_in_the_last_bits_only(codec, crop):
    family = codec.model.family
    x = torch.from_numpy(crop(320, 256).samples).permute(2, 0, 1).float() / 255
    with torch.inference_mode():
        y = family.g_a(x, 4.0)
        x_hat = family.g_s(y, 4.0)
        assert (family.g_a(x, 4.0, tile=4) - y).abs().max() < 1e-4
        assert (family.h_a(y, tile=4) - family.h_a(y)).abs().max() < 1e-4
        assert (family.g_s(y, 4.0, tile=4) - x_hat).abs().max() < 1e-5
