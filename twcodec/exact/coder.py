"""Symbols <-> bytes: a range coder over integer tables, one call a table (formats/twc-1.md, section 7).

The coder is constriction's range coder: 32-bit words, 64-bit state, 24-bit probabilities. A weight w of 2^16 is handed
to it as 256 w of 2^24. constriction gives every one of n symbols 1 unit and divides the other 2^24 - n in proportion
to what it is handed, so handing it 256 w - 1 makes its scale exactly one and its boundaries exactly 256 times ours;
the plain coder in tests/exact holds that, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import constriction
import numpy as np

from twcodec.errors import CorruptError
from twcodec.exact.tables import SYMBOL_LIMIT, TOTAL_BITS, Tables

if TYPE_CHECKING:
    from numpy.typing import NDArray

_UNITS = 1 << (24 - TOTAL_BITS)
_WORD = np.dtype(">u4")
_queue = constriction.stream.queue
_model = constriction.stream.model

ESCAPE_CLASSES = 16
"""Exp-Golomb classes: the escaped value v has class floor(log2(v + 1)) <= 15, and codewords of at most 31 bits."""

LOSS_BITS = 2**-9 / (32 * math.log(2) ** 2)
"""What one symbol loses on average because the coder's range, 2^32 .. 2^64, is cut to a multiple of 2^24: with a range
that is as likely in each octave as in any other, the mean of 2^23 / range / ln 2."""

SEAL_BITS = 16
"""What ending a stream on a whole byte costs, about."""


def _categorical(weights: NDArray[np.integer[Any]]) -> Any:
    return _model.Categorical(weights.astype(np.float64) * _UNITS - 1, perfect=False)


_CLASS_MODEL = _categorical(np.array([1 << max(1, 15 - k) for k in range(ESCAPE_CLASSES)]))


class TableCoder:
    """The coder models of a set of tables, made once when a model is loaded. Immutable, so threads may share it."""

    def __init__(self, tables: Tables) -> None:
        self._models = [_categorical(w) for w in np.split(tables.weight, tables.start[1:])]
        self._first = tables.first
        self._escape = tables.length - 1

    def encode(self, encoder: Any, symbols: NDArray[np.integer[Any]], index: NDArray[np.integer[Any]]) -> None:
        """Code symbols: (N,), |s| <= SYMBOL_LIMIT, each with the table that `index`: (N,) names."""
        groups = _Groups(index, len(self._models))
        grouped, escaped = groups.gather(symbols), []
        for runs in groups.chunks():
            entries = grouped[runs.start : runs.stop] - runs.of(self._first)
            escape = runs.of(self._escape)
            outside = entries.view(np.uint32) >= escape.view(np.uint32)  # negative ones are large, too
            if outside.any():
                escaped.append(_fold(entries[outside], escape[outside]))
                entries[outside] = escape[outside]
            for table, part in runs:
                encoder.encode(entries[part], self._models[table])
        _encode_escapes(encoder, escaped)

    def decode(self, decoder: Any, index: NDArray[np.integer[Any]]) -> NDArray[np.int16]:
        """The symbols: (N,) that were coded with these table indices. CorruptError: no encoder made these bytes."""
        groups = _Groups(index, len(self._models))
        grouped, escapes = np.empty(len(index), np.int16), 0
        for runs in groups.chunks():
            entries = np.empty(len(runs), np.int32)
            for table, part in runs:
                entries[part] = _decode(decoder, self._models[table], part.stop - part.start)
            escapes += np.count_nonzero(entries == runs.of(self._escape))
            grouped[runs.start : runs.stop] = entries + runs.of(self._first)
        if escapes:
            self._put_escapes(groups, grouped, _decode_escapes(decoder, escapes))
        return groups.scatter(grouped)

    def _put_escapes(self, groups: _Groups, grouped: NDArray[np.int16], v: NDArray[np.uint16]) -> None:
        """Replace what stands for an escape, one more than its table's last symbol, by what was escaped, in order."""
        done = 0
        for runs in groups.chunks():
            own, beyond = grouped[runs.start : runs.stop], runs.of(self._first + self._escape)
            where = np.flatnonzero(own == beyond.astype(np.int16))
            folded = v[done : done + len(where)].astype(np.int32)
            below = runs.of(self._first)[where] - (folded + 1) // 2
            symbols = np.where(folded & 1, below, beyond[where] + folded // 2)
            if len(symbols) and np.abs(symbols).max() > SYMBOL_LIMIT:
                raise CorruptError("a coded symbol is out of range")
            own[where] = symbols
            done += len(where)


class _Groups:
    """Symbols by table: all of the first table in their order, then all of the second, ..., in bounded memory."""

    def __init__(self, index: NDArray[np.integer[Any]], tables: int) -> None:
        """index: (N,), the table of each symbol, below `tables`."""
        self._index, self._counts = index, np.zeros(tables, np.int64)
        for start in range(0, len(index), _BLOCK):  # bincount makes eight bytes of each
            self._counts += np.bincount(index[start : start + _BLOCK], minlength=tables)
        self._ends = np.cumsum(self._counts)

    def gather(self, values: NDArray[Any]) -> NDArray[Any]:
        """(N,) as they come to (N,) by table."""
        grouped = np.empty_like(values)
        for own, order, places in self._blocks():
            taken = values[own][order]
            for here, there in places:
                grouped[there] = taken[here]
        return grouped

    def scatter(self, grouped: NDArray[Any]) -> NDArray[Any]:
        """The inverse of `gather`."""
        values = np.empty_like(grouped)
        for own, order, places in self._blocks():
            taken = np.empty(len(order), grouped.dtype)
            for here, there in places:
                taken[here] = grouped[there]
            values[own][order] = taken
        return values

    def _blocks(self) -> Iterator[tuple[slice, NDArray[np.int64], list[tuple[slice, slice]]]]:
        """Blocks of symbols: where each lies, its order by table, and where in it and in all each table's share is."""
        filled = self._ends - self._counts
        for start in range(0, len(self._index), _BLOCK):
            own = slice(start, min(start + _BLOCK, len(self._index)))
            order = np.argsort(self._index[own], kind="stable")
            if own.stop - own.start == len(self._index):
                yield own, order, [(own, own)]
                return
            counts = np.bincount(self._index[own], minlength=len(filled))
            ends = np.cumsum(counts)
            present = np.flatnonzero(counts).tolist()
            places = [(slice(ends[t] - counts[t], ends[t]), slice(filled[t], filled[t] + counts[t])) for t in present]
            filled += counts
            yield own, order, places

    def chunks(self) -> Iterator[_Runs]:
        """What lies by table, a bounded number of symbols at a time."""
        return (
            _Runs(start, min(start + _BLOCK, len(self._index)), self._counts, self._ends)
            for start in range(0, len(self._index), _BLOCK)
        )


class _Runs:
    """The symbols start .. stop - 1 by table, as runs of one table each."""

    def __init__(self, start: int, stop: int, counts: NDArray[np.int64], ends: NDArray[np.int64]) -> None:
        """counts, ends: of each table's symbols."""
        self.start, self.stop = start, stop
        inside = ends.clip(start, stop) - (ends - counts).clip(start, stop)
        self._tables = np.flatnonzero(inside)
        self._lengths = inside[self._tables]

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[tuple[int, slice]]:
        """Each table, and where its symbols are, from the start of these."""
        ends = np.cumsum(self._lengths).tolist()
        for table, begin, end in zip(self._tables.tolist(), [0, *ends], ends, strict=False):
            yield table, slice(begin, end)

    def of(self, by_table: NDArray[np.int32]) -> NDArray[np.int32]:
        """For each symbol, what is its table's."""
        return np.repeat(by_table[self._tables], self._lengths)


_BLOCK = 1 << 18
"""Symbols that are sorted or coded at a time: bounds the memory for it."""


def new_encoder() -> Any:
    """An empty range encoder for `TableCoder.encode`."""
    return _queue.RangeEncoder()


def finish(encoder: Any) -> bytes:
    """The coded bytes: big-endian words, without the zero bytes at the end, which the decoder supplies."""
    return bytes(encoder.get_compressed().astype(_WORD).tobytes().rstrip(b"\0"))


def new_decoder(payload: bytes) -> Any:
    """A range decoder over what `finish` returned."""
    missing = -len(payload) % _WORD.itemsize
    padded = payload + bytes(missing) if missing else payload
    return _queue.RangeDecoder(np.frombuffer(padded, _WORD).astype(np.uint32))


def check_finished(decoder: Any) -> None:
    """CorruptError unless all of the payload was used."""
    if not decoder.maybe_exhausted():
        raise CorruptError("the coded symbols end before the DATA chunk does")


def _decode(decoder: Any, model: Any, count: int) -> NDArray[np.int32]:
    try:
        return np.asarray(decoder.decode(model, count), np.int32)
    except AssertionError:  # constriction's word for bytes that no encoder writes
        raise CorruptError("the coded symbols are damaged") from None


def _fold(entry: NDArray[np.int32], escape: NDArray[np.int32]) -> NDArray[np.uint16]:
    """Escaped entries to 0 <= v < 2^16 - 1: even above the table, odd below it, by distance."""
    return np.where(entry < 0, -2 * entry - 1, 2 * (entry - escape)).astype(np.uint16)


def _encode_escapes(encoder: Any, escaped: list[NDArray[np.uint16]]) -> None:
    """Exp-Golomb codes: the class of every value v first, then the k low bits of v + 1, class by class."""
    for v in escaped:
        encoder.encode(escape_class(v), _CLASS_MODEL)
    for k in range(1, ESCAPE_CLASSES if escaped else 0):
        for v in escaped:
            low = (v[escape_class(v) == k] + 1 - (1 << k)).astype(np.int32)
            if len(low):
                encoder.encode(low, _model.Uniform(1 << k))


def _decode_escapes(decoder: Any, count: int) -> NDArray[np.uint16]:
    """The next `count` values v, some at a time: a stream may hold nothing but escapes."""
    classes, v = np.empty(count, np.uint8), np.empty(count, np.uint16)
    parts = [slice(start, min(start + _BLOCK, count)) for start in range(0, count, _BLOCK)]
    for part in parts:
        classes[part] = _decode(decoder, _CLASS_MODEL, part.stop - part.start)
        v[part] = (1 << classes[part].astype(np.int32)) - 1
    for k in range(1, ESCAPE_CLASSES):
        for part in parts:
            which = part.start + np.flatnonzero(classes[part] == k)
            if len(which):
                v[which] += _decode(decoder, _model.Uniform(1 << k), len(which)).astype(np.uint16)
    return v


def escape_class(v: NDArray[np.integer[Any]]) -> NDArray[np.int32]:
    """floor(log2(v + 1)) for 0 <= v < 2^16, exactly."""
    return np.asarray(np.frexp(v.astype(np.float64) + 1)[1] - 1, np.int32)
