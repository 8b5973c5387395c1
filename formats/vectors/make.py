"""Make the golden files of TWC version 1: python formats/vectors/make.py FOLDER

The files beside this script are part of the format. Once a release has gone out with them they are never made again,
only added to, because they stand for files that people have: so nothing that is there is ever overwritten. Encoding is
in floating point, so another machine may make other, equally valid files. Their meaning is not taken from the encoder
but from tests/conformance/slow_decoder.py, and both have to agree on every symbol before anything is written.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
import sys
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
import torch
from numpy.typing import NDArray
from PIL import Image

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "conformance")]

import slow_decoder  # noqa: E402

import twcodec  # noqa: E402
from twcodec.codec.settings import Settings  # noqa: E402
from twcodec.exact.symbols import Symbols  # noqa: E402
from twcodec.exact.symbols import symbols_crc as crc_of  # noqa: E402
from twcodec.imaging.picture import Metadata, Picture  # noqa: E402

MODEL = ROOT / "twcodec" / "models" / "weights" / "default-1.safetensors"
SPECIFICATION = HERE.parent / "twc-1.md"
TRANSFORMS = ("", "flip-turn", "grid-shift", "flip-turn-shift", "flip-turn-slack")
EXIT_CODES = {"not TWC": 3, "corrupt": 4, "unsupported": 5, "limit": 6}
PEAK = {1: 0, 8: 1, 16: 257}
"""Levels by which a sample may differ from section 8.4 in binary64, by depth; at depth 1 none here lies near 1/2."""

RMS = {1: 0.0, 8: 0.25, 16: 64.0}
"""Likewise on average. A sample in 16 may be off by a level; rounding down makes 0.7, binary32 0.01 at most."""

FEW = 3
"""That many samples of a small picture may be off by `PEAK` whatever `RMS` says: those of one pixel."""

codec = twcodec.open_codec(model="default-1", device="cpu")
model = slow_decoder.Model(MODEL.read_bytes())

Chunk = tuple[bytes, bytes]
Array = NDArray[np.generic]
Entry = dict[str, Any]
Case = tuple[str, str, str, bytes]
"""A malformed file: name, what it is, kind of refusal (section 9), file."""


# --- Pieces of files ---------------------------------------------------------------------------------------------


def framed(kind: bytes, payload: bytes) -> bytes:
    """A chunk."""
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


def join(chunks: list[Chunk], major: int = 1, minor: int = 0) -> bytes:
    """A file with every checksum right, whatever is in it."""
    body = slow_decoder.MAGIC + bytes([major, minor]) + b"".join(framed(*chunk) for chunk in chunks)
    return body + framed(b"TEND", struct.pack(">I", zlib.crc32(body)))


def split(data: bytes) -> list[Chunk]:
    """The chunks without TEND."""
    return slow_decoder.read_frame(data)[:-1]


def patched(data: bytes, at: int, value: bytes) -> bytes:
    """`data` with other bytes at an offset."""
    return data[:at] + value + data[at + len(value) :]


def with_head(data: bytes, at: int, value: bytes) -> bytes:
    """The file with other bytes at an offset of HEAD's payload, checksums right."""
    (kind, head), *others = split(data)
    return join([(kind, patched(head, at, value)), *others])


def with_chunk(data: bytes, kind: bytes, payload: bytes) -> bytes:
    """The file with one chunk more behind HEAD, or with another payload of a chunk that it has."""
    chunks = split(data)
    if kind in dict(chunks):
        return join([(name, payload if name == kind else old) for name, old in chunks])
    return join([chunks[0], (kind, payload), *chunks[1:]])


def packed(data: bytes, length: int | None = None) -> bytes:
    """Metadata of method 1, which may lie about its length."""
    return struct.pack(">BI", 1, len(data) if length is None else length) + zlib.compress(data, 9)


def stored(data: bytes) -> bytes:
    """Metadata of method 0."""
    return struct.pack(">BI", 0, len(data)) + data


def alpha_png(width: int, height: int, rows: bytes, behind: bytes = b"") -> bytes:
    """ALPH of method 1 around any rows. behind: in the IDAT, behind the zlib stream."""
    header = struct.pack(">II5B", width, height, 8, 0, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows, 9) + behind), (b"IEND", b"")]
    return b"\x01\x89PNG\r\n\x1a\n" + b"".join(framed(*part) for part in parts)


# --- Pictures ----------------------------------------------------------------------------------------------------


