"""Model files: safetensors with the metadata in its header. The SHA-256 of the file is the model's identity.

No pickle: a model file is numbers and names, checked here and by the family before use.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from twcodec.errors import UnsupportedError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FORMAT = "1"
MOST_LAMBDA = 1e6
"""Lambdas are numbers over 0 and under this."""

MOST_BYTES = 1 << 30
"""Of a model file, and of a checkpoint that one is made from; the largest official one has 120 MB."""
DIGEST_BYTES = 16
MOST_HEADER = 1 << 24
"""Bytes; the largest model's has some 100 kB. As objects a JSON text may take 25 times its length."""

_KEY = "twc"
"""All metadata is one JSON text: safetensors writes several entries in an order that changes from run to run."""


@dataclass(frozen=True)
class ModelFile:
    """A parsed model file. metadata: "family", "lambda" (one a quality row), "provenance" and the family's own.

    "base", where it is there, is the digest of another model file, whose tensors fill the gaps of this one.
    """

    tensors: Mapping[str, NDArray[Any]]
    metadata: Mapping[str, Any]
    digest: bytes

    def count(self, name: str) -> int:
        """How many tensors "name.0.part", "name.1.part", ... there are in a row. name: with {} for the number."""
        return next(i for i in itertools.count() if name.format(i) not in self.tensors)

    def tensor(self, name: str, shape: tuple[int | None, ...], dtype: str) -> NDArray[Any]:
        """A tensor of exactly this shape (None: any) and dtype ("float16"). UnsupportedError: it is not there."""
        found = self.tensors.get(name)
        if found is None:
            raise UnsupportedError(f"the model file has no tensor {name}; it is damaged or of another family")
        wrong = found.ndim != len(shape) or any(n not in (None, m) for n, m in zip(shape, found.shape, strict=False))
        if wrong or str(found.dtype) != dtype:
            raise UnsupportedError(
                f"the model file's {name} is {found.dtype}{found.shape}, {dtype}{shape} was expected"
            )
        return found


def on_base(file: ModelFile, base: ModelFile) -> ModelFile:
    """A model file that has another's tensors where it has none of its own."""
    return replace(file, tensors={**base.tensors, **file.tensors})


def digest_of(data: bytes) -> bytes:
    """The first 16 bytes of the SHA-256: what a `.twc` file holds."""
    return hashlib.sha256(data).digest()[:DIGEST_BYTES]


def parse(data: bytes) -> ModelFile:
    """Parse the bytes of a model file. UnsupportedError: it is none, or of a later format."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    length = int.from_bytes(data[:8], "little")
    try:
        if length > MOST_HEADER:
            raise ValueError(length)
        header = json.loads(data[8 : 8 + length])
        metadata = json.loads(header["__metadata__"][_KEY])
        found = metadata["format"]
        tensors = load(data)
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UnsupportedError("not a twc model file, or a damaged one") from None
    if found != FORMAT:
        raise UnsupportedError(f"model file format {found!r}, this twc reads {FORMAT!r}")
    return ModelFile(tensors, metadata, digest_of(data))


def build(tensors: Mapping[str, NDArray[np.generic]], metadata: Mapping[str, Any]) -> bytes:
    """The bytes of a model file; the same input always gives the same bytes."""
    from safetensors.numpy import save

    text = json.dumps({**metadata, "format": FORMAT}, sort_keys=True)
    return bytes(save(dict(tensors), {_KEY: text}))
