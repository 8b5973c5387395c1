"""formats/vectors/run.py: it passes twc, and a decoder with any one fault fails by it.

The faulty ones are scripts that know the golden files by heart and do one thing wrong: a process each, without torch.
"""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "formats" / "vectors"
TWC = str(Path(sys.executable).with_name("twc"))
SUBSET = ["valid/rgb-1x1*", "valid/lapped-rgba*", "valid/guard-rgba*", "malformed/guard-range*", "malformed/empty*"]
SUBSET += ["malformed/flip-data*", "malformed/later-major*", "malformed/icc-limit*", "malformed/symbols-crc*"]

KNOWING = """
import json, shutil, sys
from pathlib import Path
folder, source, target = Path(FOLDER), sys.argv[1], sys.argv[2]
name = "/".join(Path(source).parts[-2:])
manifest = json.loads((folder / "manifest.json").read_text())
entry = {e["file"]: e for e in manifest["valid"] + manifest["malformed"]}[name]

def show():
    shutil.copy(folder / entry["pixels"]["file"], target)

def changed(change):
    import numpy as np
    from PIL import Image
    with Image.open(folder / entry["pixels"]["file"]) as image:
        samples = change(np.asarray(image).copy())
    Image.fromarray(samples).save(target)
"""
"""A decoder's beginning. What follows it decides what it does."""

RIGHT = "\nif 'exit_code' in entry: sys.exit(entry['exit_code'])\nshow()"

SYMBOLS = (
    "import json, sys\nfrom pathlib import Path\nfolder = Path(FOLDER)\n"
    "entries = json.loads((folder / 'manifest.json').read_text())['valid']\n"
    "print({Path(e['file']).name: e for e in entries}[Path(sys.argv[1]).name]['symbols']['sha256'])"
)

FAULTS = {
    "adds three levels": ("if name.startswith('valid'): changed(lambda a: a // 2 + 3); sys.exit()" + RIGHT, "B"),
    "rounds down": ("def cut(a): a[::2] -= a[::2] > 0; return a\nif entry.get('mode') == 'RGB': changed(cut); sys.exit()" + RIGHT, "B"),
    "touches alpha": ("def veil(a): a[0, 0, -1] ^= 1; return a\nif entry.get('mode') == 'RGBA': changed(veil); sys.exit()" + RIGHT, "B"),
    "crops": ("if name.startswith('valid'): changed(lambda a: a[:, :-1]); sys.exit()" + RIGHT, "B"),
    "writes eight bits of sixteen": ("if entry.get('mode') == 'I;16': changed(lambda a: (a >> 8).astype('uint8')); sys.exit()" + RIGHT, "B"),
    "writes no PNG": ("if name.startswith('valid'): Path(target).write_bytes(b'P6'); sys.exit()" + RIGHT, "B"),
    "writes nothing": ("if name.startswith('valid'): sys.exit()" + RIGHT, "B"),
    "refuses a later minor version": ("if 'later-minor' in name: sys.exit(5)" + RIGHT, "B"),
    "accepts one malformed file": ("if 'symbols-crc' in name: Path(target).write_bytes(b'x'); sys.exit()" + RIGHT, "C"),
    "leaves half a picture": ("if 'symbols-crc' in name: Path(target).write_bytes(b'x')" + RIGHT, "C"),
    "leaves half a picture elsewhere": ("if 'symbols-crc' in name: Path(target + '.part').write_bytes(b'x')" + RIGHT, "C"),
    "crashes": ("import os, signal\nif 'alpha-bomb' in name: os.kill(os.getpid(), signal.SIGKILL)" + RIGHT, "C"),
    "hangs": ("import time\nif 'alpha-bomb' in name: time.sleep(600)" + RIGHT, "C"),
    "calls everything corrupt": ("if 'exit_code' in entry: sys.exit(4)" + RIGHT, "C"),
}  # fmt: skip
SOME = ["*/rgb-40x17*", "*/i16*", "*/rgba-24x33*", "*/later-m*", "*/symbols-crc*", "*/alpha-bomb*", "*/magic-png*"]


@pytest.fixture(scope="module")
def run():
    return runpy.run_path(str(FOLDER / "run.py"), run_name="run")


@pytest.fixture
def script(tmp_path):
    """The command of a script."""

    def written(name: str, text: str) -> str:
        (tmp_path / name).write_text(text.replace("FOLDER", repr(str(FOLDER))))
        return str(tmp_path / name)

    return written


def failed(printed: str) -> list[str]:
    return re.findall(r"^([ABC])  \S+ +FAIL", printed, re.MULTILINE)


def only(patterns: list[str]) -> list[str]:
    return [word for pattern in patterns for word in ("--only", pattern)]


def test_twc_passes(run, capsys):
    symbols = f"{sys.executable} {FOLDER / 'twc_symbols.py'} {{in}}"
    options = [*only(SUBSET), "--symbols", symbols, "--jobs", "2", "--timeout", "600"]
    assert run["main"]([*options, "--", TWC, "decode", "{in}", "{out}"]) == 0, capsys.readouterr().out
    sums = re.findall(r"level (\w): (\d+) passed, (\d+) failed, (\d+) not shown", capsys.readouterr().out)
    assert sums == [("A", "2", "0", "1"), ("B", "3", "0", "0"), ("C", "6", "0", "0")]


