"""Try the golden files on any decoder, whatever it is written in:

    python formats/vectors/run.py -- twc decode {in} {out}
    python formats/vectors/run.py --symbols 'python formats/vectors/twc_symbols.py {in}' -- twc decode {in} {out}

{in} is a TWC file, {out} the name of a PNG that the command writes, at the picture's own mode and depth. The command
ends with 0, or refuses the file with the exit code of the manifest and leaves nothing at {out}. --symbols names a
command that prints the SHA-256 of a file's symbols (README.md says of which bytes); without it level A is not shown.

Prints a line for each file and exits with 0 if the decoder passes, 1 if it does not, 2 if it cannot be tried or nothing
was shown of it. Needs nothing but Python 3.10 and knows nothing of twcodec.
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import json
import math
import shlex
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
UNSUPPORTED = 5
Entry = dict[str, Any]


@dataclass(frozen=True)
class Verdict:
    """Of one file at one level. passed: None if nothing was shown either way. what: in a few words."""

    level: str
    file: str
    passed: bool | None
    what: str


# --- PNG -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Samples:
    """A picture. rows: row by row, the samples of each from the left, the channels of a pixel beside each other."""

    width: int
    height: int
    depth: int
    channels: int
    rows: list[list[int]]


CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}
"""By PNG's colour types: grey, colour, grey and alpha, colour and alpha. There is no palette in the golden files."""


