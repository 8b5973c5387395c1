import math
import tracemalloc

import numpy as np
import plain
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from twcodec.errors import CorruptError, UnsupportedError
from twcodec.exact import coder
from twcodec.exact.cost import Cost
from twcodec.exact.tables import TOTAL, Tables, table_from_probabilities
from twcodec.models.mean_scale import gaussian_tables, scale_levels, thresholds


def gaussian(sigma: float) -> tuple[int, np.ndarray]:
    edges = np.array([0.5 * (1 + math.erf(x / sigma / math.sqrt(2))) for x in np.arange(-2000.5, 2001)])
    return table_from_probabilities(-2000, np.diff(edges))


SIGMAS = (0.11, 0.5, 3.0, 50.0)
TABLES = Tables.pack([gaussian(s) for s in SIGMAS])
CODER = coder.TableCoder(TABLES)
LISTS = [(int(f), w.tolist()) for f, w in zip(TABLES.first, np.split(TABLES.weight, TABLES.start[1:]), strict=True)]


def draw(seed: int, count: int, escapes: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Symbols that fit their tables, the first few of them anywhere."""
    rng = np.random.default_rng(seed)
    index = rng.integers(0, len(SIGMAS), count).astype(np.uint8)
    symbols = np.round(rng.normal(size=count) * np.array(SIGMAS)[index]).astype(np.int32)
    symbols[:escapes] = rng.integers(-32767, 32768, escapes)
    return symbols, index


def encoded(symbols, index) -> bytes:
    encoder = coder.new_encoder()
    CODER.encode(encoder, symbols, index)
    return coder.finish(encoder)


def decoded(payload: bytes, index) -> np.ndarray:
    decoder = coder.new_decoder(payload)
    symbols = CODER.decode(decoder, index)
    coder.check_finished(decoder)
    return symbols


@pytest.mark.parametrize(("count", "escapes"), [(0, 0), (1, 0), (1, 1), (7, 3), (3000, 0), (3000, 40)])
def test_the_plain_decoder_reads_what_the_fast_coder_writes(count, escapes):
    symbols, index = draw(count + escapes, count, escapes)
    payload = encoded(symbols, index)
    assert plain.decode_symbols(plain.RangeDecoder(payload), LISTS, index.tolist()) == symbols.tolist()


@pytest.mark.parametrize(("count", "seeds"), [(1, 100), (2, 100), (7, 200), (50, 50), (3000, 1)])
def test_the_plain_encoder_writes_the_same_bytes(count, seeds):
    for seed in range(seeds):
        symbols, index = draw(seed, count)
        compare_encoders(symbols, index)


def compare_encoders(symbols, index):
    symbols = np.where(np.abs(symbols) > 0, np.sign(symbols), 0)  # within every table but the first
    index = np.maximum(index, 1)
    encoder = plain.RangeEncoder()
    for i in np.argsort(index, kind="stable"):
        first, weights = LISTS[index[i]]
        encoder.encode([256 * w for w in weights], int(symbols[i]) - first)
    assert encoder.finish() == encoded(symbols, index)


def test_coded_words_are_pinned():
    """Bits of the format: if this fails, old files no longer decode."""
    payload = encoded(*draw(11, 60, 3))
    assert payload.hex() == PINNED


PINNED = "ffffffff833eba54bb11a2b20c874991dba032a1a6dece4d70fa16de1de0afdf1cd904ffffff67f62376e152"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(-32767, 32767), st.integers(0, 3)), max_size=40))
def test_any_symbols_come_back(pairs):
    symbols = np.array([s for s, _ in pairs], np.int32)
    index = np.array([i for _, i in pairs], np.uint8)
    assert np.array_equal(decoded(encoded(symbols, index), index), symbols)


@pytest.mark.parametrize("block", [1, 2, 7, 50, 299, 300, 301])
@pytest.mark.parametrize("escapes", [0, 60])
@pytest.mark.parametrize("index_type", [np.uint8, np.uint16])
@pytest.mark.parametrize("symbol_type", [np.int16, np.int32])
def test_blocks_change_no_byte_and_no_symbol(block, escapes, index_type, symbol_type, monkeypatch):
    symbols, index = draw(escapes, 300, escapes)
    symbols, index = symbols.astype(symbol_type), index.astype(index_type)
    payload = encoded(symbols, index)
    monkeypatch.setattr(coder, "_BLOCK", block)
    assert encoded(symbols, index) == payload
    found = decoded(payload, index)
    assert found.dtype == np.int16
    assert np.array_equal(found, symbols)


@pytest.mark.parametrize("used", [[700], [0, 299, 999], [256]])
def test_blocks_of_more_tables_than_a_byte_can_name(used, monkeypatch):
    """z has a table a channel and row; most tables have no symbol in a block, some in none."""
    rng = np.random.default_rng(3)
    weights = [
        np.append(rng.multinomial(TOTAL - 5, [0.1, 0.2, 0.3, 0.4]) + 1, 1).astype(np.uint16) for _ in range(1000)
    ]
    many = coder.TableCoder(Tables.pack([(-2, w) for w in weights]))
    index = rng.choice(used, 100).astype(np.uint16)
    symbols = rng.integers(-4, 5, 100).astype(np.int32)
    payloads = []
    for block in (1 << 22, 9):
        monkeypatch.setattr(coder, "_BLOCK", block)
        encoder = coder.new_encoder()
        many.encode(encoder, symbols, index)
        payloads.append(coder.finish(encoder))
        assert np.array_equal(many.decode(coder.new_decoder(payloads[0]), index), symbols)
    lists = [(-2, w.tolist()) for w in weights]
    assert payloads[0] == payloads[1]
    assert plain.decode_symbols(plain.RangeDecoder(payloads[0]), lists, index.tolist()) == symbols.tolist()


@pytest.mark.parametrize("damaged", range(20))
def test_what_damaged_bytes_decode_to_does_not_depend_on_blocks(damaged, monkeypatch):
    symbols, index = draw(2, 300, 20)
    payload = bytearray(encoded(symbols, index))
    payload[damaged * len(payload) // 20] ^= 0x55
    found = []
    for block in (1 << 22, 13):
        monkeypatch.setattr(coder, "_BLOCK", block)
        try:
            found.append(CODER.decode(coder.new_decoder(bytes(payload)), index).tolist())
        except CorruptError as error:
            found.append(str(error))
    assert found[0] == found[1] != symbols.tolist()


@pytest.mark.parametrize("escapes", [0, 1 << 19])
def test_memory_is_that_of_the_symbols_and_a_block(escapes, monkeypatch):
    """By table and as they come, two bytes each; indices as integers of eight would take four times as much.

    An escape takes two bytes more when it is coded, and three when it is decoded: a stranger's stream may hold no other.
    """
    monkeypatch.setattr(coder, "_BLOCK", 1 << 12)
    count = 1 << 19
    symbols, index = draw(1, count, escapes)
    symbols = symbols.astype(np.int16)
    payload = encoded(symbols, index)
    assert peak(lambda: encoded(symbols, index)) < 2 * count + 2 * escapes + 3 * len(payload) + (1 << 19)
    assert peak(lambda: decoded(payload, index)) < 4 * count + 3 * escapes + 2 * len(payload) + (1 << 19)


def peak(run) -> int:
    """Bytes of arrays beyond those that were there."""
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 400))
def test_any_bytes_decode_to_symbols_in_range_or_are_called_corrupt(payload, count):
    index = np.arange(count, dtype=np.uint8) % 4
    try:
        decoder = coder.new_decoder(payload)
        symbols = CODER.decode(decoder, index)
        coder.check_finished(decoder)
    except CorruptError:
        return
    assert len(symbols) == count
    assert count == 0 or np.abs(symbols).max() <= 32767


def test_symbols_that_end_too_early_are_corrupt():
    decoder = coder.new_decoder(encoded(*draw(1, 3000)))
    CODER.decode(decoder, np.ones(10, np.uint8))
    with pytest.raises(CorruptError, match="end before"):
        coder.check_finished(decoder)


@pytest.mark.parametrize("escapes", [0, 1, 500])
def test_the_estimate_is_the_coded_length(escapes):
    symbols, index = draw(escapes, 20000, escapes)
    bits = cost_of(symbols, index)
    written = 8 * len(encoded(symbols, index))
    assert abs(bits - written) <= 0.001 * written + 64


COST = Cost(TABLES, torch.device("cpu"))


def cost_of(symbols: np.ndarray, index: np.ndarray) -> float:
    return float(COST(torch.from_numpy(symbols), torch.from_numpy(index)))


def plain_cost(symbol: int, table: int) -> float:
    """Bits of one symbol: 16 - log2 w, and of an escape its class and low bits besides."""
    first, weights = LISTS[table]
    if first <= symbol < first + len(weights) - 1:
        return 16 - math.log2(weights[symbol - first])
    v = 2 * (first - symbol) - 1 if symbol < first else 2 * (symbol - first - len(weights) + 1)
    k = (v + 1).bit_length() - 1
    return 16 - math.log2(weights[-1]) + 16 - math.log2(plain.CLASS_WEIGHTS[k]) + k


@pytest.mark.parametrize("table", range(len(SIGMAS)))
def test_every_symbol_costs_what_the_text_says(table):
    """Near 0, beyond what is looked up at once, at the ends of the table, and escapes up to the limit."""
    first, weights = LISTS[table]
    last = first + len(weights) - 2
    ends = [at + off for at in (-16, 0, 16, first, last, -32767, 32767) for off in range(-3, 4)]
    for symbol in {s for s in ends if abs(s) <= 32767}:
        found = cost_of(np.array([symbol], np.int16), np.array([table], np.uint8))
        assert found == pytest.approx(plain_cost(symbol, table), abs=1e-4), symbol


@pytest.mark.parametrize("symbol_type", [np.int16, np.int32])
@pytest.mark.parametrize("index_type", [np.uint8, np.int64])
@pytest.mark.parametrize("escapes", [0, 30])
def test_the_cost_of_many_is_the_sum_of_their_costs(symbol_type, index_type, escapes):
    """Both in the table of near symbols and beyond it."""
    symbols, index = draw(7, 400, escapes)
    assert len(set(np.abs(symbols[escapes:]) <= 15)) == 2
    total = sum(plain_cost(int(s), int(t)) for s, t in zip(symbols, index, strict=True))
    assert cost_of(symbols.astype(symbol_type), index.astype(index_type)) == pytest.approx(total, rel=1e-6)


@pytest.mark.parametrize(("name", "value"), [("_PART", 1), ("_PART", 13), ("_NEAR", 0), ("_NEAR", 2)])
def test_parts_and_what_is_looked_up_at_once_change_no_cost(name, value, monkeypatch):
    symbols, index = draw(5, 200, 20)
    expected = cost_of(symbols, index)
    monkeypatch.setattr(f"twcodec.exact.cost.{name}", value)
    other = Cost(TABLES, torch.device("cpu"))
    assert float(other(torch.from_numpy(symbols), torch.from_numpy(index))) == pytest.approx(expected, rel=1e-6)


def test_no_symbols_cost_nothing():
    assert cost_of(np.zeros(0, np.int16), np.zeros(0, np.uint8)) == 0


def test_every_gaussian_table_sums_to_65536_and_costs_little_more_than_the_density():
    tables = gaussian_tables()
    assert len(tables) == 256
    for sigma, weight, first in zip(
        scale_levels(), np.split(tables.weight, tables.start[1:]), tables.first, strict=True
    ):
        assert int(weight.sum()) == TOTAL
        assert weight.min() >= 1
        k = np.arange(first, first + len(weight) - 1)
        density = np.array(
            [0.5 * (math.erf((i + 0.5) / sigma / 2**0.5) - math.erf((i - 0.5) / sigma / 2**0.5)) for i in k]
        )
        density = np.maximum(density, 1e-300)
        excess = float((density * (np.log2(density) - np.log2(weight[:-1] / TOTAL))).sum())
        assert excess < 0.002, sigma


def test_thresholds_ascend_and_lie_between_their_levels():
    edges = thresholds() / 1024
    assert (np.diff(edges) > 0).all()
    assert (edges > scale_levels()[:-1]).all()
    assert (edges < scale_levels()[1:]).all()


@pytest.mark.parametrize(
    ("weight", "length", "first"),
    [
        ([1, 1], [2], [0]),
        ([65535, 1, 0], [3], [0]),
        ([65535, 1], [3], [0]),
        ([65535, 1], [2], [1]),
        ([65535, 1], [2], [-1]),
        ([65535, 1], [1], [0]),
        ([], [], []),
    ],
)
def test_tables_that_could_not_drive_the_coder_are_refused(weight, length, first):
    with pytest.raises(UnsupportedError, match="not sound"):
        Tables(np.array(weight, np.uint16), np.array(length, np.int32), np.array(first, np.int32))


def test_escape_classes_are_exact_at_powers_of_two():
    for k in range(1, 16):
        assert coder.escape_class(np.array([2**k - 2, 2**k - 1, 2**k])).tolist() == [k - 1, k, k]