def test_a_decoder_that_knows_every_file_by_heart_passes_everything(run, script, capsys):
    decoder, symbols = script("decoder.py", KNOWING + RIGHT), script("symbols.py", SYMBOLS)
    options = ["--jobs", "2", "--symbols", f"{sys.executable} {symbols} {{in}}"]
    assert run["main"]([*options, "--", sys.executable, decoder, "{in}", "{out}"]) == 0
    assert "level A: 33 passed, 0 failed, 3 not shown" in capsys.readouterr().out


@pytest.mark.parametrize("fault", FAULTS)
def test_a_decoder_with_one_fault_fails_by_it(run, script, capsys, fault):
    text, level = FAULTS[fault]
    decoder = script("decoder.py", KNOWING + text)
    options = [*only(SOME), "--timeout", "600"] if fault != "hangs" else [*only(["*/alpha-bomb*"]), "--timeout", "1"]
    assert run["main"]([*options, "--jobs", "2", "--", sys.executable, decoder, "{in}", "{out}"]) == 1
    assert set(failed(capsys.readouterr().out)) == {level}


def test_any_failure_asks_for_a_refusal_and_not_for_its_code(run, script, capsys):
    command = [sys.executable, script("decoder.py", KNOWING + FAULTS["calls everything corrupt"][0]), "{in}", "{out}"]
    assert run["main"]([*only(SOME), "--any-failure", "--", *command]) == 0
    command[1] = script("decoder.py", KNOWING + FAULTS["accepts one malformed file"][0])
    assert run["main"]([*only(SOME), "--any-failure", "--", *command]) == 1


def test_other_symbols_fail_level_a(run, script, capsys):
    symbols = script("symbols.py", "print('0' * 64)")
    command = [sys.executable, script("decoder.py", KNOWING + RIGHT), "{in}", "{out}"]
    options = ["--symbols", f"{sys.executable} {symbols} {{in}}", "--levels", "AB", *only(SOME)]
    assert run["main"]([*options, "--", *command]) == 1
    assert set(failed(capsys.readouterr().out)) == {"A"}


def test_without_av1_the_files_of_payload_kind_1_are_refused_as_unsupported(run, script, capsys):
    none = "if entry.get('payload') == 'avif': sys.exit(5)"
    command = [sys.executable, script("decoder.py", KNOWING + none + RIGHT), "{in}", "{out}"]
    assert run["main"](["--only", "*/guard-*", "--no-avif", "--jobs", "2", "--", *command]) == 0
    assert run["main"](["--only", "valid/guard-*", "--", *command]) == 1
    command[1] = script("decoder.py", KNOWING + RIGHT)
    assert run["main"](["--only", "valid/guard-*", "--no-avif", "--", *command]) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["--", "twc", "decode", "{in}"],
        ["--levels", "X", "--", "twc", "{in}", "{out}"],
        ["--symbols", "twc", "--", "twc", "{in}", "{out}"],
        ["--only", "nothing", "--", "twc", "{in}", "{out}"],
        ["--levels", "A", "--", "false", "{in}", "{out}"],
        ["--levels", "", "--", "twc", "{in}", "{out}"],
        ["--levels", "A", "--symbols", "twc {in}", "--only", "valid/guard-*", "--", "twc", "{in}", "{out}"],
        ["--jobs", "0", "--", "twc", "{in}", "{out}"],
        ["--only", "*/empty*", "--", "/nowhere/decoder", "{in}", "{out}"],
    ],
)
def test_what_cannot_be_tried_ends_with_2(run, arguments, capsys):
    try:
        code = run["main"](arguments)
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    assert capsys.readouterr().err


def test_golden_files_that_were_changed_show_nothing(run, capsys, monkeypatch, tmp_path):
    (tmp_path / "valid").mkdir()
    (tmp_path / "valid" / "a.twc").write_bytes(b"other")
    (tmp_path / "manifest.json").write_text('{"valid": [{"file": "valid/a.twc", "sha256": "00"}], "malformed": []}')
    monkeypatch.setitem(run["main"].__globals__, "HERE", tmp_path)
    assert run["main"](["--", "decoder", "{in}", "{out}"]) == 2
    assert "valid/a.twc" in capsys.readouterr().err


def test_its_png_reader_reads_what_pillow_writes(run, astronaut, tmp_path):
    import numpy as np
    from PIL import Image

    for mode in ("1", "L", "LA", "RGB", "RGBA", "I;16"):
        samples = astronaut[:37, :41] if mode != "I;16" else astronaut[:37, :41, 0].astype(np.uint16) * 250
        image = Image.fromarray(samples) if mode == "I;16" else Image.fromarray(samples).convert(mode)
        image.save(tmp_path / "a.png")
        found = run["read_png"]((tmp_path / "a.png").read_bytes())
        assert (found.width, found.height) == (41, 37)
        assert np.array_equal(np.array(found.rows), np.asarray(image).reshape(37, -1))


def test_it_needs_nothing_but_python():
    code = f"import runpy; runpy.run_path({str(FOLDER / 'run.py')!r})"
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True)
