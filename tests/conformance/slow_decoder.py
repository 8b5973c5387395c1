"""A TWC decoder written from formats/twc-1.md and from nothing else, in plain Python. Slow; to be read beside the text.

Numbers in parentheses are the text's sections. All that is normative is computed in Python's own integers; only the
synthesis (8.4), which the text leaves to floating point, is in floats. Nothing here imports twcodec, torch or numpy.

An array of the text, A[c][r][q], is a `Grid` here: grid[r][q] is the list of its channels at row r and column q.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
import zlib
from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import chain, pairwise
from operator import mul

Grid = list[list[list[int]]]
RealGrid = list[list[list[float]]]


class Refused(Exception):
    """The file must not be decoded. kind: one of the four of section 9."""

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(f"{kind}: {why}")
        self.kind = kind


NOT_TWC, CORRUPT, UNSUPPORTED, LIMIT = "not TWC", "corrupt", "unsupported", "limit"


def require(condition: bool, why: str, kind: str = CORRUPT) -> None:
    if not condition:
        raise Refused(kind, why)


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


# --- 2 The frame ---------------------------------------------------------------------------------------------------

MAGIC = bytes([0x89, 0x54, 0x57, 0x43, 0x0D, 0x0A, 0x1A, 0x0A])

# 9: the limits of the decoder of this project
FILE_BYTES, CHUNKS, PIXELS, METADATA_BYTES = 2**30, 1024, 2**27, 2**24


def u32(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "big")


def read_frame(data: bytes) -> list[tuple[bytes, bytes]]:
    """Type and payload of every chunk, TEND included."""
    require(len(data) <= FILE_BYTES, "too many bytes", LIMIT)
    require(data[:8] == MAGIC, "the magic is not there", NOT_TWC)
    require(len(data) >= 10, "the file ends inside the prefix")
    require(data[8] == 1, "another major version", UNSUPPORTED)
    chunks, at = [], 10
    while True:
        require(at + 12 <= len(data), "the file ends where a chunk was expected")
        n = u32(data, at)
        require(at + 12 + n <= len(data), "a chunk leads beyond the end of the file")
        kind, payload = data[at + 4 : at + 8], data[at + 8 : at + 8 + n]
        require(u32(data, at + 8 + n) == zlib.crc32(kind + payload), "the CRC-32 of a chunk")
        require(all(65 <= b <= 90 or 97 <= b <= 122 for b in kind), "a type that is not four letters")
        chunks.append((kind, payload))
        require(len(chunks) <= CHUNKS, "too many chunks", LIMIT)
        if kind == b"TEND":
            require(payload == zlib.crc32(data[:at]).to_bytes(4, "big"), "the CRC-32 of the file")
            require(at + 12 + n == len(data), "bytes behind TEND")
            return chunks
        at += 12 + n


# --- 3 The chunks --------------------------------------------------------------------------------------------------

METADATA = (b"iCCP", b"eXIf", b"xMPd", b"tEXt")
KNOWN = (b"HEAD", b"DATA", b"ALPH", b"TEND", *METADATA)


def read_chunks(data: bytes, max_pixels: int = PIXELS) -> tuple[Head, dict[bytes, bytes]]:
    """HEAD, and the payload of every chunk that this text knows, by its type."""
    found = read_frame(data)
    require(found[0][0] == b"HEAD", "the first chunk is not HEAD")
    chunks: dict[bytes, bytes] = {}
    for kind, payload in found:
        if kind in KNOWN:
            require(kind not in chunks, "a chunk is there too often")
            chunks[kind] = payload
        else:
            require(bool(kind[0] & 0x20), "an unknown critical chunk", UNSUPPORTED)
    head = read_head(chunks[b"HEAD"])
    require(head.width * head.height <= max_pixels, "too many pixels", LIMIT)
    require(b"DATA" in chunks, "DATA is missing")
    require((b"ALPH" in chunks) == head.has_alpha, "mode and ALPH contradict each other")
    return head, chunks


@dataclass(frozen=True)
class Head:
    """The fields of 3.1, in the order of the file."""

    width: int
    height: int
    mode: int
    depth: int
    kind: int
    digest: bytes
    arithmetic: int
    coder: int
    quality: int
    transformed: int
    transform: int
    seed: int
    ways: int
    symbols_crc: int

    @property
    def has_alpha(self) -> bool:
        return MODES[self.mode][2]

    @property
    def channels(self) -> int:
        return MODES[self.mode][1]


MODES = [(1, 1, False), (8, 1, False), (8, 1, True), (8, 3, False), (8, 3, True), (16, 1, False)]
"""4.1: depth, coded channels, alpha, by the mode's code."""


