"""Files from strangers: damage is reported, an attacker's valid checksums do not help, and no memory is taken on trust."""

import dataclasses
import random

import pytest

from twcodec.codec.settings import Settings
from twcodec.container import Container
from twcodec.errors import CorruptError, LimitError, TwcError, UnsupportedError


@pytest.fixture(scope="module")
def file(codec, crop):
    return codec.encode_picture(crop(48, 40), Settings(3, seed=1))[0]


def test_truncation_at_every_byte_is_reported(codec, file):
    for length in range(len(file)):
        with pytest.raises(TwcError) as caught:
            codec.decode(file[:length])
        assert caught.value.exit_code in (3, 4, 5, 6)


def test_two_thousand_random_bit_flips_are_reported(codec, file):
    rng = random.Random(0)
    for _ in range(2000):
        broken = bytearray(file)
        at = rng.randrange(8 * len(file))
        broken[at // 8] ^= 1 << at % 8
        with pytest.raises(TwcError) as caught:
            codec.decode(bytes(broken))
        assert caught.value.exit_code in (3, 4, 5, 6)


def test_coded_symbols_that_were_changed_under_valid_checksums_are_reported(codec, file):
    """The chunks' CRCs are made new, as an attacker would; the CRC of the symbols still tells."""
    container = Container.from_bytes(file)
    rng = random.Random(1)
    for _ in range(150):
        data = bytearray(container.data)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        forged = dataclasses.replace(container, data=bytes(data))
        if forged == container:
            continue
        with pytest.raises(CorruptError):
            codec.decode(forged.to_bytes())


@pytest.mark.parametrize("cut", [0, 1, 7, 100])
def test_shortened_symbols_under_valid_checksums_are_reported(codec, file, cut):
    container = Container.from_bytes(file)
    with pytest.raises(CorruptError):
        codec.decode(dataclasses.replace(container, data=container.data[:cut]).to_bytes())


def test_symbols_with_bytes_behind_them_are_reported(codec, file):
    container = Container.from_bytes(file)
    with pytest.raises(CorruptError):
        codec.decode(dataclasses.replace(container, data=container.data + b"12345678").to_bytes())


def forged_header(file: bytes, **changes) -> bytes:
    container = Container.from_bytes(file)
    return dataclasses.replace(container, header=dataclasses.replace(container.header, **changes)).to_bytes()


def test_a_forged_width_on_the_same_latent_grid_is_not_noticed(codec, file):
    """Checksums are no signature: the header's own CRC was made anew, and the symbols fit."""
    assert codec.decode(forged_header(file, width=41)).size == (41, 48)


@pytest.mark.parametrize("changes", [{"height": 480}, {"quality": 0.5}, {"quality": 7.5}, {"symbols_crc": 1}])
def test_a_header_that_does_not_fit_its_symbols_is_reported(codec, file, changes):
    with pytest.raises(CorruptError):
        codec.decode(forged_header(file, **changes))


def test_another_model_is_asked_for_by_its_digest(codec, file):
    with pytest.raises(UnsupportedError, match="00112233"):
        codec.decode(forged_header(file, digest=bytes.fromhex("00112233" + "00" * 12)))


def test_a_later_transform_is_asked_for_by_its_number(codec, file):
    with pytest.raises(UnsupportedError, match="transform 200"):
        codec.decode(forged_header(file, transformed=True, transform=200))


def test_a_small_file_cannot_ask_for_a_large_picture(codec, file):
    """11,585 x 11,585 is within the limit of pixels, and would take gigabytes; the bytes cannot hold its symbols."""
    bomb = forged_header(file, width=11585, height=11585)
    assert len(bomb) < 2000
    import tracemalloc

    tracemalloc.start()
    with pytest.raises(CorruptError, match="cannot hold a picture of this size"):
        codec.decode(bomb)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
    with pytest.raises(LimitError):
        codec.decode(forged_header(file, width=1 << 20, height=1 << 20))
