"""What is wrong with a file by the model that it names, found out before torch is imported, and without numpy.

Importing torch takes a second and 300 MB, which a file of 200 bytes that claims a picture of gigabytes shall not have.
"""

from __future__ import annotations

import itertools
import json
import math
import struct
from typing import TYPE_CHECKING, Any

from twcodec.errors import TwcError
from twcodec.exact import possible
from twcodec.models import catalogue

if TYPE_CHECKING:
    from twcodec.container import Container

_SIDE = 64
"""Pixels that a position of z stands for, on each axis; with a factorised prior fewer."""

_AMPLE = 256
"""Bits a position. Files with more are not looked into: ordinary ones have 700, models' cheapest z takes 20 to 60."""

_TABLE_BITS = 16


def check(container: Container, model: str) -> None:
    """model: as it is asked for by name. Of a damaged model nothing is said: whoever loads it does.

    UnsupportedError: no model of the file's digest is at hand. CorruptError: the coded symbols are too few for the
    picture that the header claims.
    """
    header, size = container.header, len(container.data)
    if model == catalogue.DEFAULT and catalogue.name_of(header.digest) is None:
        catalogue.read_by_digest(header.digest)  # which says what there is
    positions = math.ceil(header.height / _SIDE) * math.ceil(header.width / _SIDE)
    if 8 * size < _AMPLE * positions:
        possible.check(size, _floor(header.digest), positions)


def _floor(digest: bytes) -> float:
    """Bits of the cheapest z at one position; 0: not known."""
    try:
        data = catalogue.read_by_digest(digest)[1]
        base = json.loads(_header(data)["__metadata__"]["twc"]).get("base")
        return _cheapest(catalogue.read_by_digest(bytes.fromhex(base))[1] if base else data)
    except (TwcError, ValueError, KeyError, TypeError, AttributeError, struct.error, RecursionError):
        return 0.0


def _header(data: bytes) -> Any:
    """Of safetensors: the JSON text whose length comes first."""
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])


def _cheapest(data: bytes) -> float:
    """The sum over the N tables of z of what their likeliest symbols cost; of several sets, the smallest sum."""
    weights, lengths = _numbers(data, "tables.z.weight", "H"), iter(_numbers(data, "tables.z.length", "i"))
    ends = itertools.pairwise(itertools.accumulate(lengths, initial=0))
    costs = [_TABLE_BITS - math.log2(max(weights[start:end])) for start, end in ends]
    channels = len(_numbers(data, "medians", "i"))
    return min(sum(costs[first : first + channels]) for first in range(0, len(costs), channels))


def _numbers(data: bytes, name: str, kind: str) -> tuple[int, ...]:
    """A tensor's numbers, little-endian, of a kind of `struct`'s."""
    start, end = _header(data)[name]["data_offsets"]
    behind = 8 + int.from_bytes(data[:8], "little")
    values = data[behind + start : behind + end]
    return struct.unpack(f"<{len(values) // struct.calcsize(kind)}{kind}", values)