def read_head(payload: bytes) -> Head:
    require(len(payload) >= 42, "HEAD is too short")
    head = Head(*struct.unpack(">IIBBB16sBBHBBIBI", payload[:42]))
    require((head.kind, head.arithmetic, head.coder) == (0, 1, 1), "kind, arithmetic or coder", UNSUPPORTED)
    require(1 <= head.width <= 2**24 and 1 <= head.height <= 2**24, "width or height")
    require(head.mode < len(MODES), "an unknown mode", UNSUPPORTED)
    require(head.depth == MODES[head.mode][0], "the depth is not the mode's")
    if head.transformed == 0:
        require(head.transform == 0 and head.seed == 0, "not transformed, with a transform or seed")
    else:
        require(head.transformed == 1 and head.transform >= 1, "transformed by nothing")
    require(head.transform <= 4, "an unknown transform", UNSUPPORTED)
    require(head.ways >= 1, "no encoding was tried")
    return head


# --- 4.3 ALPH ------------------------------------------------------------------------------------------------------


def inflate(stream: bytes, n: int) -> bytes:
    """One complete zlib stream of exactly n bytes, with nothing behind it; no more than n + 1 are ever held."""
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(stream, n + 1)
    except zlib.error as error:
        raise Refused(CORRUPT, f"zlib: {error}") from None
    require(len(data) == n and inflater.eof and not inflater.unused_data, "a zlib stream of another length")
    return data


def read_alpha(payload: bytes, width: int, height: int) -> list[list[int]]:
    """Rows of samples."""
    if len(payload) == 2 and payload[0] == 0:
        return [[payload[1]] * width for _ in range(height)]
    require(payload[:9] == b"\x01\x89PNG\r\n\x1a\n", "neither method of ALPH")
    parts, at = [], 9
    while at < len(payload):
        require(at + 12 <= len(payload) and at + 12 + u32(payload, at) <= len(payload), "the PNG is truncated")
        end = at + 8 + u32(payload, at)
        require(u32(payload, end) == zlib.crc32(payload[at + 4 : end]), "a CRC-32 of the PNG")
        parts.append((payload[at + 4 : at + 8], payload[at + 8 : end]))
        at = end + 4
    kinds = [kind for kind, _ in parts]
    require(len(kinds) >= 3 and kinds == [b"IHDR", *[b"IDAT"] * (len(kinds) - 2), b"IEND"], "the parts of the PNG")
    require(parts[0][1] == struct.pack(">II5B", width, height, 8, 0, 0, 0, 0), "the IHDR of the PNG")
    require(parts[-1][1] == b"", "the IEND of the PNG")
    rows = inflate(b"".join(body for _, body in parts[1:-1]), height * (width + 1))
    return unfilter(rows, width)


