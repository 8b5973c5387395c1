"""Add golden files of payload kind 1, an AVIF stream (section 11): python formats/vectors/add_guard.py

Those that are there stay as they are, and nothing is overwritten. What the samples must be does not come from twcodec:
it is computed here from the decoded planes, by the formulas of 11.2 in Python's own integers, and both have to agree.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from unittest import mock

import make
import numpy as np
from make import HERE, Case, Entry, crop, gradient, patched, split, with_chunk, with_head
from PIL import Image

from twcodec.codec import guard
from twcodec.codec.settings import Settings
from twcodec.imaging.picture import Metadata, Picture

COLOUR = b"colrnclx"
MODES = ("1", "L", "LA", "RGB", "RGBA", "I;16")


def encoded(picture: Picture, quality: float) -> bytes:
    """A file in which the guard won, whatever it cost."""
    with mock.patch.object(guard, "THRESHOLD", 0.0):
        return make.codec.encode_picture(picture, Settings(quality, guard="avif"))[0]


def samples_of(stream: bytes, channels: int, depth: int) -> list[list[list[int]]]:
    """11.2. Pillow shows the planes as they are, as V, Y, U, where the stream calls its colours GBR."""
    at = stream.index(COLOUR) + len(COLOUR) + 4
    with Image.open(io.BytesIO(patched(stream, at, b"\0\0"))) as image:
        planes = np.asarray(image.convert("RGB")).tolist()
    if channels == 1:
        return [[[int(y >= 128) if depth == 1 else y] for _, y, _ in row] for row in planes]
    return [[_rgb(*place) for place in row] for row in planes]


def _rgb(v: int, y: int, u: int) -> list[int]:
    u, v = u - 128, v - 128
    shares = (91881 * v, -22553 * u - 46802 * v, 116130 * u)
    return [min(max(y + ((share + 32768) >> 16), 0), 255) for share in shares]


@dataclass(frozen=True)
class File:
    """A golden file: its bytes, and the samples that every decoder must show."""

    name: str
    what: str
    data: bytes
    samples: list[list[list[int]]]

    @classmethod
    def made(cls, name: str, what: str, picture: Picture, quality: float) -> File:
        """SystemExit: twcodec shows other samples than the formulas give."""
        data = encoded(picture, quality)
        channels = picture.samples.shape[2]
        samples = samples_of(dict(split(data))[b"DATA"], channels, picture.depth)
        if make.codec.decode_picture(data).samples.tolist() != samples:
            raise SystemExit(f"{name}: 11.2 and twcodec do not agree; nothing was written")
        return cls(name, what, data, samples)

    @property
    def coded(self) -> bytes:
        """What the checksum is of (11.3)."""
        return bytes(value for row in self.samples for place in row for value in place)


def valid() -> Iterator[File]:
    text = Metadata(text=(("Title", "guard"),))
    colour = Picture(crop("astronaut", 130, 200, 20, 28), "RGBA", alpha=gradient(20, 28), metadata=text)
    yield File.made("guard-rgba-28x20", "payload kind 1: AVIF in colour, an alpha plane, text", colour, 4)
    grey = Picture(crop("camera", 80, 200, 31, 33), "L")
    yield File.made("guard-l-33x31", "payload kind 1: AVIF in grey, odd sides", grey, 2)
    letters = (crop("page", 20, 80, 32, 48) > 140).astype(np.uint8)
    yield File.made(
        "guard-1-48x32", "payload kind 1: AVIF in grey, black and white by the threshold", Picture(letters, "1", 1), 2
    )


# --- Malformed files: one fault each, every checksum right -----------------------------------------------------------


def avif(samples: np.ndarray, **options: object) -> bytes:
    """A stream by Pillow, as the guard's but for these options."""
    out = io.BytesIO()
    settings = {"quality": 40, "speed": 9, "subsampling": "4:4:4", "range": "full", "max_threads": 1}
    Image.fromarray(samples).save(out, "AVIF", **{**settings, **options})
    return out.getvalue()


