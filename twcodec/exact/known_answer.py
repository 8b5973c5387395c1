"""A known-answer test: does this device do the exact arithmetic right?"""

from __future__ import annotations

import functools
import zlib

import numpy as np
import torch

from twcodec.exact.layers import DepthwiseLayer, Geometry, Layer, RowLayer

ANSWER, DEPTHWISE_ANSWER, ROW_ANSWER = 2814644022, 3775989338, 3674387017
"""CRC-32 of the outputs, as big-endian 32-bit integers, computed with Python's own integers in tests (format, 6.8)."""


@functools.cache
def passes(device: str) -> bool:
    """Whether `device` ("cpu", "cuda:0") computes the test network to the last bit. Runs once a process and device."""
    found = torch.device(device)
    answers = answer(found), depthwise_answer(found), row_answer(found)
    return answers == (ANSWER, DEPTHWISE_ANSWER, ROW_ANSWER)


def answer(device: torch.device) -> int:
    """CRC-32 of a transposed and a plain layer on pseudo-random integers near the ends of their ranges."""
    a = _channels_last(inputs()).to(device)
    for weight, bias, shift, geometry in test_layers():
        a = Layer(weight, bias, shift, geometry, activation=True, device=device)(a)
    return _crc(a)


def depthwise_answer(device: torch.device) -> int:
    """The same of a depthwise layer on the inputs and their magnitudes."""
    a = _channels_last(inputs()).to(device)
    weight, bias = _integers(6, (16, 1, 3, 3), 1 << 15).astype(np.int16), _integers(7, (16,), 1 << 30)
    out = DepthwiseLayer(weight, bias, np.arange(16, dtype=np.int32) + 10, device)(torch.cat([a, a.abs()], -1))
    return _crc(out)


def row_answer(device: torch.device) -> int:
    """The same of a layer on rows of the inputs."""
    a = torch.from_numpy(inputs().astype(np.int32)).to(device).view(7, 40)
    weight, bias = _integers(8, (24, 40), 1 << 15).astype(np.int16), _integers(9, (24,), 1 << 30)
    out = RowLayer(weight, bias, np.arange(24, dtype=np.int32) + 10, True, device)(a)
    return zlib.crc32(out.cpu().numpy().astype(">i4").tobytes())


def _channels_last(a: np.ndarray) -> torch.Tensor:  # type: ignore[type-arg]
    return torch.from_numpy(a.transpose(1, 2, 0).astype(np.int32))


def _crc(a: torch.Tensor) -> int:
    """Of (H, W, C), in the order (C, H, W)."""
    return zlib.crc32(a.cpu().numpy().transpose(2, 0, 1).astype(">i4").tobytes())


def inputs() -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """(8, 5, 7) integers, |a| < 2^20."""
    return _integers(1, (8, 5, 7), 1 << 20)


def test_layers() -> list[tuple[np.ndarray, np.ndarray, np.ndarray, Geometry]]:  # type: ignore[type-arg]
    """Weights, biases, shifts and geometry of the two layers."""
    return [
        (
            _integers(2, (12, 8, 5, 5), 1 << 15).astype(np.int16),
            _integers(3, (12,), 1 << 30),
            np.arange(12, dtype=np.int32) + 10,
            Geometry(5, 2, 2, transposed=True, output_padding=1),
        ),
        (
            _integers(4, (6, 12, 3, 3), 1 << 15).astype(np.int16),
            _integers(5, (6,), 1 << 30),
            np.arange(6, dtype=np.int32) + 14,
            Geometry(3, 1, 1),
        ),
    ]


def _integers(seed: int, shape: tuple[int, ...], limit: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Integers -limit < n < limit from a linear congruential generator (Knuth's MMIX)."""
    state, out = seed, []
    for _ in range(int(np.prod(shape))):
        state = (state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        out.append((state >> 32) * (2 * limit - 1) // (1 << 32) - limit + 1)
    return np.array(out, np.int64).reshape(shape)
