"""formats/twc-1.md against a decoder written from it, and that decoder against twcodec.

Every number of the text's vectors and of its worked example is read out of the text itself.
"""

from __future__ import annotations

import itertools
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import slow_decoder as slow
import torch

import twcodec
from twcodec.codec.codec import Codec
from twcodec.codec.settings import Settings
from twcodec.container import Container
from twcodec.errors import CorruptError
from twcodec.exact.coder import check_finished, new_decoder
from twcodec.exact.layers import DepthwiseLayer
from twcodec.imaging.picture import Picture
from twcodec.models import file as model_file
from twcodec.models.model import Model
from twcodec.transforms import BY_NAME

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "formats" / "twc-1.md").read_text()
MODEL = ROOT / "twcodec" / "models" / "weights" / "default-1.safetensors"


def section(title: str) -> str:
    """From the heading to the next one of the same or a higher rank."""
    rank = title.split(" ")[0]
    body = TEXT.split(f"\n{title}", 1)[1]
    return re.split(rf"\n#{{1,{len(rank)}}} ", body, maxsplit=1)[0]


def table(text: str, *header: str) -> list[list[str]]:
    """The cells of the rows of the table with this header."""
    lines = text.split(re.sub(" +", " ", f"| {' | '.join(header)} |\n"), 1)[1].splitlines()[1:]
    rows = lines[: next((i for i, line in enumerate(lines) if not line.startswith("|")), len(lines))]
    return [[cell.strip() for cell in row.strip("| ").split("|")] for row in rows]


def hexes(cell: str) -> list[int]:
    return [int(part, 16) for part in cell.split()]


@pytest.fixture(scope="module")
def model() -> slow.Model:
    return slow.Model(MODEL.read_bytes())


# --- The vectors of sections 1, 5, 6 and 8 --------------------------------------------------------------------------


def test_the_crc_is_the_one_of_section_1():
    assert f"{zlib.crc32(b'123456789'):X}" in section("## 1. Conventions")


def test_splitmix64_gives_the_values_of_5_1():
    rows = table(section("### 5.1 SplitMix64"), "Initial state", "First four values of next()")
    assert len(rows) == 5
    for state, values in rows:
        generator = slow.SplitMix64(int(state, 16))
        assert [generator.next() for _ in range(4)] == hexes(values)
    for state, n, values in table(section("### 5.1 SplitMix64"), "Initial state", "n", "First four values of below(n)"):
        generator = slow.SplitMix64(int(state, 16))
        assert [generator.below(int(n)) for _ in range(4)] == [int(v) for v in values.split()]


def test_the_draws_are_those_of_5_2_here_and_in_twcodec():
    text = section("### 5.2 From id and seed to parameters")
    names = {int(number): name for number, name, _ in table(text, "Id", "Name", "Rule")}
    rows = table(text, "Id", "Seed", "H", "W", "turn", "dy", "dx")
    assert len(rows) == 19
    for number, seed, *numbers in rows:
        height, width, *expected = (int(n) for n in numbers)
        assert slow.draw(int(number), int(seed, 16), height, width) == tuple(expected)
        member = BY_NAME[names[int(number)]].from_seed(int(seed, 16), height, width)
        assert [member.turn, member.dy, member.dx] == expected


def generated(seed: int, count: int, limit: int) -> list[int]:
    """6.8"""
    state, out = seed, []
    for _ in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        out.append((((state >> 32) * (2 * limit - 1)) >> 32) - limit + 1)
    return out


def test_the_known_answer_is_the_one_of_6_8():
    first = slow.Kernel(generated(2, 12 * 8 * 25, 2**15), generated(3, 12, 2**30), 8, slow.Shape(5, 2, 2, 1))
    second = slow.Kernel(generated(4, 6 * 12 * 9, 2**15), generated(5, 6, 2**30), 12, slow.Shape(3, 1, 1))
    out = slow.to_grid(generated(1, 8 * 5 * 7, 2**20), 8, 5, 7)
    for kernel, shift in ((first, range(10, 22)), (second, range(14, 20))):
        out = slow.Layer(kernel, list(shift), activation=True)(out)
    assert (len(out[0][0]), len(out), len(out[0])) == (6, 10, 14)
    answer = crc_of_four_bytes(out)
    assert f"14 integers in raster order, each as 4 bytes big-endian in two's complement, is {written(answer)}" in KNOWN