def crop(name: str, row: int, column: int, height: int, width: int) -> Array:
    """(height, width, C) of a picture that ships with scikit-image."""
    image = np.asarray(getattr(skimage.data, name)())
    image = image[..., None] if image.ndim == 2 else image[..., :3]
    return np.ascontiguousarray(image[row : row + height, column : column + width])


def gradient(height: int, width: int) -> Array:
    """(height, width) uint8: every sort of slope, so that PNG uses its filters."""
    y, x = np.mgrid[:height, :width]
    return ((7 * x + 3 * y + (x * y) // 9) % 256).astype(np.uint8)


def encoded(picture: Picture, quality: float, transform: int, transposed: bool = False) -> bytes:
    """A file with this transform, of the first seed that gives such a member of its set."""
    if transform == 0:
        return codec.encode_picture(picture, Settings(quality, transform="never"))[0]
    seeds = range(1 << 10)
    seed = next(
        s for s in seeds if bool(slow_decoder.draw(transform, s, picture.height, picture.width)[0] & 4) == transposed
    )
    settings = Settings(quality, 1, "always", (TRANSFORMS[transform],), seed)
    return codec.encode_picture(picture, settings)[0]


def specified() -> bytes:
    """The worked example of the text."""
    dump = SPECIFICATION.read_text().split("## 10. Worked example")[1].split("```")[1]
    return bytes.fromhex("".join(line[8:] for line in dump.strip().splitlines()))


# --- Levels A and B ----------------------------------------------------------------------------------------------


def metadata() -> Metadata:
    """Of every kind; the long one is deflated."""
    exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    icc = bytes(range(200)) + bytes(400)
    text = (("Title", "Häuser"), ("Comment", ""), ("Title", "again"), ("", "x"))
    return Metadata(icc, exif, b"<x:xmpmeta/>", text)


def extreme(seed: int) -> bytes:
    """16 x 16 pixels of symbols that no picture has: every class of escape, saturation in h_s, z up to its limit."""
    rng = np.random.default_rng(seed)
    entropy = codec.model.family.entropy

    def latents(count: int, octaves: int) -> torch.Tensor:
        values = np.exp2(rng.uniform(0, octaves, count)) * rng.choice((-1, 1), count)
        return torch.from_numpy(values.astype(np.float32)).reshape(count, 1, 1)

    z, y = latents(96, 10), latents(256, 15)
    z[:2, 0, 0] = torch.tensor([5000.0, -5000.0])  # clamped to 1023
    y[:2, 0, 0] = torch.tensor([90000.0, -90000.0])
    return with_symbols(square(), entropy.quantise(y, z))


def saturating() -> bytes:
    """16 x 16 pixels of grey: every symbol of z at its limit, with the signs of the weights of one channel of h_s.

    Channel 25 of the embedded default, at the middle of its kernel, drives all three layers into saturation.
    """
    weights = model.layers[0].kernel.rows[25][2 * 5 + 2 :: 25]
    z = torch.tensor([5000.0 if weight >= 0 else -5000.0 for weight in weights]).reshape(-1, 1, 1)
    return with_symbols(square(), codec.model.family.entropy.quantise(torch.zeros(model.m, 1, 1), z))


def square() -> bytes:
    """A file of 16 x 16 pixels."""
    return encoded(Picture(np.zeros((16, 16, 3), np.uint8), "RGB"), 2, 0)


def with_symbols(data: bytes, symbols: Symbols) -> bytes:
    """The file with other symbols and their checksum."""
    head = patched(split(data)[0][1], 38, struct.pack(">I", crc_of(symbols)))
    return join([(b"HEAD", head), (b"DATA", codec.model.family.entropy.encode(symbols))])


def valid() -> Iterator[tuple[str, str, bytes]]:
    """Name, what it is, file."""
    rng = np.random.default_rng(1)
    yield "specification", "the worked example of section 10", specified()
    yield "rgb-1x1", "one pixel", encoded(Picture(crop("astronaut", 100, 200, 1, 1), "RGB"), 1, 0)
    wide = crop("astronaut", 250, 100, 7, 300)
    yield "rgb-300x7", "wide and low; a shift", encoded(Picture(wide, "RGB"), 3, 2)
    high = crop("astronaut", 20, 222, 300, 7)
    yield "rgb-7x300", "narrow and high; transposed", encoded(Picture(high, "RGB"), 2, 1, True)
    face = crop("astronaut", 60, 180, 65, 63)
    yield "rgb-63x65", "a fractional quality; turned, not transposed", encoded(Picture(face, "RGB"), 3.217, 1)
    yield "rgb-40x17", "a turn and a shift", encoded(Picture(crop("astronaut", 400, 60, 17, 40), "RGB"), 5.5, 3, True)
    carried = Picture(crop("chelsea", 100, 150, 40, 17), "RGB", metadata=metadata())
    yield "rgb-metadata", "iCCP, eXIf, xMPd and tEXt with four pairs", encoded(carried, 4, 4)
    noise = rng.integers(0, 256, (48, 64, 3)).astype(np.uint8)
    noise[8:40, 8:56] = np.where(rng.integers(0, 2, (32, 48, 1)) > 0, 255, 0)
    yield "rgb-noise", "noise at the highest quality: escapes", encoded(Picture(noise, "RGB"), 7, 0)
    yield (
        "l-33x31",
        "grey; transposed into its padding",
        encoded(Picture(crop("camera", 80, 200, 31, 33), "L"), 6, 4, True),
    )
    half = Picture(crop("camera", 90, 210, 24, 33), "LA", alpha=gradient(24, 33))
    yield "la-33x24", "grey and alpha, a PNG", encoded(half, 2.75, 3)
    colour = Picture(crop("astronaut", 130, 200, 33, 24), "RGBA", alpha=gradient(33, 24)[::-1].copy())
    rgba = encoded(colour, 4.5, 2)
    yield "rgba-24x33", "colour and alpha, a PNG", rgba
    constant = Picture(crop("astronaut", 130, 200, 9, 20), "RGBA", alpha=np.full((9, 20), 77, np.uint8))
    yield "rgba-constant", "alpha of one value", encoded(constant, 3, 1, True)
    letters = (crop("page", 20, 80, 32, 48) > 140).astype(np.uint8)
    yield "1-48x32", "black and white", encoded(Picture(letters, "1", 1), 6.5, 4)
    y, x = np.mgrid[:32, :48]
    deep = (30000 + 20000 * np.sin(x / 9) + 12000 * np.cos(y / 5 + x / 31)).astype(np.uint16)[..., None]
    yield "i16-48x32", "16 bits", encoded(Picture(deep, "I;16", 16), 7, 3)
    base = encoded(Picture(crop("chelsea", 120, 180, 20, 20), "RGB"), 3, 4)
    head, body = split(base)
    odd: list[Chunk] = [(b"nOTe", b"first"), body, (b"nOTe", b"second"), (b"zzZz", b""), (b"tEXt", stored(b"a\0b"))]
    yield "unknown-ancillary", "unknown ancillary chunks, one twice, one empty, around DATA", join([head, *odd])
    longer = (head[0], head[1] + b"\xff\0later")
    yield "later-minor", "version 1.7: a longer HEAD and a new ancillary chunk", join([longer, odd[0], body], minor=7)
    chunks = dict(split(rgba))
    order: list[Chunk] = [(kind, chunks[kind]) for kind in (b"HEAD", b"DATA", b"ALPH")]
    yield "data-first", "DATA before ALPH", join(order)
    yield "saturation", "no picture: activations saturate in every layer of h_s", saturating()
    yield "extreme", "no picture: symbols at their limits, all 16 classes of escapes; level A only", extreme(3)


def describe(name: str, what: str, data: bytes, folder: Path) -> Entry:
    """An entry of the manifest; writes the file and its pixels."""
    found = slow_decoder.decode(data, model)
    ours = codec.decode_symbols(data)
    if found.symbols.coded != b"".join(part.numpy().astype(">i2").tobytes() for part in (ours.z, ours.y)):
        raise SystemExit(f"{name}: the slow decoder and twcodec do not agree; nothing further was written")
    head, symbols = found.head, found.symbols
    turn, dy, dx = slow_decoder.draw(head.transform, head.seed, head.height, head.width)
    write(folder / f"{name}.twc", data)
    entry: Entry = {
        "file": f"valid/{name}.twc",
        "sha256": hashlib.sha256(data).hexdigest(),
        "what": what,
        "width": head.width,
        "height": head.height,
        "mode": ("1", "L", "LA", "RGB", "RGBA", "I;16")[head.mode],
        "quality": head.quality,
        "transform": {"id": head.transform, "seed": head.seed, "turn": turn, "dy": dy, "dx": dx},
        "symbols": {
            "z": len(symbols.z),
            "y": len(symbols.y),
            "escaped_z": len(symbols.z_escaped),
            "escaped_y": len(symbols.y_escaped),
            "crc32": f"{zlib.crc32(symbols.coded):08x}",
            "sha256": hashlib.sha256(symbols.coded).hexdigest(),
        },
    }
    if found.metadata:
        entry["metadata"] = {kind.decode(): value.hex() for kind, value in found.metadata.items()}
    if found.text:
        entry["text"] = found.text
    if not name.endswith("extreme"):
        image = to_image(found)
        with (folder / f"{name}.png").open("xb") as file:
            image.save(file, "PNG", compress_level=9)
        count = head.width * head.height * head.channels
        entry["pixels"] = {"file": f"valid/{name}.png", **bounds(head.depth, count)}
        check_peak(name, found)
    return entry


def bounds(depth: int, count: int) -> dict[str, float]:
    """Of the differences in a picture of `count` samples, alpha not counted."""
    rms = max(RMS[depth], math.sqrt(FEW / count) * PEAK[depth])
    return {"peak": PEAK[depth], "rms": math.ceil(1000 * rms) / 1000}


def to_image(found: slow_decoder.Decoded) -> Image.Image:
    """The samples as a Pillow image of the file's mode."""
    samples = np.array(found.samples)
    if found.alpha is not None:
        samples = np.concatenate([samples, np.array(found.alpha)[..., None]], axis=2)
    samples = samples[..., 0] if samples.shape[2] == 1 else samples
    kind = {1: np.bool_, 8: np.uint8, 16: np.uint16}[found.head.depth]
    return Image.fromarray(samples.astype(kind))


def check_peak(name: str, found: slow_decoder.Decoded) -> None:
    """Section 8.4 leaves samples of depth 1 open near one half: none of ours may be there."""
    if found.head.depth == 1 and any(abs(v - 0.5) < 2 / 255 for line in found.values for (v,) in line):
        raise SystemExit(f"{name}: a sample is too near to one half; choose another picture")


# --- Level C -----------------------------------------------------------------------------------------------------


def malformed() -> Iterator[Case]:
    base = specified()
    picture = Picture(crop("astronaut", 130, 200, 9, 20), "RGBA", alpha=gradient(9, 20))
    rgba = encoded(picture, 3, 0)
    yield from _no_twc(base)
    yield from _frames(base)
    yield from _chunks(base, rgba)
    yield from _heads(base)
    yield from _symbols(base)
    yield from _carried(base, rgba)


def _no_twc(base: bytes) -> Iterator[Case]:
    kind = "not TWC"
    yield "empty", "no bytes", kind, b""
    yield "magic-cut", "the first 5 bytes", kind, base[:5]
    yield "magic-png", "PNG's magic", kind, patched(base, 1, b"PNG")
    yield "text-mode-lf", "every CR LF became LF", kind, base.replace(b"\r\n", b"\n")
    yield "text-mode-crlf", "every LF became CR LF", kind, base.replace(b"\n", b"\r\n")
    yield "text-mode-7-bits", "the highest bit of every byte is gone", kind, bytes(b & 127 for b in base)


def _frames(base: bytes) -> Iterator[Case]:
    kind = "corrupt"
    yield "cut-prefix", "the first 9 bytes", kind, base[:9]
    yield "cut-head", "cut inside HEAD", kind, base[:40]
    yield "cut-data", "cut inside DATA", kind, base[:100]
    yield "cut-tend", "the last byte is missing", kind, base[:-1]
    yield "no-tend", "TEND is missing", kind, base[:-16]
    yield "behind-tend", "a byte behind TEND", kind, base + b"\0"
    yield "flip-data", "one bit of the symbols flipped", kind, patched(base, 100, bytes([base[100] ^ 16]))
    yield "flip-length", "one bit of DATA's length flipped", kind, patched(base, 64, b"\x01")
    yield "length-huge", "a chunk that claims 2^32 - 1 bytes", kind, patched(base, 64, b"\xff\xff\xff\xff")
    body = base[:-16]
    wrong = framed(b"TEND", struct.pack(">I", zlib.crc32(body) ^ 1))
    yield "tend-crc", "the CRC-32 of the file is wrong, TEND's own is right", kind, body + wrong
    yield "tend-long", "TEND of 5 bytes", kind, body + framed(b"TEND", struct.pack(">I", zlib.crc32(body)) + b"\0")
    yield "chunk-type", "a chunk type with a digit", kind, with_chunk(base, b"nOT3", b"")
    yield "later-major", "version 2.0", "unsupported", join(split(base), major=2)
    yield "major-0", "version 0.0", "unsupported", join(split(base), major=0)
    many = [(b"nOTe", b"")] * 1022
    yield "too-many-chunks", "1025 chunks, TEND included", "limit", join([*split(base), *many])


def _chunks(base: bytes, rgba: bytes) -> Iterator[Case]:
    head, data = split(base)
    kind = "corrupt"
    yield "no-head", "DATA only", kind, join([data])
    yield "head-second", "an ancillary chunk before HEAD", kind, join([(b"nOTe", b""), head, data])
    yield "no-data", "HEAD only", kind, join([head])
    yield "two-heads", "HEAD twice", kind, join([head, head, data])
    yield "two-datas", "DATA twice", kind, join([head, data, data])
    text = (b"tEXt", stored(b"a\0b"))
    yield "two-texts", "tEXt twice", kind, join([head, text, text, data])
    yield "alpha-unasked", "ALPH in a file of mode RGB", kind, with_chunk(base, b"ALPH", b"\0\xff")
    without = [chunk for chunk in split(rgba) if chunk[0] != b"ALPH"]
    yield "alpha-missing", "mode RGBA without ALPH", kind, join(without)
    yield "unknown-critical", "an unknown critical chunk", "unsupported", with_chunk(base, b"NOTe", b"")


def _heads(base: bytes) -> Iterator[Case]:
    head, data = split(base)
    yield "head-short", "HEAD of 41 bytes", "corrupt", join([(head[0], head[1][:41]), data])
    for name, what, kind, at, value in (
        ("width-0", "no columns", "corrupt", 0, struct.pack(">I", 0)),
        ("height-huge", "2^24 + 1 rows", "corrupt", 4, struct.pack(">I", (1 << 24) + 1)),
        ("pixels-beyond-limit", "16384 x 16384 pixels", "limit", 0, struct.pack(">II", 1 << 14, 1 << 14)),
        (
            "pixels-within-limit",
            "11585 x 11585 pixels, 83 bytes of symbols",
            "corrupt",
            0,
            struct.pack(">II", 11585, 11585),
        ),
        ("later-mode", "mode 6", "unsupported", 8, b"\x06"),
        ("depth", "mode RGB of depth 16", "corrupt", 9, b"\x10"),
        ("later-kind", "payload kind 1", "unsupported", 10, b"\x01"),
        ("unknown-model", "a digest of no model", "unsupported", 11, bytes(range(16))),
        ("later-arithmetic", "arithmetic 2", "unsupported", 27, b"\x02"),
        ("later-coder", "coder 2", "unsupported", 28, b"\x02"),
        ("quality-low", "quality 0.999", "corrupt", 29, struct.pack(">H", 999)),
        ("quality-high", "quality 7.001", "corrupt", 29, struct.pack(">H", 7001)),
        ("transformed-2", "transformed is 2", "corrupt", 31, b"\x02"),
        ("transformed-0", "not transformed, by transform 4", "corrupt", 31, b"\x00"),
        ("transform-0", "transformed, by transform 0", "corrupt", 32, b"\x00"),
        ("later-transform", "transform 5", "unsupported", 32, b"\x05"),
        ("ways-0", "no encoding was tried", "corrupt", 37, b"\x00"),
        ("symbols-crc", "the CRC-32 of the symbols is wrong", "corrupt", 38, b"\0\0\0\0"),
    ):
        yield name, what, kind, with_head(base, at, value)


def _symbols(base: bytes) -> Iterator[Case]:
    """DATA that an attacker made, with every CRC-32 of a chunk and of the file right again."""
    kind = "corrupt"
    data = dict(split(base))[b"DATA"]

    def made(payload: bytes) -> bytes:
        return with_chunk(base, b"DATA", payload)

    yield "data-flip", "one bit of DATA flipped", kind, made(patched(data, 40, bytes([data[40] ^ 1])))
    yield "data-cut", "the second half of DATA is missing", kind, made(data[:41])
    yield (
        "data-none",
        "DATA of 0 bytes, for 7 x 5 positions of z",
        kind,
        with_head(made(b""), 0, struct.pack(">II", 300, 400)),
    )
    yield "data-extra-word", "4 bytes more in DATA", kind, made(data + bytes(4) + b"\x01\x02\x03\x04")
    yield "data-extra-zeros", "zeros behind DATA that no encoder writes, 16 bytes", kind, made(data + bytes(16))
    yield "data-ones", "DATA of ones: a quantile of 2^24", kind, made(b"\xff" * 83)
    entropy, ours = codec.model.family.entropy, codec.decode_symbols(base)
    z = ours.z.clone()
    z[5, 0, 0] = 1024
    levels, means = entropy._parameters(z.double(), 1, 1)
    beyond = replace(ours, z=z, levels=levels, y_hat=ours.y.float() + means)
    yield "z-1024", "a symbol of z of 1024, with its right checksum", kind, with_symbols(base, beyond)
    y = ours.y.clone()
    y[7, 0, 0] = -32768
    yield "y-32768", "a symbol of y of -32768, with its right checksum", kind, with_symbols(base, replace(ours, y=y))


def _carried(base: bytes, rgba: bytes) -> Iterator[Case]:
    kind = "corrupt"
    rows = bytes(9 * 21)
    for name, what, payload in (
        ("alpha-bomb", "ALPH that inflates to 4 MiB instead of 189 bytes", alpha_png(20, 9, bytes(1 << 22))),
        ("alpha-size", "ALPH of 9 x 20 instead of 20 x 9 pixels", alpha_png(9, 20, bytes(10 * 20))),
        ("alpha-filter", "ALPH with the PNG filter 5", alpha_png(20, 9, b"\x05" + rows[1:])),
        ("alpha-method", "ALPH of method 2", b"\x02\xff"),
        ("alpha-empty", "ALPH of 0 bytes", b""),
        ("alpha-behind", "a byte behind the PNG of ALPH", alpha_png(20, 9, rows) + b"\0"),
        ("alpha-zlib-behind", "a byte behind the zlib stream of ALPH", alpha_png(20, 9, rows, b"\0")),
    ):
        yield name, what, kind, with_chunk(rgba, b"ALPH", payload)
    for name, what, refusal, chunk, payload in (
        ("icc-bomb", "iCCP that inflates to 4 MiB and says 1000 bytes", kind, b"iCCP", packed(bytes(1 << 22), 1000)),
        ("icc-limit", "iCCP that says 2^24 + 1 bytes", "limit", b"iCCP", packed(bytes(1000), (1 << 24) + 1)),
        ("icc-short", "iCCP that inflates to less than it says", kind, b"iCCP", packed(bytes(999), 1000)),
        ("icc-behind", "a byte behind the zlib stream of iCCP", kind, b"iCCP", packed(bytes(99)) + b"\0"),
        ("exif-method", "eXIf of method 2", kind, b"eXIf", b"\x02\0\0\0\x02II"),
        ("xmp-4-bytes", "xMPd of 4 bytes", kind, b"xMPd", bytes(4)),
        ("text-odd", "tEXt of three parts", kind, b"tEXt", stored(b"a\0b\0c")),
        ("text-latin-1", "tEXt that is not UTF-8", kind, b"tEXt", stored(b"a\0\xe4")),
    ):
        yield name, what, refusal, with_chunk(base, chunk, payload)


# --- The folder --------------------------------------------------------------------------------------------------


def write(path: Path, data: bytes) -> None:
    """FileExistsError rather than overwrite."""
    with path.open("xb") as file:
        file.write(data)


def refuse_to_overwrite(folder: Path) -> None:
    """SystemExit if golden files are there."""
    if (folder / "manifest.json").exists() or (folder / "valid").exists() or (folder / "malformed").exists():
        raise SystemExit(f"{folder} holds golden files, which are never made again; name a new folder to make others")


def main(folder: Path) -> None:
    """Write valid/, malformed/ and manifest.json."""
    refuse_to_overwrite(folder)
    for part in ("valid", "malformed"):
        (folder / part).mkdir(parents=True)
    good = [describe(name, what, data, folder / "valid") for name, what, data in valid()]
    bad = []
    for name, what, kind, data in malformed():
        write(folder / "malformed" / f"{name}.twc", data)
        entry = {"file": f"malformed/{name}.twc", "sha256": hashlib.sha256(data).hexdigest(), "what": what}
        bad.append({**entry, "kind": kind, "exit_code": EXIT_CODES[kind]})
    manifest = {"format": "TWC 1.0", "model": model.digest.hex(), "valid": good, "malformed": bad}
    write(folder / "manifest.json", (json.dumps(manifest, indent=1, ensure_ascii=False) + "\n").encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
