"""The HEAD chunk: what the decoder must know before it reads a symbol (formats/twc-1.md, section 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from construct import Bytes, ConstructError, Int8ub, Int16ub, Int32ub, Struct

from twcodec.container.limits import MAX_SIDE
from twcodec.errors import CorruptError, UnsupportedError

MODES = ("1", "L", "LA", "RGB", "RGBA", "I;16")
"""Pillow mode by its code in the file."""

DEPTHS = {"1": 1, "L": 8, "LA": 8, "RGB": 8, "RGBA": 8, "I;16": 16}

COLOURS = {"1": 1, "L": 1, "LA": 1, "RGB": 3, "RGBA": 3, "I;16": 1}
"""Coded channels, alpha not among them."""

LATENTS, AVIF = 0, 1
"""Payload kinds: symbols of a learned model, and an AVIF stream, the guard. All others are reserved."""

ARITHMETIC = {LATENTS: 1, AVIF: 0}
CODER = {LATENTS: 1, AVIF: 0}
"""Versions by payload kind; 0: none. The golden file later-kind.twc has kind 1 with 1 and 1, and stays unsupported."""

QUALITY_STEPS = 1000
"""The file holds the quality in thousandths."""

_HEAD = Struct(
    "width" / Int32ub,
    "height" / Int32ub,
    "mode" / Int8ub,
    "depth" / Int8ub,
    "kind" / Int8ub,
    "digest" / Bytes(16),
    "arithmetic" / Int8ub,
    "coder" / Int8ub,
    "quality" / Int16ub,
    "transformed" / Int8ub,
    "transform" / Int8ub,
    "seed" / Int32ub,
    "ways" / Int8ub,
    "symbols_crc" / Int32ub,
)
HEAD_BYTES: int = _HEAD.sizeof()


@dataclass(frozen=True)
class Header:
    """The fields of HEAD.

    width, height: pixels of the picture as it was given. mode: one of `MODES`. digest: the first 16 bytes of the
    SHA-256 of the model file. quality: the model's own scale, to a thousandth. transform, seed: 0 unless
    `transformed`. ways: learned branches that the encoder tried. symbols_crc: CRC-32 of all integer symbols.
    kind: `LATENTS`, or `AVIF`: then no model is needed, digest and quality are zero, nothing is transformed, and
    symbols_crc is that of the decoded samples.
    """

    width: int
    height: int
    mode: str
    digest: bytes
    quality: float
    symbols_crc: int
    transformed: bool = False
    transform: int = 0
    seed: int = 0
    ways: int = 1
    kind: int = LATENTS

    @property
    def depth(self) -> int:
        """Bits a sample: 1, 8 or 16."""
        return DEPTHS[self.mode]

    @property
    def has_alpha(self) -> bool:
        """Whether an ALPH chunk must follow."""
        return self.mode in ("LA", "RGBA")

    def to_bytes(self) -> bytes:
        """The payload of HEAD, `HEAD_BYTES` long."""
        fields = {
            "width": self.width,
            "height": self.height,
            "mode": MODES.index(self.mode),
            "depth": self.depth,
            "kind": self.kind,
            "digest": self.digest,
            "arithmetic": ARITHMETIC[self.kind],
            "coder": CODER[self.kind],
            "quality": round(self.quality * QUALITY_STEPS),
            "transformed": int(self.transformed),
            "transform": self.transform,
            "seed": self.seed,
            "ways": self.ways,
            "symbols_crc": self.symbols_crc,
        }
        return bytes(_HEAD.build(fields))

    @classmethod
    def from_bytes(cls, payload: bytes) -> Header:
        """Parse and check HEAD. CorruptError: fields that cannot be; UnsupportedError: a later kind of payload."""
        if len(payload) < HEAD_BYTES:
            raise CorruptError(f"the HEAD chunk has {len(payload)} bytes, {HEAD_BYTES} are needed")
        try:
            raw = _HEAD.parse(payload)
        except ConstructError as error:  # pragma: no cover - the length was checked
            raise CorruptError(f"the HEAD chunk cannot be read: {error}") from None
        _refuse_later_kinds(raw.kind, raw.arithmetic, raw.coder)
        if not 1 <= raw.width <= MAX_SIDE or not 1 <= raw.height <= MAX_SIDE:
            raise CorruptError(f"the header claims {raw.width}x{raw.height} pixels; sides are 1 to {MAX_SIDE}")
        if raw.mode >= len(MODES):
            raise UnsupportedError(
                f"needs mode {raw.mode}, this twc knows 0 to {len(MODES) - 1}; decode it with a later twc"
            )
        if raw.depth != DEPTHS[MODES[raw.mode]]:
            raise CorruptError(f"the header claims mode {MODES[raw.mode]} at depth {raw.depth}, which does not exist")
        plain = raw.transform == 0 and raw.seed == 0
        if raw.transformed > 1 or (raw.transformed == 0 and not plain) or (raw.transformed == 1 and raw.transform == 0):
            raise CorruptError("the header's transform flag, id and seed contradict each other")
        if raw.ways == 0:
            raise CorruptError("the header claims that no branch was tried")
        if raw.kind == AVIF:
            _check_guard(raw)
        return cls(
            width=raw.width,
            height=raw.height,
            mode=MODES[raw.mode],
            digest=raw.digest,
            quality=raw.quality / QUALITY_STEPS,
            symbols_crc=raw.symbols_crc,
            transformed=bool(raw.transformed),
            transform=raw.transform,
            seed=raw.seed,
            ways=raw.ways,
            kind=raw.kind,
        )


def _refuse_later_kinds(kind: int, arithmetic: int, coder: int) -> None:
    if kind not in ARITHMETIC:
        raise UnsupportedError(
            f"needs payload kind version {kind}, this twc knows {LATENTS} and {AVIF}; decode it with a later twc"
        )
    for name, found, known in (("arithmetic", arithmetic, ARITHMETIC[kind]), ("coder", coder, CODER[kind])):
        if found != known:
            raise UnsupportedError(f"needs {name} version {found}, this twc knows {known}; decode it with a later twc")


def _check_guard(raw: Any) -> None:
    """CorruptError for fields of HEAD that say something though there is no model."""
    if any(raw.digest) or raw.quality or raw.transformed:
        raise CorruptError("the header names a model, a quality or a transform, and the payload is AVIF")
    if raw.depth > 8:
        raise CorruptError(f"the header claims mode {MODES[raw.mode]}, and the payload is AVIF, of 8 bits a sample")
