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
        if escaped:
            _encode_escapes(encoder, np.concatenate(escaped))

    def decode(self, decoder: Any, index: NDArray[np.integer[Any]]) -> NDArray[np.int16]:
        """The symbols: (N,) that were coded with these table indices. CorruptError: no encoder made these bytes."""
        groups = _Groups(index, len(self._models))
        grouped, escaped = np.empty(len(index), np.int16), []
        for runs in groups.chunks():
            entries, first, escape = np.empty(len(runs), np.int32), runs.of(self._first), runs.of(self._escape)
            for table, part in runs:
                entries[part] = _decode(decoder, self._models[table], part.stop - part.start)
            where = np.flatnonzero(entries == escape)
            escaped.append((runs.start + where, first[where], escape[where]))
            grouped[runs.start : runs.stop] = entries + first
        where, first, escape = (np.concatenate(parts) for parts in zip(*escaped, strict=True)) if escaped else _NONE
        if len(where):
            grouped[where] = _decode_escapes(decoder, first, escape)
        return groups.scatter(grouped)


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

_NONE = (np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros(0, np.int32))


def new_encoder() -> Any:
    """An empty range encoder for `TableCoder.encode`."""
    return _queue.RangeEncoder()


def finish(encoder: Any) -> bytes:
    """The coded bytes: big-endian words, without the zero bytes at the end, which the decoder supplies."""
    return bytes(encoder.get_compressed().astype(_WORD).tobytes().rstrip(b"\0"))


def new_decoder(payload: bytes) -> Any:
    """A range decoder over what `finish` returned."""
    padded = payload + bytes(-len(payload) % _WORD.itemsize)
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


def _fold(entry: NDArray[np.int32], escape: NDArray[np.int32]) -> NDArray[np.int64]:
    """Escaped entries to v >= 0: even above the table, odd below it, by distance."""
    wide = entry.astype(np.int64)
    return np.where(wide < 0, -2 * wide - 1, 2 * (wide - escape))


def _encode_escapes(encoder: Any, v: NDArray[np.int64]) -> None:
    """Exp-Golomb codes: the class of every value first, then the k low bits of v + 1, class by class."""
    classes = escape_class(v)
    encoder.encode(classes, _CLASS_MODEL)
    for k in range(1, ESCAPE_CLASSES):
        low = (v[classes == k] + 1 - (1 << k)).astype(np.int32)
        if len(low):
            encoder.encode(low, _model.Uniform(1 << k))


def _decode_escapes(decoder: Any, first: NDArray[np.int32], escape: NDArray[np.int32]) -> NDArray[np.int32]:
    classes = _decode(decoder, _CLASS_MODEL, len(first))
    v = (np.int64(1) << classes.astype(np.int64)) - 1
    for k in range(1, ESCAPE_CLASSES):
        which = np.flatnonzero(classes == k)
        if len(which):
            v[which] += _decode(decoder, _model.Uniform(1 << k), len(which))
    entry = np.where(v & 1, -(v + 1) // 2, v // 2 + escape)
    symbols = entry + first
    if np.abs(symbols).max() > SYMBOL_LIMIT:
        raise CorruptError("a coded symbol is out of range")
    return symbols.astype(np.int32)


def escape_class(v: NDArray[np.int64]) -> NDArray[np.int32]:
    """floor(log2(v + 1)) for 0 <= v < 2^16, exactly."""
    return (np.frexp((v + 1).astype(np.float64))[1] - 1).astype(np.int32)
