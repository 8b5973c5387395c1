"""What a file says of itself, without torch and without decoding a symbol."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from twcodec.container import Container, Limits
from twcodec.container.chunks import is_ancillary, layout
from twcodec.container.header import AVIF
from twcodec.container.limits import DEFAULT_LIMITS
from twcodec.errors import UnsupportedError
from twcodec.models import catalogue
from twcodec.transforms import by_id


@dataclass(frozen=True)
class Info:
    """The header of a TWC file in readable form.

    mode: Pillow's name. model: the catalogue's name, None for a model that is not ours. digest: 32 hex digits.
    transform: "identity" or a name as in `--transforms`. ways: branches that the encoder tried.
    payload_bytes: of the coded symbols, or of the AVIF stream. bpp: bits of the whole file a pixel.
    payload: "latents"; or "avif", the guard, which needs no model: digest and quality are 0 then.
    chunks: payload bytes of each kind that is not always there. layout: every chunk in the order of the file: its type,
    the bytes of its payload, and whether a decoder must know it ("critical").
    """

    width: int
    height: int
    mode: str
    depth: int
    model: str | None
    digest: str
    quality: float
    transformed: bool
    transform: str
    seed: int
    ways: int
    payload_bytes: int
    file_bytes: int
    bpp: float
    payload: str = "latents"
    parameters: dict[str, int | bool] = field(default_factory=dict)
    chunks: dict[str, int] = field(default_factory=dict)
    layout: tuple[dict[str, str | int | bool], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The fields as plain values."""
        return dict(vars(self))


def info(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Info:
    """Parse a file's header. Errors as `Container.from_bytes`."""
    container = Container.from_bytes(data, limits)
    header = container.header
    name, parameters = _transform(header.transform, header.seed, header.height, header.width)
    return Info(
        width=header.width,
        height=header.height,
        mode=header.mode,
        depth=header.depth,
        model=None if header.kind == AVIF else catalogue.name_of(header.digest),
        digest=header.digest.hex(),
        quality=header.quality,
        transformed=header.transformed,
        transform=name,
        seed=header.seed,
        ways=header.ways,
        payload_bytes=len(container.data),
        file_bytes=len(data),
        bpp=8 * len(data) / (header.width * header.height),
        payload="avif" if header.kind == AVIF else "latents",
        parameters=parameters,
        chunks=_sizes(container),
        layout=tuple(
            {"type": kind.decode("ascii"), "bytes": size, "critical": not is_ancillary(kind)}
            for kind, size in layout(data)
        ),
    )


def _transform(number: int, seed: int, height: int, width: int) -> tuple[str, dict[str, int | bool]]:
    if number == 0:
        return "identity", {}
    try:
        transform = by_id(number)
    except UnsupportedError:
        return f"unknown ({number})", {}
    return transform.name, transform.from_seed(seed, height, width).describe()


def _sizes(container: Container) -> dict[str, int]:
    """Payload bytes of each kind of chunk that is not always there."""
    sizes: dict[str, int] = {}
    alpha = [(b"ALPH", container.alpha)] if container.alpha is not None else []
    for kind, payload in [*container.ancillary, *alpha]:
        name = kind.decode("ascii")
        sizes[name] = sizes.get(name, 0) + len(payload)
    return sizes
