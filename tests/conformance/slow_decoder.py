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
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain, pairwise
from operator import add, mul

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


class Between:
    """ReLU or a pixel shuffle (6.10): what stands between two layers and has no weights."""

    def __init__(self, shuffled: bool) -> None:
        self.shuffled = shuffled

    def __call__(self, a: Grid) -> Grid:
        return shuffle(a) if self.shuffled else [[relu(place) for place in line] for line in a]


def relu(place: list) -> list:
    return [max(value, 0) for value in place]


def shuffle(a: list[list[list]]) -> list[list[list]]:
    """6.10, also of floats: channel 4 c + 2 i + j goes to row 2 r + i and column 2 q + j of channel c."""
    return [[a[r // 2][q // 2][2 * (r % 2) + q % 2 :: 4] for q in range(2 * len(a[0]))] for r in range(2 * len(a))]


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
UP, SAME, POINT = Shape(5, 2, 2, 1), Shape(3, 1, 1), Shape(1)
"""The layers of 6.7, 6.9 and 6.10."""

DCT = ("residual-dct", "lapped-dct", "lapped-dct-serial")
FACTORISED = ("bmshj2018-factorized", "bmshj2018-factorized-relu")
SCALES_ONLY = ("bmshj2018-hyperprior", "bmshj2018-hyperprior-vbr")
MINNEN = ("mbt2018-mean", "mbt2018-mean-vbr", "mbt2018")
CHENG = ("cheng2020-anchor", "cheng2020-attn")
SERIAL = ("mbt2018", *CHENG, "lapped-dct-serial")
VARIABLE = ("bmshj2018-hyperprior-vbr", "mbt2018-mean-vbr")
FAMILIES = (*DCT, *FACTORISED, *SCALES_ONLY, *MINNEN, *CHENG)


class Model:
    """8.1 to 8.3, 8.6: a model file of any family."""

    def __init__(self, data: bytes, base: bytes = b"") -> None:
        """base: the model file that this one builds on (8.1), if it does."""
        self.digest = hashlib.sha256(data).digest()[:16]
        self._header, self._places = self._opened(data)
        metadata = json.loads(self._header["__metadata__"]["twc"])
        if "base" in metadata:
            right = hashlib.sha256(base).digest()[:16].hex() == metadata["base"]
            require(right, "the base of the model", UNSUPPORTED)
            header, places = self._opened(base)
            require("base" not in json.loads(header["__metadata__"]["twc"]), "a base with a base", UNSUPPORTED)
            self._header, self._places = {**header, **self._header}, {**places, **self._places}
        self.family = metadata["family"]
        known = self.family in FAMILIES
        require(metadata["format"] == "1" and known, "the model", UNSUPPORTED)
        self.factorised = self.family in FACTORISED
        self.n, self.m, self.rows = self._sizes()
        require(self.rows <= 60, "the quality rows", UNSUPPORTED)
        self.medians = self.tensor("medians", "I32", self.n)
        self.thresholds: list[int] = []
        self.y_tables: list[Table] = []
        if not self.factorised:
            self.thresholds = self.tensor("thresholds", "I32", self.length("thresholds"))
            self.y_tables = self._tables("y", len(self.thresholds) + 1)
        self.rate = VariableRate(self) if self.family in VARIABLE else None
        z_sets = self.rows if self.rate and self.rate.z_steps else 1
        self.z_tables = self._tables("z", z_sets * self.n)
        self._check()
        self.h_s, self.steps = ([], None) if self.factorised else self._entropy()
        self.qualities = (1000, 1000 * self.rows) if self.rows > 1 else (only_quality(metadata),) * 2
        if self.family in DCT:
            self.gain_inverse = self.tensor("gain.log_inverse", "F32", self.rows, self.m)
            self.synthesis: Synthesis | PublishedSynthesis = Synthesis(self)
        else:
            self.synthesis = PublishedSynthesis(self)

    @staticmethod
    def _opened(data: bytes) -> tuple[dict, dict[str, memoryview]]:
        """The header, and the bytes that each tensor's offsets count in."""
        n = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + n])
        return header, dict.fromkeys(header, memoryview(data)[8 + n :])

    def _sizes(self) -> tuple[int, int, int]:
        """N, M and R; N is the number of channels of z, also where z is the latent itself (6.13)."""
        n = self.length("medians")
        if self.family in DCT:
            rows, m = self.shape("gain.log")
            require(min(n, m) >= 1 and rows >= 2, "channels or quality rows", UNSUPPORTED)
            return n, m, rows
        m = n if self.family in (*FACTORISED, *CHENG) else self.shape("g_s.0.weight")[0]
        require(2 <= n <= 4096 and 2 <= m <= 4096, "channels", UNSUPPORTED)
        rows = self.length("gains") if self.family in VARIABLE else 1
        return n, m, rows

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
        return list(struct.unpack(f"<{math.prod(shape)}{DTYPES[dtype]}", self._places[name][begin:end]))

    def _entropy(self) -> tuple[list[Layer | Between], OneStep | TwoSteps | Serial]:
        """h_s, and what is behind it."""
        n, m = self.n, self.m
        if self.family not in DCT:
            h_s = self._published_h_s()
            return h_s, self._serial(2 * m) if self.family in SERIAL else OneStep()
        if self.family == "residual-dct":
            c = 3 * n // 2
            last = self._layer("h_s.2", 2 * m, c, SAME, activation=False)
            return [self._layer("h_s.0", n, n, UP), self._layer("h_s.1", c, n, UP), last], OneStep()
        features = self.width("h_s.1")
        h_s = [self._layer("h_s.0", n, n, UP), self._layer("h_s.1", features, n, UP)]
        return h_s, self._serial(features) if self.family in SERIAL else self._two_steps(features)

    def _published_h_s(self) -> list[Layer | Between]:
        """6.10: A, B and C."""
        n, m, layer = self.n, self.m, self._layer
        if self.family in SCALES_ONLY:
            layers = [layer(f"h_s.{i}", o, n, s, False) for i, (o, s) in enumerate(((n, UP), (n, UP), (m, SAME)))]
            return list(chain.from_iterable((one, Between(shuffled=False)) for one in layers))
        if self.family in MINNEN:
            c = 3 * m // 2
            last = layer("h_s.2", 2 * m, c, SAME, activation=False)
            return [layer("h_s.0", m, n, UP), layer("h_s.1", c, m, UP), last]
        c, up = 3 * n // 2, Between(shuffled=True)
        first = [layer("h_s.0", n, n, SAME), layer("h_s.1", 4 * n, n, SAME), up]
        second = [layer("h_s.2", c, n, SAME), layer("h_s.3", 4 * c, c, SAME), up]
        return [*first, *second, layer("h_s.4", 2 * n, c, SAME, activation=False)]

    def _serial(self, features: int) -> Serial:
        """6.11, 8.2"""
        m, seen, count = self.m, self.width("context"), 0
        while self.has(f"entropy_parameters.{count}.shift"):
            count += 1
        require(1 <= count <= 8, "the number of layers of entropy parameters", UNSUPPORTED)
        context = self._rows("context", (seen, 12, m), activation=False)
        widths = [features + seen, *(self.width(f"entropy_parameters.{j}") for j in range(count))]
        require(widths[-1] == 2 * m, "the last layer of the entropy parameters", UNSUPPORTED)
        layers = [
            self._rows(f"entropy_parameters.{j}", (widths[j + 1], widths[j]), activation=j < count - 1)
            for j in range(count)
        ]
        return Serial(context, layers)

    def _rows(self, name: str, shape: tuple[int, ...], activation: bool) -> Layer:
        """A layer on one position: its inputs in raster order of the weights' other dimensions."""
        weight, inputs = self.tensor(f"{name}.weight", "I16", *shape), math.prod(shape[1:])
        bias = self.tensor(f"{name}.bias", "I64", shape[0])
        return Layer(Kernel(weight, bias, inputs, POINT), self._shift(name, shape[0]), activation)

    def width(self, name: str) -> int:
        """Output channels of a layer."""
        require(self.length(f"{name}.shift") >= 1, f"{name} has no channels", UNSUPPORTED)
        return self.length(f"{name}.shift")

    def _two_steps(self, features: int) -> TwoSteps:
        m, first, second = self.m, self.width("first.0"), self.width("second.0")
        return TwoSteps(
            [self._layer("first.0", first, features), self._layer("first.1", 2 * m, first, activation=False)],
            Layer(Depthwise(*self._integers("context", 2 * m, 1, 3), SAME), self._shift("context", 2 * m), False),
            [
                self._layer("second.0", second, features + 2 * m),
                self._layer("second.1", 2 * m, second, activation=False),
            ],
        )

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
        bits = [16 - math.log2(weight) for weight in widest]
        return min(sum(bits[i : i + self.n]) for i in range(0, len(bits), self.n))

    def z_coding(self, quality: int) -> tuple[list[Table], int]:
        """The tables of z's channels and z's step (6.12). quality: in thousandths."""
        if self.rate is None or self.rate.z_steps is None:
            return self.z_tables, 1024
        row = self.rate.nearest(quality)
        return self.z_tables[row * self.n : (row + 1) * self.n], self.rate.z_steps[row]


def only_quality(metadata: dict) -> int:
    """8.1: the quality of a model that has no other, in thousandths."""
    found = metadata.get("quality", 1)
    require(type(found) in (int, float) and 1 <= found <= 60, "the quality", UNSUPPORTED)
    require(found == round(found * 1000) / 1000, "a quality between thousandths", UNSUPPORTED)
    return round(found * 1000)


class VariableRate:
    """6.12 and its tensors (8.6). Qualities are in thousandths."""

    def __init__(self, model: Model) -> None:
        rows, levels = model.rows, len(model.y_tables)
        self.gains, self.z_steps = model.tensor("gains", "I32", rows), None
        require(rows >= 2 and rows * model.n <= 65536, "the number of gains", UNSUPPORTED)
        require(all(1 <= gain < 2**20 for gain in self.gains), "the gains", UNSUPPORTED)
        offsets = model.tensor("offsets", "F32", rows, levels)
        require(all(-1 <= value <= 1 for value in offsets), "the offsets", UNSUPPORTED)  # nor is NaN in this range
        self.offsets = [offsets[row * levels : (row + 1) * levels] for row in range(rows)]
        if model.has("z_steps"):
            self.z_steps = model.tensor("z_steps", "I32", rows)
            require(all(1 <= step < 2**20 for step in self.z_steps), "the steps of z", UNSUPPORTED)

    def between(self, quality: int) -> tuple[int, int]:
        """j and s"""
        d = quality - 1000
        j = min(d // 1000, len(self.gains) - 2)
        return j, d - 1000 * j

    def gain(self, quality: int) -> int:
        j, s = self.between(quality)
        return (self.gains[j] * (1000 - s) + self.gains[j + 1] * s + 500) // 1000

    def nearest(self, quality: int) -> int:
        j, s = self.between(quality)
        return j + 1 if 2 * s >= 1000 else j

    def dequantised(self, found: Latents, quality: int) -> list[float]:
        """y_hat"""
        (j, s), gain, out = self.between(quality), self.gain(quality), []
        for y, index, mean in zip(found.y, found.index, found.mean, strict=True):
            offset = ((1000 - s) * self.offsets[j][index] + s * self.offsets[j + 1][index]) / 1000
            sign = (y > 0) - (y < 0)
            out.append(mean / 1024 + 2**16 / gain * (y - sign * offset))
        return out


# --- From DATA to the symbols: 5.5, 6.7, 6.9 to 6.13, 7.6 to 7.8 ---------------------------------------------------


@dataclass
class Symbols:
    """All in raster order. layers: the outputs of h_s, before cropping. *_escaped: which symbols, in coding order.

    latent: y_hat. scale: those of which the indices are taken.
    """

    rows: int
    columns: int
    z: list[int]
    y: list[int]
    scale: list[int]
    index: list[int]
    mean: list[int]
    latent: list[float]
    layers: list[Grid]
    z_escaped: list[int]
    y_escaped: list[int]
    decoder: RangeDecoder

    @property
    def coded(self) -> bytes:
        """What the symbols CRC is taken over (7.8)."""
        return b"".join(value.to_bytes(2, "big", signed=True) for value in self.z + self.y)

    def y_hat(self) -> RealGrid:
        channels = len(self.latent) // (self.rows * self.columns)
        return to_grid(self.latent, channels, self.rows, self.columns)


def decode_symbols(head: Head, payload: bytes, model: Model) -> Symbols:
    require(head.digest == model.digest, "another model", UNSUPPORTED)
    require(model.qualities[0] <= head.quality <= model.qualities[1], "the quality")
    turn, dy, dx = draw(head.transform, head.seed, head.height, head.width)
    rows, columns = turned(turn, head.height, head.width)
    h, w = ceil_div(rows + dy, 16), ceil_div(columns + dx, 16)
    symbols = decode_payload(payload, model, h, w, head.quality)
    symbols.decoder.check_end()
    require(zlib.crc32(symbols.coded) == head.symbols_crc, "the CRC-32 of the symbols")
    return symbols


def decode_payload(payload: bytes, model: Model, h: int, w: int, quality: int) -> Symbols:
    """The symbols, neither their end nor their checksum checked."""
    hz, wz = (h, w) if model.factorised else (ceil_div(h, 4), ceil_div(w, 4))
    require(8 * len(payload) + 64 >= model.floor * hz * wz, "too short for any z")
    decoder = RangeDecoder(payload)
    tables, step = model.z_coding(quality)
    z, z_escaped = decode_array(decoder, tables, [c for c in range(model.n) for _ in range(hz * wz)])
    require(model.factorised or all(abs(value) <= 1023 for value in z), "a symbol of z out of range")
    if model.factorised:  # 6.13
        latent = [value + model.medians[i // (h * w)] / 1024 for i, value in enumerate(z)]
        return Symbols(h, w, z, [], [], [], [], latent, [], z_escaped, [], decoder)
    layers = run_h_s(to_grid(z, model.n, hz, wz), model, step)
    last = [line[:w] for line in layers[-1][:h]]
    y = model.steps.decode(decoder, last, model, model.rate.gain(quality) if model.rate else 2**16)
    latent = model.rate.dequantised(y, quality) if model.rate else y.dequantised()
    return Symbols(h, w, z, y.y, y.scale, y.index, y.mean, latent, layers, z_escaped, y.escaped, decoder)


def run_h_s(z: Grid, model: Model, step: int = 1024) -> list[Grid]:
    """6.7: the output of every layer, and of what stands between two."""
    a = [[[sat(step * v + m) for v, m in zip(place, model.medians, strict=True)] for place in line] for line in z]
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

    def dequantised(self) -> list[float]:
        """y_hat of 6.7"""
        return [y + mean / 1024 for y, mean in zip(self.y, self.mean, strict=True)]


def parameters(place: list[int], model: Model, gain: int = 2**16) -> tuple[list[int], list[int], list[int]]:
    """6.7: scales, indices and means of all channels at one position, from f there; the scales alone in 6.10 A."""
    m = model.m
    scale = [sat((value * gain + 2**15) >> 16) for value in place[:m]]  # 6.12; with a gain of 2^16 as they are
    index = [bisect_right(model.thresholds, value) for value in scale]  # how many are <= value
    return scale, index, place[m:] if len(place) > m else [0] * m


def decode_step(decoder: RangeDecoder, f: Grid, model: Model, held: list[bool], gain: int = 2**16) -> Latents:
    """7.6: the symbols at the positions that a step holds, from its scales and means (6.7)."""
    found = [[parameters(place, model, gain) for place in line] for line in f]
    scale, index, mean = (raster([[place[i] for place in line] for line in found]) for i in range(3))
    positions = [i for i, is_held in enumerate(held) if is_held]
    symbols, escaped = decode_array(decoder, model.y_tables, [index[i] for i in positions])
    y = [0] * len(held)
    for i, symbol in zip(positions, symbols, strict=True):
        y[i] = symbol
    return Latents(y, scale, index, mean, [positions[i] for i in escaped])


class OneStep:
    """All of y at once."""

    def decode(self, decoder: RangeDecoder, f: Grid, model: Model, gain: int = 2**16) -> Latents:
        return decode_step(decoder, f, model, [True] * (model.m * len(f) * len(f[0])), gain)


TAPS = [(dy, dx) for dy in (-2, -1, 0) for dx in (-2, -1, 0, 1, 2) if dy < 0 or dx < 0]
"""6.11"""


@dataclass
class Serial:
    """6.11: the layers behind h_s in families with a serial context."""

    context: Layer
    layers: list[Layer]

    def decode(self, decoder: RangeDecoder, features: Grid, model: Model, _gain: int = 2**16) -> Latents:
        h, w, m = len(features), len(features[0]), model.m
        known = [[[0] * m for _ in range(w)] for _ in range(h)]
        y, scale, index, mean = ([[[0] * m for _ in range(w)] for _ in range(h)] for _ in range(4))
        escaped = []
        for step in range(w + 3 * (h - 1)):
            places = [(r, step - 3 * r) for r in range(h) if 0 <= step - 3 * r < w]
            for r, q in places:
                scale[r][q], index[r][q], mean[r][q] = parameters(self.predict(features, known, r, q), model)
            symbols, late = decode_array(decoder, model.y_tables, [i for r, q in places for i in index[r][q]])
            for k, (r, q) in enumerate(places):
                y[r][q] = symbols[k * m : (k + 1) * m]
                known[r][q] = [sat(1024 * a + b) for a, b in zip(y[r][q], mean[r][q], strict=True)]
            for i in late:
                r, q = places[i // m]
                escaped.append((i % m * h + r) * w + q)
        return Latents(raster(y), raster(scale), raster(index), raster(mean), escaped)

    def predict(self, features: Grid, known: Grid, r: int, q: int) -> list[int]:
        """f at one position"""
        h, w, nothing = len(known), len(known[0]), [0] * len(known[0][0])
        near = [(r + dy, q + dx) for dy, dx in TAPS]
        seen = [known[a][b] if 0 <= a < h and 0 <= b < w else nothing for a, b in near]
        joined = features[r][q] + self.context([[list(chain.from_iterable(seen))]])[0][0]
        return run(self.layers, [[joined]])[0][0]


@dataclass
class TwoSteps:
    """6.9: the networks behind h_s in the family lapped-dct."""

    first: list[Layer]
    context: Layer
    second: list[Layer]

    def decode(self, decoder: RangeDecoder, features: Grid, model: Model, _gain: int = 2**16) -> Latents:
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


def run(layers: list[Layer | Between], a: Grid) -> Grid:
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


# --- 8.7 The same of the published families ------------------------------------------------------------------------

Net = Callable[[RealGrid], RealGrid]


class PublishedSynthesis:
    """g_s, as functions that follow one another. 8.6 has the tensors."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.inner = model.shape("g_s.0.weight")[1] if model.factorised else model.n  # N of 8.6
        require(2 <= self.inner <= 4096, "channels", UNSUPPORTED)
        self.nets = self._cheng() if model.family in CHENG else self._balle()

    def __call__(self, y_hat: RealGrid, _quality: int = 0) -> RealGrid:
        """x"""
        return through(self.nets, y_hat)

    def _balle(self) -> list[Net]:
        n, rectified = self.inner, self.model.family == "bmshj2018-factorized-relu"
        widths, nets = (self.model.m, n, n, n, 3), []
        for k in range(4):
            nets.append(self._tconv(f"g_s.{2 * k}", widths[k], widths[k + 1]))
            if k < 3:
                nets.append(each(relu) if rectified else self._igdn(f"g_s.{2 * k + 1}"))
        return nets

    def _cheng(self) -> list[Net]:
        plain = "RURURURL"
        kinds = plain if self.model.family == "cheng2020-anchor" else "A" + plain[:4] + "A" + plain[4:]
        made = {"R": self._residual, "U": self._up, "A": self._attention, "L": self._last}
        return [made[kind](f"g_s.{i}") for i, kind in enumerate(kinds)]

    def _floats(self, name: str, *shape: int) -> list[float]:
        values = self.model.tensor(name, "F32", *shape)
        require(all(map(math.isfinite, values)), f"{name} is not finite", UNSUPPORTED)
        return values

    def _conv(self, name: str, outputs: int, inputs: int, k: int) -> Kernel:
        weight = self._floats(f"{name}.weight", outputs, inputs, k, k)
        return Kernel(weight, self._floats(f"{name}.bias", outputs), inputs, Shape(k, 1, k // 2))

    def _tconv(self, name: str, inputs: int, outputs: int) -> Kernel:
        stored = self._floats(f"{name}.weight", inputs, outputs, 5, 5)
        blocks = [[stored[25 * (i * outputs + o) :][:25] for i in range(inputs)] for o in range(outputs)]
        weight = list(chain.from_iterable(chain.from_iterable(blocks)))
        return Kernel(weight, self._floats(f"{name}.bias", outputs), inputs, UP)

    def _igdn(self, name: str) -> Net:
        n = self.inner
        norm = Kernel(self._floats(f"{name}.gamma", n, n), self._floats(f"{name}.beta", n), n, POINT)

        def run(a: RealGrid) -> RealGrid:
            norms = norm([[[value * value for value in place] for place in line] for line in a])
            return combined(lambda value, b: value * math.sqrt(b), a, norms)

        return run

    def _residual(self, name: str) -> Net:
        n = self.inner
        nets = [self._conv(f"{name}.conv1", n, n, 3), each(leaky_100), self._conv(f"{name}.conv2", n, n, 3)]
        return lambda a: combined(add, a, through([*nets, each(leaky_100)], a))

    def _up(self, name: str) -> Net:
        n = self.inner
        left = [self._conv(f"{name}.subpel_conv.0", 4 * n, n, 3), shuffle, each(leaky_100)]
        left += [self._conv(f"{name}.conv", n, n, 3), self._igdn(f"{name}.igdn")]
        right = [self._conv(f"{name}.upsample.0", 4 * n, n, 3), shuffle]
        return lambda a: combined(add, through(left, a), through(right, a))

    def _attention(self, name: str) -> Net:
        a_units, b_units = ([self._unit(f"{name}.conv_{side}.{j}.conv") for j in range(3)] for side in "ab")
        gate = [*b_units, self._conv(f"{name}.conv_b.3", self.inner, self.inner, 1), each(sigmoid)]
        return lambda a: combined(add, a, combined(mul, through(a_units, a), through(gate, a)))

    def _unit(self, name: str) -> Net:
        n, half = self.inner, self.inner // 2
        nets = [self._conv(f"{name}.0", half, n, 1), each(relu), self._conv(f"{name}.2", half, half, 3), each(relu)]
        nets.append(self._conv(f"{name}.4", n, half, 1))
        return lambda a: each(relu)(combined(add, a, through(nets, a)))

    def _last(self, name: str) -> Net:
        kernel = self._conv(f"{name}.0", 12, self.inner, 3)
        return lambda a: shuffle(kernel(a))


def through(nets: list[Net], a: RealGrid) -> RealGrid:
    for net in nets:
        a = net(a)
    return a


def each(function: Callable[[list[float]], list[float]]) -> Net:
    """A function of places, at every place."""
    return lambda a: [[function(place) for place in line] for line in a]


def combined(function: Callable[[float, float], float], a: RealGrid, b: RealGrid) -> RealGrid:
    """A function of two numbers, for every element of two grids."""
    return [[list(map(function, *two)) for two in zip(*lines, strict=True)] for lines in zip(a, b, strict=True)]


def leaky_100(place: list[float]) -> list[float]:
    return [value if value >= 0 else value / 100 for value in place]


def sigmoid(place: list[float]) -> list[float]:
    return [(1 + math.tanh(value / 2)) / 2 for value in place]  # 1 / (1 + exp(-v)), without overflow


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
