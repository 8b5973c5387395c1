"""--json is for programs: one document, or one a line, and nothing else beside it. --quiet is silence."""

from __future__ import annotations

import json

import pytest

from twcodec.models import catalogue


def test_encode_reports_as_one_document(twc, photo, tmp_path):
    done = twc("encode", "--json", "--ways", 3, photo, tmp_path / "a.twc")
    assert (done.code, done.err) == (0, "")
    report = json.loads(done.out)
    assert (report["width"], report["height"], report["mode"]) == (120, 96, "RGB")
    assert report["model"] == catalogue.read("default")[0]
    assert report["bytes"] == (tmp_path / "a.twc").stat().st_size
    assert report["bpp"] == pytest.approx(8 * report["bytes"] / (120 * 96))
    assert len(report["branches"]) == 3
    chosen = report["branches"][report["chosen"]]
    assert chosen["chosen"]
    assert chosen["loss"] == report["loss"] == min(branch["loss"] for branch in report["branches"])
    assert [branch["transform"] for branch in report["branches"]].count("identity") == 1


def test_the_report_agrees_with_the_file(twc, photo, tmp_path):
    report = json.loads(twc("encode", "--json", "--transform", "always", photo, tmp_path / "a.twc").out)
    info = json.loads(twc("info", "--json", tmp_path / "a.twc").out)
    chosen = report["branches"][report["chosen"]]
    assert (info["transform"], info["seed"]) == (chosen["transform"], chosen["seed"])
    assert (info["file_bytes"], info["payload_bytes"]) == (report["bytes"], chosen["payload_bytes"])
    assert info["parameters"] == chosen["parameters"]


def test_decode_reports_as_one_document(twc, coded, tmp_path):
    done = twc("decode", "--json", coded, tmp_path / "b.jpg")
    assert (done.code, done.err) == (0, "")
    report = json.loads(done.out)
    assert (report["width"], report["height"], report["mode"], report["format"]) == (120, 96, "RGB", "JPEG")


def test_with_data_on_standard_output_the_report_goes_to_standard_error(twc, photo, coded):
    done = twc("encode", "--json", "--seed", 1, photo, "-")
    assert (done.code, done.out) == (0, coded.read_bytes())
    assert json.loads(done.err)["bytes"] == len(done.out)
    done = twc("decode", "--json", coded, "-")
    assert done.out.startswith(b"\x89PNG")
    assert json.loads(done.err)["format"] == "PNG"


def test_a_perfect_picture_is_valid_json_too(twc, tmp_path):
    """A PSNR that may be infinite is no number in JSON."""
    from PIL import Image

    for colour in (0, 255):
        Image.new("L", (1, 1), colour).save(tmp_path / "a.png")
        for metric in ("mse", "ms-ssim"):
            done = twc("encode", "--json", "-q", 7, "--metric", metric, "-f", tmp_path / "a.png", tmp_path / "a.twc")
            assert done.code == 0
            json.loads(done.out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_a_failure_prints_no_json(twc, photo, coded, tmp_path):
    twc("encode", "--json", tmp_path / "nowhere", tmp_path / "a.twc").refused(3, "nowhere")
    twc("decode", "--json", photo, tmp_path / "b.png").refused(3, "photo.png")
    twc("info", "--json", photo).refused(3, "photo.png")
    twc("verify", "--json", photo).refused(3, "photo.png")


@pytest.mark.parametrize("command", ["info", "verify"])
def test_several_files_give_a_line_each(twc, coded, tmp_path, command):
    other = tmp_path / "with space, ünd.twc"
    other.write_bytes(coded.read_bytes())
    done = twc(command, "--json", coded, other)
    assert (done.code, done.err) == (0, "")
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert [line["file"] for line in lines] == [str(coded), str(other)]
    assert {line["width"] for line in lines} == {120}


@pytest.mark.parametrize("command", ["info", "verify"])
def test_one_bad_file_of_several_does_not_stop_the_others(twc, photo, coded, tmp_path, command):
    broken = tmp_path / "broken.twc"
    broken.write_bytes(coded.read_bytes()[:-1])
    done = twc(command, "--json", broken, coded, photo, tmp_path / "nowhere")
    assert done.code == 1
    assert [json.loads(line)["file"] for line in done.out.splitlines()] == [str(coded)]
    assert len(done.err.splitlines()) == 3
    for line, name in zip(done.err.splitlines(), ("broken.twc", "photo.png", "nowhere"), strict=True):
        assert name in line
    assert twc(command, broken, photo).code == 1
    assert twc(command, broken).code == 4


def test_verify_says_ok_and_writes_nothing(twc, coded, folder):
    done = twc("verify", coded)
    assert (done.code, done.err) == (0, "")
    assert b"photo.twc: ok, 120x96 RGB" in done.out
    assert folder() == {"photo.twc"}


def test_verify_decodes_the_symbols(twc, coded):
    """The chunks' checksums are right, those of the symbols are not."""
    import dataclasses

    from twcodec.container import Container

    container = Container.from_bytes(coded.read_bytes())
    header = dataclasses.replace(container.header, symbols_crc=container.header.symbols_crc ^ 1)
    coded.write_bytes(dataclasses.replace(container, header=header).to_bytes())
    assert twc("info", coded).code == 0
    twc("verify", coded).refused(4, "photo.twc", "checksum")
    twc("decode", coded, "-").refused(4, "photo.twc", "checksum")


def test_info_shows_a_table(twc, photo, coded):
    done = twc("info", coded)
    assert done.code == 0
    text = done.out.decode()
    for word in ("photo.twc", "120 x 96", "RGB", "default", "quality", "transform", str(coded.stat().st_size)):
        assert word in text
    assert twc("info", "-", stdin=coded.read_bytes()).code == 0


def test_quiet_says_nothing_but_errors(twc, photo, coded, tmp_path):
    for args in (
        ("encode", "--quiet", photo, tmp_path / "a.twc"),
        ("encode", "--quiet", "-v", "-f", photo, tmp_path / "a.twc"),
        ("decode", "--quiet", coded, tmp_path / "b.png"),
        ("verify", "--quiet", coded),
    ):
        done = twc(*args)
        assert (done.code, done.out, done.err) == (0, b"", "")
    twc("encode", "--quiet", photo, tmp_path / "a.twc").refused(7, "a.twc")
    twc("verify", "--quiet", photo).refused(3, "photo.png")


def test_verbose_tells_every_branch(twc, photo, tmp_path):
    done = twc("encode", "-v", "--ways", 3, photo, tmp_path / "a.twc")
    assert len(done.err.splitlines()) == 5
    assert done.err.count("flip-turn") >= 2
    assert done.err.count("twc: * ") == 1
