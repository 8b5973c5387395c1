"""One side of a comparison: a picture that Pillow reads, or a TWC file, which is decoded."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twcodec.cli import opening, options
from twcodec.cli.say import as_text, shown
from twcodec.codec import resources
from twcodec.container.chunks import MAGIC
from twcodec.container.limits import DEFAULT_LIMITS, Limits
from twcodec.imaging.files import PIPE, input_pipe, read_input

if TYPE_CHECKING:
    from twcodec.imaging.picture import Picture


@dataclass(frozen=True)
class Side:
    """One of the two. kind: "TWC" or "picture"."""

    name: str
    kind: str
    picture: Picture
    bytes: int

    @property
    def bpp(self) -> float:
        """Bits of the whole file a pixel."""
        return 8 * self.bytes / (self.picture.width * self.picture.height)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        size = {"width": self.picture.width, "height": self.picture.height, "mode": self.picture.mode}
        return {"file": as_text(self.name), "kind": self.kind, **size, "bytes": self.bytes, "bpp": self.bpp}


@dataclass(frozen=True)
class Reader:
    """Reads both. What is decoded is decoded as `twc decode` does."""

    model: str
    device: str
    threads: int | None
    max_memory: int | None
    max_pixels: int

    def read(self, name: str, quiet: bool) -> Side:
        """A side, turned upright, with its warnings told."""
        given, size = _opened(name, self.max_pixels)
        if isinstance(given, bytes) and given.startswith(MAGIC[:4]):
            picture = self.decode(given)
            from twcodec.imaging.align import stood_upright

            return Side(name, "TWC", stood_upright(picture), size)
        resources.check_room_to_load()  # or Pillow would blame the picture
        options.make_numpy_ready()
        from twcodec.imaging.align import stood_upright
        from twcodec.imaging.read import read_picture

        picture = read_picture(given, max_pixels=self.max_pixels)
        options.warn(shown(name), picture.warnings, quiet)
        return Side(name, "picture", stood_upright(picture), size)

    def decode(self, data: bytes) -> Picture:
        """The picture in a TWC file."""
        from twcodec.container import Container

        container = Container.from_bytes(data, Limits(pixels=self.max_pixels))
        where = self.model, self.device
        return opening.decoder(container, *where, threads=self.threads, max_memory=self.max_memory)()


def _opened(name: str, max_pixels: int) -> tuple[str | bytes, int]:
    """A picture file by its name, or the whole of a pipe or of a TWC file; and how many bytes it has."""
    from twcodec.imaging.source import open_file, slurp

    if name == PIPE:
        data = slurp(input_pipe(), max_pixels).getvalue()
        return data, len(data)
    with open_file(Path(name)) as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            data = slurp(file, max_pixels).getvalue()
            return data, len(data)
        if file.read(4) != MAGIC[:4]:
            return name, found.st_size
    data = read_input(name, DEFAULT_LIMITS.file_bytes)
    return data, len(data)