def test_the_known_answer_of_the_depthwise_layer_is_the_one_of_6_8_here_and_in_twcodec():
    a = slow.to_grid(generated(1, 8 * 5 * 7, 2**20), 8, 5, 7)
    seen = [[place + [abs(value) for value in place] for place in line] for line in a]
    weight, bias, shift = generated(6, 16 * 9, 2**15), generated(7, 16, 2**30), list(range(10, 26))
    out = slow.Layer(slow.Depthwise(weight, bias, slow.Shape(3, 1, 1)), shift, activation=False)(seen)
    answer = crc_of_four_bytes(out)
    assert f"CRC-32 of its output, 16 x 5 x 7 integers written in the same way, is {written(answer)}" in KNOWN
    kernel = np.array(weight, np.int16).reshape(16, 1, 3, 3)
    layer = DepthwiseLayer(kernel, np.array(bias), np.array(shift, np.int32))
    assert layer(torch.tensor(seen, dtype=torch.int32)).tolist() == out


KNOWN = " ".join(section("### 6.8 Known answer").split())


def written(crc: int) -> str:
    return f"{crc} ({crc:08X})"


def crc_of_four_bytes(grid: slow.Grid) -> int:
    return zlib.crc32(b"".join(value.to_bytes(4, "big", signed=True) for value in slow.raster(grid)))


def test_the_embedded_default_is_the_model_of_8_1(model):
    facts = re.search(
        r"digest ([0-9a-f]{32}); its file has (\d+) bytes, N = (\d+), M = (\d+), T = (\d+) and (\d+)", TEXT
    )
    found = (model.digest.hex(), MODEL.stat().st_size, model.n, model.m, len(model.y_tables), model.rows)
    assert facts.groups() == tuple(str(fact) for fact in found)
    floor = re.search(r"For the embedded `default-1` S is about ([\d.]+),", TEXT).group(1)
    assert f"{model.floor:.2f}" == floor


def test_tensors_that_the_text_does_not_name_are_ignored(codec, crop):
    """8.1, in the family residual-dct: a fifth block is none of its tensors."""
    parsed = model_file.parse(MODEL.read_bytes())
    fifth = {k.replace("blocks.3.", "blocks.4."): v for k, v in parsed.tensors.items() if "blocks.3." in k}
    data = model_file.build({**parsed.tensors, **fifth, "training.x": np.zeros(3, np.float32)}, parsed.metadata)
    assert len(slow.Model(data).synthesis.blocks) == 4
    more = Codec(Model(data, "more", torch.device("cpu")))
    settings = Settings(4, 1, "never")
    encoded = [one.encode_picture(crop(16, 40), settings)[0] for one in (codec, more)]
    assert np.array_equal(codec.decode(encoded[0]), more.decode(encoded[1]))


def test_z_hat_cannot_leave_the_range_of_activations():
    assert "|z_hat| <= 2096127" in section("### 6.7")
    assert 1023 * 1024 + 2**20 - 1 == 2096127 <= 2097151


# --- The worked example -----------------------------------------------------------------------------------------------

EXAMPLE = section("## 10. Worked example")
FLAT = " ".join(EXAMPLE.split())
FILE = bytes.fromhex("".join(line[8:] for line in EXAMPLE.split("```")[1].strip().splitlines()))


@pytest.fixture(scope="module")
def example(model) -> slow.Decoded:
    return slow.decode(FILE, model)


def number(pattern: str, base: int = 10) -> int:
    """The one number that stands in the example at the place of the pattern's group."""
    (found,) = re.findall(pattern, FLAT)
    return int(found, base)


def test_the_dump_has_the_length_and_offsets_that_it_says():
    assert len(FILE) == number(r"The file has (\d+) bytes")
    offsets = [int(line[:8], 16) for line in EXAMPLE.split("```")[1].strip().splitlines()]
    assert offsets == list(range(0, len(FILE), 16))