def heads(grey: bytes) -> Iterator[Case]:
    """Fields that say something of a model (3.1)."""
    for name, what, kind, at, value in (
        ("digest", "the digest of a model", "corrupt", 11, b"\x01"),
        ("quality", "a quality", "corrupt", 29, struct.pack(">H", 4000)),
        ("transformed", "transformed, by transform 1", "corrupt", 31, b"\x01\x01"),
        ("mode", "mode I;16, of depth 16", "corrupt", 8, b"\x05\x10"),
        ("arithmetic", "arithmetic 1", "unsupported", 27, b"\x01"),
        ("coder", "coder 1", "unsupported", 28, b"\x01"),
        ("later-kind", "payload kind 2", "unsupported", 10, b"\x02"),
        ("width", "HEAD says 34 instead of 33 columns", "corrupt", 0, struct.pack(">I", 34)),
        ("samples-crc", "the CRC-32 of the samples is wrong", "corrupt", 38, bytes(4)),
    ):
        yield name, f"payload kind 1: {what}", kind, with_head(grey, at, value)


def streams(grey: File, colour: File) -> Iterator[Case]:
    """Streams that 11.1 does not allow. Where their samples can be told, the checksum is that of these."""
    stream = dict(split(grey.data))[b"DATA"]
    at = stream.index(COLOUR) + len(COLOUR) + 4
    planes = np.array(grey.samples, np.uint8)[..., 0]
    rgb = np.array(colour.samples, np.uint8)
    out = io.BytesIO()
    Image.fromarray(planes).save(out, "PNG")
    big = avif(np.full((1024, 1024), 90, np.uint8), subsampling="4:0:0", quality=1)
    sides = struct.pack(">II", 33, 31)
    for name, what, of, payload in (
        ("none", "DATA of 0 bytes", grey, b""),
        ("cut", "the last 20 bytes of the stream are missing", grey, stream[:-20]),
        ("behind", "a byte behind the stream", grey, stream + b"\0"),
        ("png", "a PNG of the same samples", grey, out.getvalue()),
        ("matrix", "the stream says that its matrix is the identity", grey, patched(stream, at, b"\0\0")),
        ("range", "the stream says that its range is limited", grey, patched(stream, at + 2, b"\0")),
        ("colour", "a stream in colour in a file of mode L", grey, avif(rgb.repeat(2, 1)[:, :33].repeat(2, 0)[:31])),
        (
            "wrapper",
            "AV1 of 1024 x 1024 pixels in a wrapper of 33 x 31",
            grey,
            big.replace(struct.pack(">II", 1024, 1024), sides),
        ),
        ("grey", "a stream in grey in a file of mode RGBA", colour, avif(rgb[..., 0], subsampling="4:0:0")),
        ("subsampled", "chroma of half the size", colour, avif(rgb, subsampling="4:2:0")),
        ("alpha", "a stream with an alpha plane of its own", colour, avif(np.dstack([rgb, rgb[..., 0]]))),
    ):
        yield name, f"payload kind 1: {what}", "corrupt", with_chunk(of.data, b"DATA", payload)


# --- The manifest --------------------------------------------------------------------------------------------------


def described(file: File) -> Entry:
    """The entry of a valid file; writes it and its pixels."""
    width, height, mode = struct.unpack(">IIB", split(file.data)[0][1][:9])
    path = HERE / "valid" / f"{file.name}.twc"
    make.write(path, file.data)
    picture = make.codec.decode(file.data)
    picture.info.clear()
    with path.with_suffix(".png").open("xb") as out:
        picture.save(out, "PNG", compress_level=9)
    return {
        "file": f"valid/{file.name}.twc",
        "sha256": hashlib.sha256(file.data).hexdigest(),
        "what": file.what,
        "payload": "avif",
        "width": width,
        "height": height,
        "mode": MODES[mode],
        "samples": {"crc32": f"{zlib.crc32(file.coded):08x}", "sha256": hashlib.sha256(file.coded).hexdigest()},
        "pixels": {"file": f"valid/{file.name}.png", "peak": 0, "rms": 0},
    }


def refused(name: str, what: str, kind: str, data: bytes) -> Entry:
    """The entry of a malformed file; writes it."""
    make.write(HERE / "malformed" / f"guard-{name}.twc", data)
    digest = hashlib.sha256(data).hexdigest()
    entry = {"file": f"malformed/guard-{name}.twc", "sha256": digest, "what": what, "payload": "avif"}
    return {**entry, "kind": kind, "exit_code": make.EXIT_CODES[kind]}


def main() -> None:
    """Write the files, and the manifest anew."""
    colour, grey, letters = valid()
    cases = [*heads(grey.data), *streams(grey, colour)]
    manifest = json.loads((HERE / "manifest.json").read_text(encoding="utf-8"))
    manifest["valid"] += [described(file) for file in (colour, grey, letters)]
    manifest["malformed"] += [refused(*case) for case in cases]
    text = json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"
    (HERE / "manifest.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