def read_png(data: bytes) -> Samples:
    """ValueError: no PNG, or one of a kind that no golden file needs."""
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        raise ValueError("no PNG")
    parts = list(_png_chunks(data))
    width, height, depth, colour, _, _, interlaced = struct.unpack(">II5B", parts[0][1])
    if colour not in CHANNELS or depth not in (1, 8, 16) or interlaced:
        raise ValueError(f"a PNG of colour type {colour}, depth {depth}, interlace {interlaced}")
    lines = zlib.decompress(b"".join(body for kind, body in parts if kind == b"IDAT"))
    size = -(-width * CHANNELS[colour] * depth // 8)
    if len(lines) != height * (size + 1):
        raise ValueError("a PNG of another length")
    unpack = UNPACK[depth]
    rows = [unpack(row)[: width * CHANNELS[colour]] for row in _unfiltered(lines, size, CHANNELS[colour] * depth)]
    return Samples(width, height, depth, CHANNELS[colour], rows)


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        yield data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        at += 12 + length


def _bits(row: bytes) -> list[int]:
    return [byte >> shift & 1 for byte in row for shift in range(7, -1, -1)]


def _words(row: bytes) -> list[int]:
    return [256 * high + low for high, low in zip(row[::2], row[1::2], strict=True)]


UNPACK: dict[int, Callable[[bytes], list[int]]] = {1: _bits, 8: lambda row: list(row), 16: _words}
"""The samples in a row's bytes, by depth."""


def _unfiltered(lines: bytes, size: int, bits: int) -> Iterator[bytes]:
    """The bytes of each row (PNG, section 9). bits: of a pixel."""
    back, above = max(bits // 8, 1), bytes(size)
    for start in range(0, len(lines), size + 1):
        method, line = lines[start], bytearray(lines[start + 1 : start + 1 + size])
        for x in range(size):
            a, c = (line[x - back], above[x - back]) if x >= back else (0, 0)
            b = above[x]
            line[x] = (line[x] + (0, a, b, (a + b) // 2, _paeth(a, b, c))[method]) & 255
        above = bytes(line)
        yield above


def _paeth(a: int, b: int, c: int) -> int:
    p = a + b - c
    return min((a, b, c), key=lambda n: abs(p - n))  # the first of those that are equally near


# --- The levels ----------------------------------------------------------------------------------------------------


def difference(found: Samples, expected: Samples, peak: int, rms: float) -> str:
    """What is wrong with a picture; nothing if it is within the bounds. Alpha must be the same."""
    for name in ("width", "height", "depth", "channels"):
        if getattr(found, name) != getattr(expected, name):
            return f"{name} {getattr(found, name)}, {getattr(expected, name)} was expected"
    pairs = [zip(*rows, strict=True) for rows in zip(found.rows, expected.rows, strict=True)]
    off = [[abs(ours - theirs) for ours, theirs in row] for row in pairs]
    if expected.channels in (2, 4):
        if any(any(row[expected.channels - 1 :: expected.channels]) for row in off):
            return "alpha differs"
        off = [[error for i, error in enumerate(row, 1) if i % expected.channels] for row in off]
    errors = [error for row in off for error in row]
    most, mean = max(errors), math.sqrt(sum(error * error for error in errors) / len(errors))
    if most > peak or mean > rms:
        return f"off by {most} at most, {mean:.3f} on average (RMS); {peak} and {rms} are allowed"
    return ""


@dataclass(frozen=True)
class Runner:
    """A decoder and how it is asked."""

    decoder: list[str]
    symbols: list[str]
    any_failure: bool
    no_avif: bool
    timeout: float

    def called(self, command: list[str], file: str, out: Path) -> tuple[int | str, str]:
        """Exit code, or what happened instead; and standard output."""
        places = {"{in}": str(HERE / file), "{out}": str(out)}
        words = []
        for word in command:
            for place, path in places.items():
                word = word.replace(place, path)
            words.append(word)
        try:
            done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=self.timeout)
        except subprocess.TimeoutExpired:
            return f"not done after {self.timeout:g} s", ""
        return done.returncode, done.stdout.decode(errors="replace")

    def level_a(self, entry: Entry) -> Verdict:
        """The symbols; of an AVIF payload there are none, and its samples are level B's."""
        if not self.symbols or "symbols" not in entry:
            return Verdict("A", entry["file"], None, "no symbols" if self.symbols else "not shown: no --symbols")
        with tempfile.TemporaryDirectory() as folder:
            code, printed = self.called(self.symbols, entry["file"], Path(folder) / "out.png")
        right = code == 0 and entry["symbols"]["sha256"] in printed.split()
        said = printed.strip()[:64] or f"exit code {code}"
        return Verdict("A", entry["file"], right, "" if right else f"{said}; not the symbols of the manifest")

    def level_b(self, entry: Entry) -> Verdict:
        """The pixels."""
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "out.png"
            code, _ = self.called(self.decoder, entry["file"], out)
            wrong = self._not_the_pixels(entry, code, out)
        return Verdict("B", entry["file"], not wrong, wrong)

    def _not_the_pixels(self, entry: Entry, code: int | str, out: Path) -> str:
        if code != 0:
            return f"refused a sound file ({code})" if isinstance(code, int) else code
        if not out.is_file():
            return "no picture was written"
        try:
            found = read_png(out.read_bytes())
        except (ValueError, struct.error, zlib.error, IndexError) as error:
            return f"unreadable: {error}"
        bounds = entry["pixels"]
        return difference(found, read_png((HERE / bounds["file"]).read_bytes()), bounds["peak"], bounds["rms"])

    def level_c(self, entry: Entry) -> Verdict:
        """The refusal. Without AV1 a decoder refuses the files of payload kind 1 as unsupported, sound or not."""
        expected = UNSUPPORTED if self._beyond_it(entry) else entry["exit_code"]
        with tempfile.TemporaryDirectory() as folder:
            code, _ = self.called(self.decoder, entry["file"], Path(folder) / "out.png")
            left = [path.name for path in Path(folder).iterdir()]
        if not isinstance(code, int):
            wrong = code
        elif code == 0:
            wrong = f"accepted; {entry.get('kind', 'unsupported')} was expected"
        elif code < 0 or (code != expected and not self.any_failure):
            wrong = f"ended with {code}, {expected} was expected"
        else:
            wrong = f"left {', '.join(left)} behind" if left else ""
        return Verdict("C", entry["file"], not wrong, wrong)

    def _beyond_it(self, entry: Entry) -> bool:
        return self.no_avif and entry.get("payload") == "avif"

    def tasks(self, manifest: Entry, levels: str) -> Iterator[tuple[Callable[[Entry], Verdict], Entry]]:
        """Every test that these levels mean."""
        for entry in manifest["valid"]:
            if self._beyond_it(entry):
                yield from [(self.level_c, entry)] * ("C" in levels)
                continue
            yield from [(self.level_a, entry)] * ("A" in levels)
            yield from [(self.level_b, entry)] * ("B" in levels and "pixels" in entry)
        for entry in manifest["malformed"]:
            yield from [(self.level_c, entry)] * ("C" in levels)


# --- The command ---------------------------------------------------------------------------------------------------


def chosen(manifest: Entry, patterns: list[str]) -> Entry:
    """The manifest with those files only whose names match one of the patterns; all, if there is none."""

    def wanted(entry: Entry) -> bool:
        return not patterns or any(fnmatch.fnmatch(entry["file"], pattern) for pattern in patterns)

    return {kind: [entry for entry in manifest[kind] if wanted(entry)] for kind in ("valid", "malformed")}


def damaged(manifest: Entry) -> list[str]:
    """Golden files that are not what the manifest says: then nothing is shown by them."""
    entries = [*manifest["valid"], *manifest["malformed"]]
    return [e["file"] for e in entries if hashlib.sha256((HERE / e["file"]).read_bytes()).hexdigest() != e["sha256"]]


def report(verdicts: list[Verdict], quiet: bool) -> int:
    """Print the table and the sums; the exit code."""
    marks = {True: "pass", False: "FAIL", None: "-"}
    for verdict in verdicts:
        if not quiet or verdict.passed is False:
            print(f"{verdict.level}  {verdict.file:36} {marks[verdict.passed]:5} {verdict.what}".rstrip())
    for level in "ABC":
        of_it = [verdict.passed for verdict in verdicts if verdict.level == level]
        counts = f"{of_it.count(True)} passed, {of_it.count(False)} failed, {of_it.count(None)} not shown"
        print(f"level {level}: {counts}")
    found = {verdict.passed for verdict in verdicts}
    if found == {None}:
        print("nothing was shown of the decoder", file=sys.stderr)
        return 2
    return 1 if False in found else 0


def parsed(arguments: list[str]) -> argparse.Namespace:
    usage = "run.py [options] -- DECODER {in} {out}"
    parser = argparse.ArgumentParser(usage=usage, description="Try the golden files on a decoder.")
    parser.add_argument("decoder", nargs="+", help="the command, with {in} and {out} in it")
    parser.add_argument("--symbols", default="", help="a command that prints the SHA-256 of the symbols of {in}")
    parser.add_argument("--levels", help="which levels, such as AC; default: ABC")
    parser.add_argument("--any-failure", action="store_true", help="level C: every exit code but 0 will do")
    parser.add_argument("--no-avif", action="store_true", help="the decoder refuses payload kind 1 (twc-1.md, 3.2)")
    parser.add_argument("--only", action="append", default=[], metavar="GLOB", help="such as 'malformed/icc-*'")
    parser.add_argument("--jobs", type=int, default=1, help="how many commands at once; default: 1")
    parser.add_argument("--timeout", type=float, default=60, help="seconds for a command; default: 60")
    parser.add_argument("--quiet", action="store_true", help="print failures and sums only")
    options = parser.parse_args(arguments)
    if not all(any(place in word for word in options.decoder) for place in ("{in}", "{out}")):
        parser.error("the decoder's command needs {in} and {out}")
    if options.symbols and "{in}" not in options.symbols:
        parser.error("the command of --symbols needs {in}")
    if options.levels is None:
        options.levels = "ABC"
    elif not options.levels or set(options.levels) - set("ABC"):
        parser.error("--levels: A, B and C are possible")
    elif "A" in options.levels and not options.symbols:
        parser.error(f"--levels {options.levels} needs --symbols, a command for level A")
    if options.jobs < 1:
        parser.error("--jobs: 1 or more")
    return options


def main(arguments: list[str]) -> int:
    options = parsed(arguments)
    manifest = chosen(json.loads((HERE / "manifest.json").read_text(encoding="utf-8")), options.only)
    if broken := damaged(manifest):
        print(f"not the golden files of the manifest: {', '.join(broken)}", file=sys.stderr)
        return 2
    symbols = shlex.split(options.symbols)
    runner = Runner(options.decoder, symbols, options.any_failure, options.no_avif, options.timeout)
    tasks = list(runner.tasks(manifest, options.levels))
    if not tasks:
        print("no golden file is meant by --only and --levels", file=sys.stderr)
        return 2
    try:
        with ThreadPoolExecutor(options.jobs) as pool:
            verdicts = list(pool.map(lambda task: task[0](task[1]), tasks))
    except OSError as error:
        print(f"the command cannot be started: {error}", file=sys.stderr)
        return 2
    return report(verdicts, options.quiet)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