def test_every_byte_is_explained_where_it_stands():
    at = 0
    for offset, cell, meaning in table(EXAMPLE, "Offset", "Bytes", "Meaning"):
        assert int(offset, 16) == at, meaning
        tokens = cell.replace("`", "").split()
        if ".." in tokens:
            length = number(r"length of DATA: (\d+)")
            assert FILE[at : at + 2] == bytes(hexes(" ".join(tokens[:2])))
            assert FILE[at + length - 2 : at + length] == bytes(hexes(" ".join(tokens[-2:])))
        else:
            length = len(tokens)
            assert FILE[at : at + length] == bytes(hexes(" ".join(tokens))), meaning
        value = re.match(
            r"(?:length of \w+:|width|height|depth|transform|seed|arithmetic|coder) (\d+)|quality (\d+)", meaning
        )
        if value:
            assert int(value[1] or value[2]) == int("".join(tokens), 16), meaning
        spans = re.search(r"of bytes (\w\w) to (\w\w)", meaning)
        if spans:
            begin, end = (int(part, 16) for part in spans.groups())
            assert zlib.crc32(FILE[begin : end + 1]) == struct.unpack(">I", FILE[at : at + 4])[0]
        at += length
    assert at == len(FILE)


def test_its_header_says_what_the_command_asked_for(example):
    head = example.head
    assert (head.width, head.height, head.mode, head.depth, head.quality) == (5, 3, 3, 8, 3000)
    assert (head.transformed, head.transform, head.seed, head.ways) == (1, 4, 1, 1)


def test_its_transform(example):
    turn, dy, dx = slow.draw(4, 1, 3, 5)
    state = number(r"The generator starts with ([0-9A-F]{16})\.", 16)
    assert state == example.head.transform * 2**32 + example.head.seed
    generator = slow.SplitMix64(state)
    assert f"below(7) gives {generator.below(7)}, so turn = {turn}:" in FLAT
    a, b = -3 % 16, -5 % 16
    assert f"Ht = 3, Wt = 5, a = (-3) mod 16 = {a}, b = (-5) mod 16 = {b}." in FLAT
    s = generator.below((a + 1) * (b + 1))
    product = f"below({a + 1} x {b + 1} = {(a + 1) * (b + 1)})"
    assert f"{product} gives {s}, so dy = {s} div {b + 1} = {dy} and dx = {s} mod {b + 1} = {dx}." in FLAT
    assert f"has {3 + dy} rows and {5 + dx} columns" in FLAT
    found = example.symbols
    assert f"h = w = {found.rows} and hz = wz = {slow.ceil_div(found.columns, 4)}." in FLAT
    assert f"There are {len(example.symbols.z)} symbols of z and {len(example.symbols.y)} of y" in FLAT