def unfilter(rows: bytes, width: int) -> list[list[int]]:
    """PNG's filters for one byte a pixel (RFC 2083, section 6)."""
    out: list[list[int]] = []
    above = [0] * width
    for start in range(0, len(rows), width + 1):
        method, line = rows[start], list(rows[start + 1 : start + 1 + width])
        require(method <= 4, "an unknown PNG filter")
        for x in range(width):
            a, b, c = (line[x - 1], above[x], above[x - 1]) if x else (0, above[x], 0)
            line[x] = (line[x] + (0, a, b, (a + b) // 2, paeth(a, b, c))[method]) % 256
        out.append(line)
        above = line
    return out


def paeth(a: int, b: int, c: int) -> int:
    p = a + b - c
    return min((a, b, c), key=lambda n: abs(p - n))  # the first of those that are equally near


# --- 4.4 iCCP, eXIf, xMPd, tEXt ------------------------------------------------------------------------------------


def read_metadata(payload: bytes) -> bytes:
    require(len(payload) >= 5, "metadata too short")
    method, n, packed = payload[0], u32(payload, 1), payload[5:]
    require(n <= METADATA_BYTES, "too much metadata", LIMIT)
    require(method <= 1, "an unknown method of packing")
    if method == 1:
        return inflate(packed, n)
    require(len(packed) == n, "metadata of another length")
    return packed


def text_pairs(data: bytes) -> list[tuple[str, str]]:
    """Keyword and value, keyword and value, .., with a NUL between any two parts."""
    if not data:
        return []
    try:
        parts = [part.decode("utf-8") for part in data.split(b"\0")]
    except UnicodeDecodeError:
        raise Refused(CORRUPT, "text that is not UTF-8") from None
    require(len(parts) % 2 == 0, "a keyword without a value")
    return list(zip(parts[::2], parts[1::2], strict=True))


# --- 5 Transforms --------------------------------------------------------------------------------------------------


class SplitMix64:
    """5.1"""

    def __init__(self, state: int) -> None:
        self.state = state

    def next(self) -> int:
        self.state = (self.state + 0x9E3779B97F4A7C15) % 2**64
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
        return z ^ (z >> 31)

    def below(self, n: int) -> int:
        return ((self.next() >> 32) * n) >> 32


def draw(transform: int, seed: int, height: int, width: int) -> tuple[int, int, int]:
    """5.2: turn, dy, dx. Transform 0 is the identity."""
    if transform == 0:
        return 0, 0, 0
    generator = SplitMix64(transform * 2**32 + seed)
    turn = 0 if transform == 2 else 1 + generator.below(7)
    if transform == 1:
        return turn, 0, 0
    if transform in (2, 3):
        return turn, *divmod(1 + generator.below(255), 16)
    rows, columns = turned(turn, height, width)
    a, b = -rows % 16, -columns % 16
    return turn, *divmod(generator.below((a + 1) * (b + 1)), b + 1)


def turned(turn: int, height: int, width: int) -> tuple[int, int]:
    """Ht and Wt of 5.3."""
    return (width, height) if turn & 4 else (height, width)


def undo(x: RealGrid, turn: int, dy: int, dx: int, height: int, width: int) -> RealGrid:
    """5.4"""
    rows, columns = turned(turn, height, width)
    x = [line[dx : dx + columns] for line in x[dy : dy + rows]]
    if turn & 1:
        x = [line[::-1] for line in x]
    if turn & 2:
        x = x[::-1]
    if turn & 4:
        x = [list(line) for line in zip(*x, strict=True)]
    return x


# --- 6 The exact arithmetic ----------------------------------------------------------------------------------------


def sat(a: int) -> int:
    """6.1"""
    return min(max(a, -2097151), 2097151)


def requantise(acc: int, n: int) -> int:
    """6.2"""
    return sat((acc + (1 << (n - 1))) >> n) if n else sat(acc)


def leaky(a: int) -> int:
    """6.3"""
    return a if a >= 0 else (655 * a + 2**15) >> 16


@dataclass(frozen=True)
class Shape:
    """How a kernel moves: k, s, p, and e for a transposed convolution, else None."""

    k: int
    s: int = 1
    p: int = 0
    e: int | None = None

    def size(self, n: int) -> int:
        """Rows or columns of the output, for n of the input."""
        if self.e is None:
            return (n + 2 * self.p - self.k) // self.s + 1
        return (n - 1) * self.s - 2 * self.p + self.k + self.e

    def taps(self, at: int, n: int) -> list[tuple[int, int]]:
        """(u, r) of all kernel rows u and input rows r, 0 <= r < n, that meet in the output row `at`; so for columns."""
        if self.e is None:  # 6.4: r = at s + u - p
            pairs = [(u, at * self.s + u - self.p) for u in range(self.k)]
        else:  # 6.5: r s + u - p = at
            pairs = [(u, (at + self.p - u) // self.s) for u in range(self.k) if (at + self.p - u) % self.s == 0]
        return [(u, r) for u, r in pairs if 0 <= r < n]


class Kernel:
    """w[o][i][u][v] and b[o] of a convolution, either of integers or of floats."""

    def __init__(self, weight: list, bias: list, inputs: int, shape: Shape) -> None:
        """weight: in raster order."""
        self.bias, self.shape = bias, shape
        size = inputs * shape.k * shape.k
        self.rows = [weight[o * size : (o + 1) * size] for o in range(len(bias))]
        self.known: dict[tuple[tuple[int, int], ...], list[list]] = {}

    def at(self, places: tuple[tuple[int, int], ...]) -> list[list]:
        """For each output channel, the weights w[o][0][u][v], w[o][1][u][v], .. of every place (u, v), joined."""
        if places not in self.known:
            k = self.shape.k
            self.known[places] = [
                list(chain.from_iterable(row[u * k + v :: k * k] for u, v in places)) for row in self.rows
            ]
        return self.known[places]

    def __call__(self, a: list[list[list]]) -> list[list[list]]:
        """The sums acc of 6.4 or 6.5 for the whole output."""
        rows, columns = len(a), len(a[0])
        return [[self.sums(a, r, q) for q in range(self.shape.size(columns))] for r in range(self.shape.size(rows))]

    def sums(self, a: list[list[list]], row: int, column: int) -> list:
        """acc at one place of the output, for every output channel."""
        rows, columns = self.shape.taps(row, len(a)), self.shape.taps(column, len(a[0]))
        kernel = self.at(tuple((u, v) for u, _ in rows for v, _ in columns))
        seen = list(chain.from_iterable(a[r][q] for _, r in rows for _, q in columns))
        return [b + sum(map(mul, weights, seen)) for b, weights in zip(self.bias, kernel, strict=True)]


class Depthwise:
    """A convolution in which each channel has a kernel w[c][0][u][v] of its own (6.4), of integers or of floats."""

    def __init__(self, weight: list, bias: list, shape: Shape) -> None:
        """weight: in raster order."""
        self.bias, size = bias, shape.k * shape.k
        self.rows = [weight[c * size : (c + 1) * size] for c in range(len(bias))]
        self.kernels = [Kernel(row, [b], 1, shape) for row, b in zip(self.rows, bias, strict=True)]

    def __call__(self, a: list[list[list]]) -> list[list[list]]:
        planes = [kernel([[[place[c]] for place in line] for line in a]) for c, kernel in enumerate(self.kernels)]
        return [[[plane[r][q][0] for plane in planes] for q in range(len(a[0]))] for r in range(len(a))]


class Layer:
    """A convolution on activations, requantised, with or without LeakyReLU behind it."""

    def __init__(self, kernel: Kernel | Depthwise, shift: list[int], activation: bool) -> None:
        require(all(0 <= n <= 40 for n in shift), "the shift of a layer", UNSUPPORTED)
        bound = max(2**21 * sum(map(abs, row)) + abs(b) for row, b in zip(kernel.rows, kernel.bias, strict=True))
        require(bound < 2**53, "the bound of a layer (6.6)", UNSUPPORTED)
        self.kernel, self.shift, self.activation = kernel, shift, activation

    def __call__(self, a: Grid) -> Grid:
        return [[self.finish(acc) for acc in line] for line in self.kernel(a)]

    def finish(self, acc: list[int]) -> list[int]:
        out = [requantise(value, n) for value, n in zip(acc, self.shift, strict=True)]
        return [leaky(value) for value in out] if self.activation else out


def to_grid(values: list[int], channels: int, rows: int, columns: int) -> Grid:
    """From raster order."""
    step = rows * columns
    return [
        [[values[c * step + r * columns + q] for c in range(channels)] for q in range(columns)] for r in range(rows)
    ]


def raster(grid: list[list[list]]) -> list:
    """To raster order: the channel is the slowest index, then the row, then the column."""
    return [place[c] for c in range(len(grid[0][0])) for line in grid for place in line]


# --- 7 The coder ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """7.1: the first symbol and the scaled boundaries B[0] .. B[n]."""

    first: int
    bounds: list[int]

    @property
    def n(self) -> int:
        return len(self.bounds) - 1


def scaled(weights: list[int]) -> list[int]:
    bounds = [0]
    for weight in weights:
        bounds.append(bounds[-1] + 256 * weight)
    return bounds


class RangeDecoder:
    """7.2 and 7.3"""

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.lower, self.range = 0, 2**64 - 1
        self.point = self.word(0) * 2**32 + self.word(1)
        self.position = 2

    def word(self, j: int) -> int:
        return u32(self.payload[4 * j : 4 * j + 4].ljust(4, b"\0"), 0)

    @property
    def quantile(self) -> int:
        return (self.point - self.lower) % 2**64 // (self.range >> 24)

    def entry(self, bounds: list[int]) -> int:
        quantile = self.quantile
        require(quantile < 2**24, "a quantile that no encoder makes")
        e = bisect_right(bounds, quantile) - 1
        self.narrow(bounds[e], bounds[e + 1])
        return e

    def low_bits(self, k: int) -> int:
        """An entry of the uniform table of 7.5, with 2^k entries."""
        quantile = self.quantile
        require(quantile < 2**24, "a quantile that no encoder makes")
        entry = quantile >> (24 - k)
        self.narrow(entry << (24 - k), (entry + 1) << (24 - k))
        return entry

    def narrow(self, begin: int, end: int) -> None:
        scale = self.range >> 24
        self.lower = (self.lower + scale * begin) % 2**64
        self.range = scale * (end - begin)
        if self.range < 2**32:
            self.lower = self.lower * 2**32 % 2**64
            self.range = self.range * 2**32
            self.point = self.point * 2**32 % 2**64 + self.word(self.position)
            self.position += 1

    def check_end(self) -> None:
        """7.7"""
        require(self.position >= ceil_div(len(self.payload), 4), "words that were not read")
        require((self.point - self.lower) % 2**64 < 2**33 - 1, "more data than symbols")


CLASSES = scaled([2 ** max(1, 15 - k) for k in range(16)])


def decode_array(decoder: RangeDecoder, tables: list[Table], index: list[int]) -> tuple[list[int], list[int]]:
    """7.4: the symbols in raster order, and which of them were escaped, in the order of their coding."""
    order = sorted(range(len(index)), key=lambda i: index[i])  # Python's sort is stable
    symbols, escaped = [0] * len(index), []
    for i in order:
        table = tables[index[i]]
        entry = decoder.entry(table.bounds)
        if entry < table.n - 1:
            symbols[i] = table.first + entry
        else:
            escaped.append(i)
    for i, v in zip(escaped, decode_escapes(decoder, len(escaped)), strict=True):
        table = tables[index[i]]
        symbols[i] = table.first - (v + 1) // 2 if v % 2 else table.first + table.n - 1 + v // 2
        require(abs(symbols[i]) <= 32767, "a symbol out of range")
    return symbols, escaped


def decode_escapes(decoder: RangeDecoder, count: int) -> list[int]:
    """7.5"""
    classes = [decoder.entry(CLASSES) for _ in range(count)]
    values = [2**k - 1 for k in classes]
    for k in range(1, 16):
        for i in range(count):
            if classes[i] == k:
                values[i] += decoder.low_bits(k)
    return values


# --- 8 The model file ----------------------------------------------------------------------------------------------

DTYPES = {"F32": "f", "F16": "e", "I64": "q", "I32": "i", "I16": "h", "U16": "H"}
UP, POINT = Shape(5, 2, 2, 1), Shape(1)
"""The layers of 6.7 and 6.9."""


class Model:
    """8.1 to 8.3: a model file of either family."""

    def __init__(self, data: bytes) -> None:
        self.digest = hashlib.sha256(data).digest()[:16]
        n = int.from_bytes(data[:8], "little")
        self._header = json.loads(data[8 : 8 + n])
        self._tensors = memoryview(data)[8 + n :]
        metadata = json.loads(self._header["__metadata__"]["twc"])
        self.family = metadata["family"]
        known = self.family in ("residual-dct", "lapped-dct")
        require(metadata["format"] == "1" and known, "the model", UNSUPPORTED)
        self.n, self.m, self.rows = self.length("medians"), self.shape("gain.log")[-1], self.shape("gain.log")[0]
        require(min(self.n, self.m) >= 1 and self.rows >= 2, "channels or quality rows", UNSUPPORTED)
        self.medians = self.tensor("medians", "I32", self.n)
        self.thresholds = self.tensor("thresholds", "I32", self.length("thresholds"))
        self.gain_inverse = self.tensor("gain.log_inverse", "F32", self.rows, self.m)
        self.y_tables = self._tables("y", len(self.thresholds) + 1)
        self.z_tables = self._tables("z", self.n)
        self._check()
        self.h_s, self.steps = self._entropy()
        self.synthesis = Synthesis(self)

    def has(self, name: str) -> bool:
        return name in self._header

    def shape(self, name: str) -> list[int]:
        require(self.has(name), f"{name} is missing", UNSUPPORTED)
        return self._header[name]["shape"]

    def length(self, name: str) -> int:
        """Elements of a tensor with one axis."""
        require(len(self.shape(name)) == 1, f"the shape of {name}", UNSUPPORTED)
        return self.shape(name)[0]

    def tensor(self, name: str, dtype: str, *shape: int) -> list:
        """The elements in raster order."""
        require(self.shape(name) == list(shape), f"the shape of {name}", UNSUPPORTED)
        entry = self._header[name]
        require(entry["dtype"] == dtype, f"the dtype of {name}", UNSUPPORTED)
        begin, end = entry["data_offsets"]
        return list(struct.unpack(f"<{math.prod(shape)}{DTYPES[dtype]}", self._tensors[begin:end]))

    def _entropy(self) -> tuple[list[Layer], TwoSteps | None]:
        """h_s, and what is behind it in the family lapped-dct."""
        n, m = self.n, self.m
        if self.family == "residual-dct":
            c = 3 * n // 2
            last = self._layer("h_s.2", 2 * m, c, Shape(3, 1, 1), activation=False)
            return [self._layer("h_s.0", n, n, UP), self._layer("h_s.1", c, n, UP), last], None
        features, first, second = (self.length(f"{name}.shift") for name in ("h_s.1", "first.0", "second.0"))
        require(min(features, first, second) >= 1, "a layer without channels", UNSUPPORTED)
        steps = TwoSteps(
            [self._layer("first.0", first, features), self._layer("first.1", 2 * m, first, activation=False)],
            Layer(
                Depthwise(*self._integers("context", 2 * m, 1, 3), Shape(3, 1, 1)), self._shift("context", 2 * m), False
            ),
            [
                self._layer("second.0", second, features + 2 * m),
                self._layer("second.1", 2 * m, second, activation=False),
            ],
        )
        return [self._layer("h_s.0", n, n, UP), self._layer("h_s.1", features, n, UP)], steps

    def _layer(self, name: str, outputs: int, inputs: int, shape: Shape = POINT, activation: bool = True) -> Layer:
        weight, bias = self._integers(name, outputs, inputs, shape.k)
        return Layer(Kernel(weight, bias, inputs, shape), self._shift(name, outputs), activation)

    def _integers(self, name: str, outputs: int, inputs: int, k: int) -> tuple[list[int], list[int]]:
        weight = self.tensor(f"{name}.weight", "I16", outputs, inputs, k, k)
        return weight, self.tensor(f"{name}.bias", "I64", outputs)

    def _shift(self, name: str, outputs: int) -> list[int]:
        return self.tensor(f"{name}.shift", "I32", outputs)

    def _tables(self, name: str, count: int) -> list[Table]:
        first, length = (self.tensor(f"tables.{name}.{part}", "I32", count) for part in ("first", "length"))
        weights = self.tensor(f"tables.{name}.weight", "U16", self.length(f"tables.{name}.weight"))
        require(min(length) >= 2 and sum(length) == len(weights), "the tables", UNSUPPORTED)
        tables, at = [], 0
        for f, n in zip(first, length, strict=True):
            part = weights[at : at + n]
            at += n
            require(min(part) >= 1 and sum(part) == 65536, "the weights of a table", UNSUPPORTED)
            require(-32767 <= f <= 0 <= f + n - 2 <= 32767, "the symbols of a table", UNSUPPORTED)
            tables.append(Table(f, scaled(part)))
        return tables

    def _check(self) -> None:
        """8.2"""
        ascending = all(a < b for a, b in pairwise(self.thresholds))
        require(ascending and len(self.y_tables) <= 256, "the thresholds", UNSUPPORTED)
        require(all(abs(median) < 2**20 for median in self.medians), "the medians", UNSUPPORTED)

    @property
    def floor(self) -> float:
        """S of 7.7: bits of the cheapest z at one position."""
        widest = [max(b - a for a, b in pairwise(t.bounds)) // 256 for t in self.z_tables]
        return sum(16 - math.log2(weight) for weight in widest)


# --- From DATA to the symbols: 5.5, 6.7, 6.9, 7.6 to 7.8 -----------------------------------------------------------


@dataclass
class Symbols:
    """All in raster order. layers: the outputs of h_s, before cropping. *_escaped: which symbols, in coding order."""

    rows: int
    columns: int
    z: list[int]
    y: list[int]
    scale: list[int]
    index: list[int]
    mean: list[int]
    layers: list[Grid]
    z_escaped: list[int]
    y_escaped: list[int]
    decoder: RangeDecoder

    @property
    def coded(self) -> bytes:
        """What the symbols CRC is taken over (7.8)."""
        return b"".join(value.to_bytes(2, "big", signed=True) for value in self.z + self.y)

    def y_hat(self) -> RealGrid:
        values = [y + mean / 1024 for y, mean in zip(self.y, self.mean, strict=True)]
        return to_grid(values, len(values) // (self.rows * self.columns), self.rows, self.columns)


def decode_symbols(head: Head, payload: bytes, model: Model) -> Symbols:
    require(head.digest == model.digest, "another model", UNSUPPORTED)
    require(1000 <= head.quality <= 1000 * model.rows, "the quality")
    turn, dy, dx = draw(head.transform, head.seed, head.height, head.width)
    rows, columns = turned(turn, head.height, head.width)
    h, w = ceil_div(rows + dy, 16), ceil_div(columns + dx, 16)
    hz, wz = ceil_div(h, 4), ceil_div(w, 4)
    require(8 * len(payload) + 64 >= model.floor * hz * wz, "too short for any z")
    decoder = RangeDecoder(payload)
    z, z_escaped = decode_array(decoder, model.z_tables, [c for c in range(model.n) for _ in range(hz * wz)])
    require(all(abs(value) <= 1023 for value in z), "a symbol of z out of range")
    layers = run_h_s(to_grid(z, model.n, hz, wz), model)
    last = [line[:w] for line in layers[-1][:h]]
    if model.steps is None:
        y = decode_step(decoder, last, model, [True] * (model.m * h * w))
    else:
        y = model.steps.decode(decoder, last, model)
    decoder.check_end()
    symbols = Symbols(h, w, z, y.y, y.scale, y.index, y.mean, layers, z_escaped, y.escaped, decoder)
    require(zlib.crc32(symbols.coded) == head.symbols_crc, "the CRC-32 of the symbols")
    return symbols


def run_h_s(z: Grid, model: Model) -> list[Grid]:
    """6.7: the output of every layer."""
    a = [[[1024 * value + m for value, m in zip(place, model.medians, strict=True)] for place in line] for line in z]
    outputs = []
    for layer in model.h_s:
        a = layer(a)
        outputs.append(a)
    return outputs


@dataclass
class Latents:
    """y after a step and what belongs to it, in raster order; y is 0 where no step yet held the position."""

    y: list[int]
    scale: list[int]
    index: list[int]
    mean: list[int]
    escaped: list[int]


def decode_step(decoder: RangeDecoder, f: Grid, model: Model, held: list[bool]) -> Latents:
    """7.6: the symbols at the positions that a step holds, from its scales and means (6.7)."""
    scale = raster([[place[: model.m] for place in line] for line in f])
    mean = raster([[place[model.m :] for place in line] for line in f])
    index = [bisect_right(model.thresholds, value) for value in scale]  # how many are <= value
    positions = [i for i, is_held in enumerate(held) if is_held]
    symbols, escaped = decode_array(decoder, model.y_tables, [index[i] for i in positions])
    y = [0] * len(held)
    for i, symbol in zip(positions, symbols, strict=True):
        y[i] = symbol
    return Latents(y, scale, index, mean, [positions[i] for i in escaped])


@dataclass
class TwoSteps:
    """6.9: the networks behind h_s in the family lapped-dct."""

    first: list[Layer]
    context: Layer
    second: list[Layer]

    def decode(self, decoder: RangeDecoder, features: Grid, model: Model) -> Latents:
        h, w = len(features), len(features[0])
        held = [(c + r + q) % 2 == 0 for c in range(model.m) for r in range(h) for q in range(w)]
        one = decode_step(decoder, run(self.first, features), model, held)
        known = [sat(1024 * y + mean) if is_held else 0 for y, mean, is_held in zip(one.y, one.mean, held, strict=True)]
        seen = [[place + list(map(abs, place)) for place in line] for line in to_grid(known, model.m, h, w)]
        joined = [
            [left + right for left, right in zip(*lines, strict=True)]
            for lines in zip(features, self.context(seen), strict=True)
        ]
        two = decode_step(decoder, run(self.second, joined), model, [not is_held for is_held in held])
        parts = zip((one.y, one.scale, one.index, one.mean), (two.y, two.scale, two.index, two.mean), strict=True)
        merged = [[a if is_held else b for a, b, is_held in zip(*part, held, strict=True)] for part in parts]
        return Latents(*merged, one.escaped + two.escaped)


def run(layers: list[Layer], a: Grid) -> Grid:
    for layer in layers:
        a = layer(a)
    return a


# --- 8.4 The synthesis, in floats of 64 bits -----------------------------------------------------------------------


def lrelu(place: list[float]) -> list[float]:
    return [value if value >= 0 else value / 10 for value in place]


def sizes(model: Model) -> tuple[int, int, int, int]:
    """8.3: K of the banks, blocks of g_s, channels inside a block, channels of the filter."""
    if model.family == "residual-dct":
        return 16, 4, 2 * model.m, 32
    kernel = model.shape("g_s.bank.weight")[-1]
    require(kernel % 2 == 0 and 16 <= kernel <= 48, "the kernel of the bank", UNSUPPORTED)
    depth = 0
    while model.has(f"g_s.blocks.{depth}.depthwise.weight"):
        depth += 1
    require(1 <= depth <= 64, "the number of blocks", UNSUPPORTED)
    hidden, width = model.length("g_s.blocks.0.expand.bias"), model.length("g_s.filter.0.bias")
    require(min(hidden, width) >= 1, "a layer without channels", UNSUPPORTED)
    return kernel, depth, hidden, width


class Synthesis:
    """The networks behind y_hat."""

    def __init__(self, model: Model) -> None:
        self.model = model
        kernel, depth, hidden, width = sizes(model)
        m = model.m
        self.blocks = [self._block(f"g_s.blocks.{i}", m, hidden) for i in range(depth)]
        channels = (12, width, width, 12)
        self.filter = [self._kernel(f"g_s.filter.{i}", channels[i + 1], channels[i], Shape(3, 1, 1)) for i in range(3)]
        size = kernel * kernel
        bank = model.tensor("g_s.bank.weight", "F32", m, 3, kernel, kernel)  # [m][c][u][v]
        swapped = [bank[(3 * i + c) * size + place] for c in range(3) for i in range(m) for place in range(size)]
        bias = [0.5 + b for b in model.tensor("g_s.bank.bias", "F32", 3)]
        self.bank = Kernel(swapped, bias, m, Shape(kernel, 16, (kernel - 16) // 2, 0))

    def _kernel(self, name: str, outputs: int, inputs: int, shape: Shape) -> Kernel:
        weight = self.model.tensor(f"{name}.weight", "F16", outputs, inputs, shape.k, shape.k)
        return Kernel(weight, self.model.tensor(f"{name}.bias", "F32", outputs), inputs, shape)

    def _block(self, name: str, m: int, hidden: int) -> tuple[Depthwise, Kernel, Kernel]:
        weight = self.model.tensor(f"{name}.depthwise.weight", "F16", m, 1, 5, 5)
        depthwise = Depthwise(weight, self.model.tensor(f"{name}.depthwise.bias", "F32", m), Shape(5, 1, 2))
        expand = self._kernel(f"{name}.expand", hidden, m, POINT)
        return depthwise, expand, self._kernel(f"{name}.project", m, hidden, POINT)

    def __call__(self, y_hat: RealGrid, quality: int) -> RealGrid:
        """x: three channels, 16 rows and columns for each of y_hat. quality: in thousandths."""
        gain = self.gain(quality / 1000)
        a = [[list(map(mul, gain, place)) for place in line] for line in y_hat]
        for depthwise, expand, project in self.blocks:
            e = [[lrelu(place) for place in line] for line in expand(depthwise(a))]
            f = project(e)
            a = [
                [list(map(sum, zip(*pair, strict=True))) for pair in zip(*two, strict=True)]
                for two in zip(a, f, strict=True)
            ]
        return self.filtered(self.bank(a))

    def gain(self, quality: float) -> list[float]:
        rows, m = self.model.rows, self.model.m
        j = min(math.floor(quality), rows - 1)
        t = quality - j
        low, high = (self.model.gain_inverse[row * m : (row + 1) * m] for row in (j - 1, j))  # rows j and j + 1 from 1
        return [math.exp((1 - t) * a + t * b) for a, b in zip(low, high, strict=True)]

    def filtered(self, x0: RealGrid) -> RealGrid:
        """x"""
        rows, columns = len(x0) // 2, len(x0[0]) // 2
        corners = [(c, u, v) for c in range(3) for u in range(2) for v in range(2)]
        s = [[[x0[2 * r + u][2 * q + v][c] for c, u, v in corners] for q in range(columns)] for r in range(rows)]
        for i, kernel in enumerate(self.filter):
            s = kernel(s)
            if i < 2:
                s = [[lrelu(place) for place in line] for line in s]
        return [
            [
                [value + s[r // 2][q // 2][4 * c + 2 * (r % 2) + q % 2] for c, value in enumerate(place)]
                for q, place in enumerate(line)
            ]
            for r, line in enumerate(x0)
        ]


# --- 4.2 Samples, and the whole file -------------------------------------------------------------------------------


@dataclass
class Decoded:
    """values: [row][column][channel], 0 .. 2^depth - 1, before rounding; samples: rounded. alpha: rows, or None."""

    head: Head
    symbols: Symbols
    values: RealGrid
    samples: Grid
    alpha: list[list[int]] | None = None
    metadata: dict[bytes, bytes] = field(default_factory=dict)
    text: list[tuple[str, str]] = field(default_factory=list)


def to_values(x: RealGrid, head: Head) -> RealGrid:
    """4.2: what is rounded to the samples."""
    x = undo(x, *draw(head.transform, head.seed, head.height, head.width), head.height, head.width)
    if head.channels == 1:
        x = [[[sum(place) / 3] for place in line] for line in x]
    top = 2**head.depth - 1
    return [[[min(max(0.0 if v != v else v, 0.0), 1.0) * top for v in place] for place in line] for line in x]


def decode(data: bytes, model: Model, max_pixels: int = PIXELS) -> Decoded:
    """Everything in a TWC file. Raises Refused."""
    head, chunks = read_chunks(data, max_pixels)
    alpha = read_alpha(chunks[b"ALPH"], head.width, head.height) if head.has_alpha else None
    metadata = {kind: read_metadata(chunks[kind]) for kind in METADATA if kind in chunks}
    text = text_pairs(metadata.get(b"tEXt", b""))
    symbols = decode_symbols(head, chunks[b"DATA"], model)
    values = to_values(model.synthesis(symbols.y_hat(), head.quality), head)
    samples = [[[round(v) for v in place] for place in line] for line in values]  # halves to even
    return Decoded(head, symbols, values, samples, alpha, metadata, text)
