"""What is for people to read: tables, versions, and colour where a terminal can show it."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from importlib import metadata

import pytest

import twcodec
from twcodec.container import Container
from twcodec.models import catalogue


def test_info_lists_every_chunk_in_the_order_of_the_file(twc, coded):
    container = Container.from_bytes(coded.read_bytes())
    more = Container(container.header, container.data, None, ((b"tEXt", b"k\0v"), (b"xtRa", b"12345")))
    coded.write_bytes(more.to_bytes())
    layout = json.loads(twc("info", "--json", coded).out)["layout"]
    assert [chunk["type"] for chunk in layout] == ["HEAD", "tEXt", "xtRa", "DATA", "TEND"]
    assert [chunk["bytes"] for chunk in layout] == [42, 3, 5, len(container.data), 4]
    assert [chunk["critical"] for chunk in layout] == [True, False, False, True, True]
    lines = twc("info", coded).out.decode().splitlines()
    assert [line.split()[0] for line in lines[-5:]] == [chunk["type"] for chunk in layout]
    assert lines[-3].split() == ["xtRa", "5", "ancillary"]
    assert {len(line.rstrip("acilnrty").rstrip()) for line in lines[-5:]} == {len("  chunk  bytes")}


def test_info_shows_what_was_drawn(twc, photo, tmp_path):
    twc("encode", "--transforms", "flip-turn-shift", "--transform", "always", "--seed", 3, photo, tmp_path / "a.twc")
    found = json.loads(twc("info", "--json", tmp_path / "a.twc").out)
    rows = dict(line.strip().split("  ", 1) for line in twc("info", tmp_path / "a.twc").out.decode().splitlines()[1:11])
    rows = {key: value.strip() for key, value in rows.items()}
    assert rows["seed"] == str(found["seed"])
    assert rows["shift right"] == str(found["parameters"]["shift_right"])
    assert rows["transpose"] == ("yes" if found["parameters"]["transpose"] else "no")


def test_the_report_is_a_table_of_the_branches(twc, photo, tmp_path):
    done = twc("encode", "--report", "--json", "--ways", 4, photo, tmp_path / "a.twc")
    report = json.loads(done.out)
    titles, *rows = [line.removeprefix("twc: ") for line in done.err.splitlines()]
    assert titles.split() == ["branch", "seed", "parameters", "estimate", "coded", "PSNR", "loss"]
    assert len(rows) == len(report["branches"]) == 4
    for row, branch in zip(rows, report["branches"], strict=True):
        assert row.startswith("*") == branch["chosen"]
        assert branch["transform"] in row
        assert row.endswith(f"{branch['psnr']:.2f}  {branch['loss']:.5f}")
        assert branch["transform"] == "identity" or str(branch["seed"]) in row
    end = titles.index("estimate") + len("estimate")
    assert all(row[end - 1].isdigit() and row[end] == " " for row in rows)


def test_the_report_goes_beside_a_file_in_a_pipe_and_is_no_talk(twc, photo):
    done = twc("encode", "--report", "--quiet", photo, "-")
    assert done.out.startswith(b"\x89TWC")
    assert len(done.err.splitlines()) == 3


def test_the_version_names_what_it_stands_on(twc):
    lines = twc("--version").out.decode().splitlines()
    assert lines[0] == f"twc {twcodec.__version__}"
    text = "\n".join(lines)
    for package in ("torch", "pillow", "numpy"):
        assert metadata.version(package) in text
    for entry in catalogue.EMBEDDED:
        assert f"{entry.name} " in text
        assert entry.digest.hex() in text
    assert text.count("(the default)") == 1


def on_a_terminal(*args, **environment) -> str:
    """What a command prints on a terminal."""
    shown, terminal = pty.openpty()
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "TERM": "xterm", **environment}
    command = [sys.executable, "-m", "twcodec", *map(str, args)]
    subprocess.run(command, stdin=subprocess.DEVNULL, stdout=terminal, stderr=terminal, env=env, check=False)
    os.close(terminal)
    text = b""
    try:
        while block := os.read(shown, 65536):
            text += block
    except OSError:  # the end
        pass
    os.close(shown)
    return text.decode()


@pytest.mark.parametrize(
    ("options", "environment", "coloured"),
    [
        ([], {}, True),
        ([], {"NO_COLOR": "1"}, False),
        ([], {"NO_COLOR": ""}, True),
        ([], {"TERM": "dumb"}, False),
        (["--color", "never"], {}, False),
        (["--color", "always"], {"NO_COLOR": "1"}, True),
        (["--color", "auto"], {}, True),
    ],
)
def test_colour_on_a_terminal(coded, tmp_path, options, environment, coloured):
    text = on_a_terminal(*options, "info", coded, tmp_path / "nowhere", **environment)
    assert ("\033[1m" in text) == coloured
    assert ("\033[1;31mtwc:\033[0m" in text) == coloured
    assert text.count("\033[1;31m") <= 1


def test_no_colour_where_there_is_no_terminal(process, coded, tmp_path):
    done = process("info", coded, tmp_path / "nowhere")
    assert b"\033" not in done.out
    assert "\033" not in done.err
    assert b"\033[1m" in process("--color", "always", "info", coded).out
    assert b"\033[1m" in process("info", "--color", "always", coded).out
    assert b"\033" not in process("--color", "always", "info", "--color", "never", coded).out
    assert b"\033" not in process("--color", "always", "info", "--json", coded).out


def test_a_colour_is_chosen_for_one_command(twc, coded):
    assert b"\033" in twc("--color", "always", "info", coded).out
    assert b"\033" not in twc("info", coded).out
    twc("--color", "sometimes", "info", coded).misused("sometimes", "auto", "always", "never")
