"""A TWC file as an object: which chunks it must, may and may not have (formats/twc-1.md, section 3)."""

from __future__ import annotations

from dataclasses import dataclass

from twcodec.container import chunks
from twcodec.container.header import Header
from twcodec.container.limits import DEFAULT_LIMITS, Limits
from twcodec.errors import CorruptError, UnsupportedError, UsageError

_KNOWN_CRITICAL = (b"HEAD", b"DATA", b"ALPH")
_AT_MOST_ONE = (b"HEAD", b"DATA", b"ALPH", b"iCCP", b"eXIf", b"xMPd", b"tEXt")


@dataclass(frozen=True)
class Container:
    """Everything in a TWC file.

    data: the coded symbols. alpha: the payload of ALPH, there exactly if the mode has alpha. ancillary: the other
    chunks in their order, as (type, payload); unknown ones are kept out of the decoder's way here.
    """

    header: Header
    data: bytes
    alpha: bytes | None = None
    ancillary: tuple[chunks.Chunk, ...] = ()

    def to_bytes(self) -> bytes:
        """The file."""
        alpha = [(b"ALPH", self.alpha)] if self.alpha is not None else []
        return chunks.join([(b"HEAD", self.header.to_bytes()), *self.ancillary, *alpha, (b"DATA", self.data)])

    @classmethod
    def from_bytes(cls, data: bytes, limits: Limits = DEFAULT_LIMITS) -> Container:
        """Parse a whole file and check it against the format and the limits.

        Errors: UnreadableError, UnsupportedError, LimitError, CorruptError. Nothing is allocated on a length's word.
        """
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise UsageError(f"the bytes of a TWC file are needed, not {type(data).__name__}; read the file first")
        found = chunks.split(bytes(data), limits)
        if not found or found[0][0] != b"HEAD":
            raise CorruptError("the first chunk is not HEAD")
        _check_kinds([kind for kind, _ in found])
        header = Header.from_bytes(found[0][1])
        limits.check_size(header.width, header.height)
        by_kind = dict(found)
        if b"DATA" not in by_kind:
            raise CorruptError("the file has no DATA chunk")
        if (b"ALPH" in by_kind) != header.has_alpha:
            raise CorruptError(f"mode {header.mode} and the presence of an ALPH chunk contradict each other")
        ancillary = tuple(chunk for chunk in found if chunks.is_ancillary(chunk[0]))
        return cls(header, by_kind[b"DATA"], by_kind.get(b"ALPH"), ancillary)


def _check_kinds(kinds: list[bytes]) -> None:
    for kind in kinds:
        if not chunks.is_ancillary(kind) and kind not in _KNOWN_CRITICAL:
            raise UnsupportedError(
                f"needs the chunk {kind.decode('ascii')}, which this twc does not know; decode it with a later twc"
            )
    for kind in _AT_MOST_ONE:
        if kinds.count(kind) > 1:
            raise CorruptError(
                f"the chunk {kind.decode('ascii')} is there {kinds.count(kind)} times, once was expected"
            )
