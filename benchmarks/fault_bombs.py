"""Files of 200 bytes that claim gigabytes: how long, and how much memory, it takes to refuse them."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from fault_place import TWC

from twcodec.container import Container, Header
from twcodec.container.chunks import join
from twcodec.models import catalogue

BYTES, SECONDS, MEGABYTES = 200, 0.3, 150
"""Of a file; and the bars."""

RUNS = 5
MOST = 11585
"""A side of the largest square that the default limit of pixels allows."""

REFUSALS = range(1, 10)
TRUSTED = ("--max-pixels", str(1 << 48))
"""Of a user who trusts a file's size."""


def twc_bombs() -> dict[str, bytes]:
    """Checksums are right: an attacker makes them so."""
    head = Header(65535, 65535, "RGB", catalogue.EMBEDDED[0].digest, 4.0, 1)
    flat = replace(head, width=MOST, height=MOST)
    alpha, avif = replace(flat, mode="RGBA"), replace(flat, kind=1, digest=bytes(16), quality=0.0)
    data = os.urandom(60)
    huge = bytearray(Container(flat, data).to_bytes())
    huge[64:68] = b"\xff\xff\xff\xff"  # the length of DATA
    metadata = struct.pack(">BI", 1, 1 << 24) + zlib.compress(bytes(20_000), 9)
    found = {
        "65535x65535": Container(head, data).to_bytes(),
        "2^24 x 2^24": Container(replace(head, width=1 << 24, height=1 << 24), data).to_bytes(),
        "2^24 x 8": Container(replace(head, width=1 << 24, height=8), data).to_bytes(),
        "65535x65535 with alpha": Container(replace(alpha, width=65535, height=65535), data, b"\0\xff").to_bytes(),
        "within the limit": Container(flat, data).to_bytes(),
        "within the limit, with alpha": Container(alpha, data, b"\0\xff").to_bytes(),
        "within the limit, of no model": Container(replace(flat, digest=bytes(16)), data).to_bytes(),
        "within the limit, AVIF": Container(avif, data).to_bytes(),
        "within the limit, AVIF and alpha": Container(replace(avif, mode="RGBA"), data, b"\0\xff").to_bytes(),
        "a chunk of 4 GB": bytes(huge),
        "metadata of 16 MB": Container(flat, data[:30], ancillary=((b"eXIf", metadata),)).to_bytes(),
        "eleven empty chunks": join([(b"HEAD", flat.to_bytes()), *[(b"aaaa", b"")] * 8, (b"DATA", b"")]),
    }
    for entry in catalogue.EMBEDDED:
        found[f"within the limit, {entry.name}"] = Container(replace(flat, digest=entry.digest), data).to_bytes()
    return found


def png(width: int, height: int, depth: int = 8, colour: int = 2, interlaced: int = 0) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    rows = zlib.compress(bytes(100_000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def picture_bombs() -> dict[str, bytes]:
    """Not those that are what they claim: a picture of one colour may be small and large at once."""
    side = struct.pack("<H", MOST)
    bmp = struct.pack("<IHHIIiiHHIIiiII", 154, 0, 0, 54, 40, MOST, MOST, 1, 24, 0, 100, 0, 0, 0, 0)
    return {
        "65535x65535.png": png(65535, 65535),
        "2^31 x 2^31.png": png((1 << 31) - 1, (1 << 31) - 1),
        "within the limit.png": png(MOST, MOST),
        "within the limit, 16 bits, alpha.png": png(MOST, MOST, 16, 6),
        "within the limit, interlaced.png": png(MOST, MOST, 8, 2, 1),
        "within the limit.ppm": b"P6 %d %d 255\n" % (MOST, MOST) + bytes(100),
        "within the limit.bmp": b"BM" + bmp + bytes(100),
        "within the limit.gif": b"GIF89a"
        + side * 2
        + b"\xf0\0\0"
        + bytes(6)
        + b",\0\0\0\0"
        + side * 2
        + b"\0\2\2\x44\1\0;",
        "within the limit.tga": struct.pack("<BBBHHBHHHHBB", 0, 0, 10, 0, 0, 0, 0, 0, MOST, MOST, 24, 0)
        + b"\xff\1\2\3" * 30,
    }


def run(line: list[str]) -> tuple[float, float, float, int]:
    """Seconds, those of processors, megabytes at the peak, and the exit code."""
    start = time.perf_counter()
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - start
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e6, process.returncode


def commands(name: str, path: str, out: str) -> dict[str, list[str]]:
    """What such a file can be given to."""
    if "." in name:
        return {"encode": ["encode", "-f", path, out + ".twc"]}
    return {
        "decode": ["decode", "-f", path, out + ".png"],
        "decode, any size": ["decode", "-f", *TRUSTED, path, out + ".png"],
        "verify": ["verify", path],
        "verify, any size": ["verify", *TRUSTED, path],
        "info": ["info", path],
    }


def measured() -> dict[str, Any]:
    """The quickest of some runs, since others may use the machine meanwhile; of memory the most."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="bombs-") as folder:
        for name, data in {**twc_bombs(), **picture_bombs()}.items():
            assert len(data) <= BYTES, (name, len(data))
            path = Path(folder) / name.replace("/", " ")
            path.write_bytes(data)
            for command, line in commands(name, str(path), f"{folder}/out").items():
                runs = [run([TWC, *line]) for _ in range(RUNS)]
                row = {"file": name, "bytes": len(data), "command": command, "exit code": runs[0][3]}
                seconds = {"seconds": min(r[0] for r in runs), "of processors": min(r[1] for r in runs)}
                rows.append({**row, **seconds, "MB": max(r[2] for r in runs)})
                rows[-1] |= {k: round(v, 3) for k, v in rows[-1].items() if isinstance(v, float)}
                print(rows[-1], file=sys.stderr, flush=True)
        written = [p.name for p in Path(folder).iterdir() if p.name.startswith(("out", ".twc-"))]
    return {**judged(rows), "written": written, "runs of each": RUNS, "rows": rows}


def judged(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """`info` shows what a header claims, and has no need to refuse it."""
    worst = {"seconds": max(row["seconds"] for row in rows), "MB": max(row["MB"] for row in rows)}
    refused = all(row["exit code"] in REFUSALS for row in rows if row["command"] != "info")
    holds = refused and worst["seconds"] < SECONDS and worst["MB"] < MEGABYTES
    return {"worst": worst, "bars": {"seconds": SECONDS, "MB": MEGABYTES}, "all refused": refused, "holds": holds}


def table(found: dict[str, Any]) -> str:
    lines = ["| command | files | worst seconds | worst MB |", "|---|---|---|---|"]
    for command in dict.fromkeys(row["command"] for row in found["rows"]):
        own = [row for row in found["rows"] if row["command"] == command]
        lines.append(f"| {command} | {len(own)} | {max(r['seconds'] for r in own)} | {max(r['MB'] for r in own)} |")
    return "\n".join([*lines, f"\nholds: {found['holds']}, all refused: {found['all refused']}"])