def test_its_first_entries_and_the_states_behind_them(model):
    decoder = slow.RangeDecoder(slow.read_chunks(FILE)[1][b"DATA"])
    assert decoder.point == number(r"give point = ([0-9A-F]{16})", 16)
    header = ("z channel", "f", "quantile", "entry", "symbol", "lower", "range")
    rows = table(EXAMPLE, *header)
    assert len(rows) == 9
    for channel, first, quantile, entry, symbol, lower, width in rows:
        tables = model.z_tables[int(channel)]
        assert (tables.first, decoder.quantile) == (int(first), int(quantile))
        assert decoder.entry(tables.bounds) == int(entry)
        assert tables.first + int(entry) == int(symbol)
        assert (f"{decoder.lower:016X}", f"{decoder.range:016X}") == (lower, width)
    for channel, words in ((0, "channel 0 has the weights"), (1, "that of channel 1 has")):
        weights = [(b - a) // 256 for a, b in itertools.pairwise(model.z_tables[channel].bounds)]
        assert f"{words} {', '.join(map(str, weights))}" in FLAT


def test_its_z(model, example):
    decoder = slow.RangeDecoder(slow.read_chunks(FILE)[1][b"DATA"])
    z, escaped = slow.decode_array(decoder, model.z_tables, list(range(96)))
    state = f"lower = {decoder.lower:016X}, range = {decoder.range:016X}, position = {decoder.position}."
    assert f"After the last symbol of z, {state} No symbol of z is escaped." in FLAT
    assert escaped == example.symbols.z_escaped == []
    nonzero = {channel: value for channel, value in enumerate(z) if value}
    (values,) = table(EXAMPLE, "Channel", *(str(channel) for channel in nonzero))
    assert values == ["z", *(str(value) for value in nonzero.values())]


def test_its_layers(example):
    rows = table(EXAMPLE, "Layer", "Size", "First six values", "CRC-32")
    for (layer, size, first, crc), grid in zip(rows, example.symbols.layers, strict=True):
        assert size == f"{len(grid[0][0])} x {len(grid)} x {len(grid[0])}", layer
        assert [int(value) for value in first.split()] == slow.raster(grid)[:6]
        assert int(crc, 16) == crc_of_four_bytes(grid)


def test_its_indices_means_and_y(model, example):
    found = example.symbols
    rows = {name: [int(v) for v in values] for name, *values in table(EXAMPLE, "Channel", *map(str, range(16)))}
    assert rows == {name: getattr(found, name)[:16] for name in ("scale", "index", "mean", "y")}
    assert number(r"(\d+) symbols of y are not 0") == sum(value != 0 for value in found.y)
    assert number(r"(\d+) are escaped") == len(found.y_escaped)
    listed = re.findall(r"channel (\d+) \(index (\d+), class (\d+), y = (-?\d+)\)", FLAT)
    assert [tuple(map(int, entry)) for entry in listed] == [
        (i, found.index[i], escape_class(model.y_tables[found.index[i]], found.y[i]), found.y[i])
        for i in [*found.y_escaped[:3], found.y_escaped[-1]]
    ]


def escape_class(of: slow.Table, symbol: int) -> int:
    """7.9"""
    v = 2 * (of.first - symbol) - 1 if symbol < of.first else 2 * (symbol - of.first - of.n + 1)
    return (v + 1).bit_length() - 1


def test_its_end(example):
    decoder = example.symbols.decoder
    words = f"ceil({len(decoder.payload)} / 4) = {slow.ceil_div(len(decoder.payload), 4)}"
    assert f"position = {decoder.position}, more than {words}:" in FLAT
    state = f"lower = {decoder.lower:016X}, range = {decoder.range:016X}, point = {decoder.point:016X}"
    assert f"{state}, and point - lower = {decoder.point - decoder.lower:X} is" in FLAT
    assert f"CRC-32 of the 352 symbols is {zlib.crc32(example.symbols.coded):08X}, as HEAD says" in FLAT


def test_its_pixels(codec, example):
    rows = table(EXAMPLE, "", *(f"q = {q}" for q in range(5)))
    written = [[[int(v) for v in cell.split()] for cell in cells] for _, *cells in rows]
    assert example.samples == written
    assert np.abs(np.asarray(codec.decode(FILE)).astype(int) - written).max() <= 1


@pytest.fixture(scope="module")
def codec():
    """The model of the worked example, not the newest default."""
    return twcodec.open_codec(model="default-1", device="cpu")


def test_the_current_encoder_still_makes_it(codec):
    """Not promised by the format: analysis is in floating point, so another machine may make other bytes."""
    r, q = np.mgrid[:3, :5]
    samples = np.stack([60 * q, 120 * r, 255 - 50 * q], axis=2).astype(np.uint8)
    made, _ = codec.encode_picture(Picture(samples, "RGB"), Settings(3, transform="always", seed=1, precision="fp32"))
    if made != FILE:
        pytest.skip("this machine's floating point makes other symbols")


# --- The slow decoder against twcodec -----------------------------------------------------------------------------------

SIZES = [
    (1, 1, 1.0, ""),
    (20, 50, 4.321, "flip-turn-slack"),
    (50, 20, 7.0, "flip-turn-shift"),
    (33, 16, 2.5, "grid-shift"),
]


@pytest.mark.parametrize(("height", "width", "quality", "transform"), SIZES)
def test_slow_decoder_and_twcodec_find_the_same_integers(codec, model, crop, height, width, quality, transform):
    mode = "always" if transform else "never"
    settings = Settings(quality, 1, mode, (transform,) if transform else (), seed=height)
    data, _ = codec.encode_picture(crop(height, width), settings)
    ours = codec.decode_symbols(data)
    head, chunks = slow.read_chunks(data)
    theirs = slow.decode_symbols(head, chunks[b"DATA"], model)
    assert theirs.z == ours.z.flatten().tolist()
    assert theirs.y == ours.y.flatten().tolist()
    assert theirs.index == ours.levels.flatten().tolist()
    assert slow.raster(theirs.y_hat()) == ours.y_hat.flatten().tolist()


def test_slow_decoder_and_twcodec_show_the_same_picture(codec, model, crop):
    data, _ = codec.encode_picture(crop(9, 21), Settings(5.25, 1, "always", ("flip-turn",), seed=9))
    exact = np.array(slow.decode(data, model).values)
    ours = np.asarray(codec.decode(data)).astype(float)
    assert np.abs(ours - exact).max() <= 0.5 + 0.01  # what 8.4 allows is 1.5


def test_both_refuse_and_accept_the_same_changed_symbols(codec, model, crop):
    """The coder alone, without the symbols' CRC: where words end, what is left over, quantiles beyond 2^24."""
    data, _ = codec.encode_picture(crop(16, 16), Settings(6, transform="never"))
    payload = Container.from_bytes(data).data
    levels = codec.decode_symbols(data).levels.flatten().numpy()
    z_index = np.arange(96, dtype=np.uint16)
    coder = codec.model.family.entropy
    rng = np.random.default_rng(5)
    accepted = 0
    for changed in changes(payload, rng):
        try:
            decoder = new_decoder(changed)
            fast = [*coder._z_coder.decode(decoder, z_index), *coder._y_coder.decode(decoder, levels)]
            check_finished(decoder)
        except CorruptError:
            fast = None
        try:
            own = slow.RangeDecoder(changed)
            plain = slow.decode_array(own, model.z_tables, z_index.tolist())[0]
            plain += slow.decode_array(own, model.y_tables, levels.tolist())[0]
            own.check_end()
        except slow.Refused:
            plain = None
        assert fast == plain
        accepted += plain is not None
    assert 5 < accepted < 50


def changes(payload: bytes, rng: np.random.Generator) -> list[bytes]:
    """Bits flipped, near the end above all; bytes cut off; zeros and other bytes added; all ones."""
    out = [
        payload,
        payload + b"\0",
        payload + bytes(4),
        payload + bytes(8),
        payload + bytes(12),
        b"\xff" * len(payload),
    ]
    out += [payload[:-n] for n in range(1, 12)] + [payload + bytes([n]) for n in range(1, 256, 50)]
    for k in range(80):
        broken = bytearray(payload)
        reach = 9 if k % 2 else len(payload)
        broken[-1 - int(rng.integers(reach))] ^= 1 << int(rng.integers(8))
        out.append(bytes(broken))
    return out


# --- The AVIF payload -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded(codec, crop):
    """A file of payload kind 1, and the picture in it."""
    from twcodec.codec import guard

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(guard, "THRESHOLD", 0.0)
        return codec.encode_picture(crop(20, 28), Settings(4, guard="avif"))[0]


def test_its_head_has_the_values_of_3_1_and_the_slow_decoder_has_no_av1(guarded, model):
    zeros = {name for name, value, _ in table(section("### 3.1 HEAD"), "Field", "With payload kind 1", "Otherwise")}
    assert "transformed, transform, seed" in zeros
    head = guarded[18:60]
    assert head[10] == 1
    assert head[11:37] == bytes(26)
    with pytest.raises(slow.Refused) as caught:
        slow.decode(guarded, model)
    assert caught.value.kind == slow.UNSUPPORTED


def test_its_samples_are_those_of_11_2_and_their_checksum_that_of_11_3(codec, guarded):
    """By the rows of the text's table, from the planes that Pillow gives when it is told that they are GBR."""
    import io

    from PIL import Image

    container = Container.from_bytes(guarded)
    at = container.data.index(bytes.fromhex("636F6C726E636C78")) + 12
    assert container.data[at : at + 3] == b"\0\6\x80"
    with Image.open(io.BytesIO(container.data[:at] + bytes(2) + container.data[at + 2 :])) as image:
        planes = np.asarray(image).astype(int)
    rows = [cells[-1] for cells in table(section("### 11.2"), "C", "Samples at depth 8")[1:]]
    samples = []
    for place in planes.reshape(-1, 3):
        names = {"v": int(place[0]) - 128, "Y": int(place[1]), "u": int(place[2]) - 128, "clamp": slow_clamp}
        samples += [eval(re.sub(r"(\d) ([uv])", r"\1*\2", row.split(" ", 1)[1]), names) for row in rows]
    assert bytes(samples) == codec.decode_picture(guarded).samples.tobytes()
    assert zlib.crc32(bytes(samples)) == container.header.symbols_crc


def slow_clamp(a: int, low: int, high: int) -> int:
    return min(max(a, low), high)


def test_its_letters_and_numbers_of_11_1_are_in_it(guarded):
    text, data = section("### 11.1"), Container.from_bytes(guarded).data
    (location,) = re.findall(r"`((?:[0-9A-F]{2}\s+){17}[0-9A-F]{2})`", text)
    begin = data.index(b"mdat") + 4
    rest = struct.pack(">II", begin, len(data) - begin)
    assert data.count(b"mdat") == data[: begin - 4].count(b"iloc") == 1
    assert bytes.fromhex(location) + rest in data
