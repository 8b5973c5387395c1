"""The normative arithmetic and coder of formats/twc-1.md once more, in plain Python integers: slow, short, independent.

Nothing here imports twcodec; the tests hold the fast code to it, bit for bit.
"""

from __future__ import annotations

SATURATION = 1 << 21


def requantise(acc: int, shift: int) -> int:
    half = 1 << (shift - 1) if shift else 0
    return max(1 - SATURATION, min(SATURATION - 1, (acc + half) >> shift))


def leaky_relu(a: int) -> int:
    return a if a >= 0 else (a * 655 + (1 << 15)) >> 16


def convolve(a, weight, bias, shift, stride, padding):
    """a[channel][row][column] of ints; weight[out][in][ky][kx]. Returns requantised activations in the same form."""
    height, width, k = len(a[0]), len(a[0][0]), len(weight[0][0])
    rows, columns = (height + 2 * padding - k) // stride + 1, (width + 2 * padding - k) // stride + 1

    def at(o, row, column):
        acc = bias[o]
        for i, plane in enumerate(a):
            for ky in range(k):
                for kx in range(k):
                    y, x = row * stride + ky - padding, column * stride + kx - padding
                    if 0 <= y < height and 0 <= x < width:
                        acc += weight[o][i][ky][kx] * plane[y][x]
        return requantise(acc, shift[o])

    return [[[at(o, r, c) for c in range(columns)] for r in range(rows)] for o in range(len(weight))]


def convolve_transposed(a, weight, bias, shift, stride, padding, output_padding):
    """As `convolve`, for a transposed convolution: zeros are inserted between the inputs."""
    height, width, k = len(a[0]), len(a[0][0]), len(weight[0][0])
    rows, columns = ((n - 1) * stride - 2 * padding + k + output_padding for n in (height, width))
    acc = [[[bias[o]] * columns for _ in range(rows)] for o in range(len(weight))]
    for o, kernels in enumerate(weight):
        for i, plane in enumerate(a):
            for y in range(height):
                for x in range(width):
                    for ky in range(k):
                        for kx in range(k):
                            row, column = y * stride + ky - padding, x * stride + kx - padding
                            if 0 <= row < rows and 0 <= column < columns:
                                acc[o][row][column] += kernels[i][ky][kx] * plane[y][x]
    return [[[requantise(v, shift[o]) for v in row] for row in plane] for o, plane in enumerate(acc)]


def convolve_depthwise(a, weight, bias, shift):
    """As `convolve`, for weight[channel][0][ky][kx] on that channel alone; stride 1, the size stays."""
    half = len(weight[0][0]) // 2
    planes = zip(a, weight, bias, shift, strict=True)
    return [convolve([plane], [kernel], [b], [s], 1, half)[0] for plane, kernel, b, s in planes]


class RangeDecoder:
    """Range decoding with a 64-bit state, 32-bit words and 24-bit probabilities."""

    def __init__(self, payload: bytes) -> None:
        payload += bytes(-len(payload) % 4)
        self.words = [int.from_bytes(payload[i : i + 4], "big") for i in range(0, len(payload), 4)]
        self.position = 0
        self.lower, self.range = 0, (1 << 64) - 1
        self.point = self._word() << 32 | self._word()

    def _word(self) -> int:
        self.position += 1
        return self.words[self.position - 1] if self.position <= len(self.words) else 0

    def decode(self, weights: list[int]) -> int:
        """The index of the next symbol under integer weights that sum to 2^24."""
        scale = self.range >> 24
        quantile = ((self.point - self.lower) & ((1 << 64) - 1)) // scale
        assert quantile < 1 << 24, "invalid data"
        left = 0
        for index, weight in enumerate(weights):
            if quantile < left + weight:
                break
            left += weight
        self.lower = (self.lower + scale * left) & ((1 << 64) - 1)
        self.range = scale * weight
        if self.range < 1 << 32:
            self.lower = (self.lower << 32) & ((1 << 64) - 1)
            self.range <<= 32
            self.point = ((self.point << 32) & ((1 << 64) - 1)) | self._word()
        return index


class RangeEncoder:
    """The encoder that `RangeDecoder` inverts, on one integer of any size: no carry to propagate."""

    def __init__(self) -> None:
        self.lower, self.range, self.words = 0, (1 << 64) - 1, 0

    def encode(self, weights: list[int], index: int) -> None:
        scale = self.range >> 24
        self.lower += scale * sum(weights[:index])
        self.range = scale * weights[index]
        if self.range < 1 << 32:
            self.lower <<= 32
            self.range <<= 32
            self.words += 1

    def finish(self) -> bytes:
        """The words up to the one in which the final interval is at least one unit wide, zero bytes dropped."""
        return ((self.lower + (1 << 32) - 1) >> 32).to_bytes(4 * (self.words + 1), "big").rstrip(b"\0")


CLASS_WEIGHTS = [1 << max(1, 15 - k) for k in range(16)]


def decode_symbols(decoder: RangeDecoder, tables: list[tuple[int, list[int]]], index: list[int]) -> list[int]:
    """Symbols coded under tables (first symbol, 16-bit weights with the escape last); `index` names each one's table."""
    order = sorted(range(len(index)), key=lambda i: index[i])  # sorted() is stable
    symbols, escaped = [0] * len(index), []
    for i in order:
        first, weights = tables[index[i]]
        entry = decoder.decode([256 * w for w in weights])
        symbols[i] = first + entry
        if entry == len(weights) - 1:
            escaped.append(i)
    classes = [decoder.decode([256 * w for w in CLASS_WEIGHTS]) for _ in escaped]
    values = [(1 << k) - 1 for k in classes]
    for wanted in range(1, 16):
        for j, k in enumerate(classes):
            if k == wanted:
                values[j] += decoder.decode([1 << (24 - k)] * (1 << k))
    for i, v in zip(escaped, values, strict=True):
        first, weights = tables[index[i]]
        symbols[i] = first - (v + 1) // 2 if v & 1 else first + len(weights) - 1 + v // 2
    return symbols
