"""What can be said wrongly: each has one clear answer, exit code 2, before any work is done."""

from __future__ import annotations

import re

import pytest

from twcodec.errors import ExitCode


def test_the_help_lists_the_commands_and_every_exit_code(twc):
    done = twc("--help")
    assert (done.code, done.err) == (0, "")
    text = done.out.decode()
    for word in ("encode", "decode", "info", "verify", "130", "Exit codes"):
        assert word in text
    assert twc("-h").out == done.out


@pytest.mark.parametrize("command", ["encode", "decode", "info", "verify"])
def test_each_command_has_a_help_page_with_an_example(twc, command):
    done = twc(command, "--help")
    assert (done.code, done.err) == (0, "")
    assert done.out.decode().count(f"twc {command} ") >= 2


def test_the_version(twc):
    import twcodec

    assert twc("--version").out.decode().splitlines()[0] == f"twc {twcodec.__version__}"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["encod", "a", "b"], ["encod", "encode"]),
        (["unpack", "a", "b"], ["unpack"]),
        (["encode", "--qualty", "3", "a", "b"], ["--qualty", "--quality"]),
        (["decode", "--forse", "a", "b"], ["--forse", "--force"]),
        (["encode", "--transform", "nevr", "a", "b"], ["nevr", "never"]),
        (["encode", "--metric", "psnr", "a", "b"], ["psnr", "mse", "ms-ssim"]),
        (["encode", "--metadata", "some", "a", "b"], ["some", "all", "none"]),
        (["encode", "-q", "high", "a", "b"], ["high", "--quality"]),
        (["encode", "-q", "", "a", "b"], ["--quality"]),
        (["encode", "--seed", "0x10", "a", "b"], ["0x10", "--seed"]),
        (["encode", "--threads", "0", "a", "b"], ["--threads"]),
        (["encode", "--max-pixels", "0", "a", "b"], ["--max-pixels"]),
        (["encode", "--max-memory", "lots", "a", "b"], ["--max-memory", "'lots'", "2G", "800M"]),
        (["decode", "--max-memory", "1,5G", "a", "b"], ["--max-memory", "'1,5G'", "1.5GB"]),
        (["decode", "--max-memory", "", "a", "b"], ["--max-memory"]),
        (["verify", "--max-memory", "-2G", "a"], ["--max-memory"]),
        (["verify", "--max-memory", "2", "a"], ["--max-memory", "2 bytes", "at least 64M"]),
        (["verify", "--max-memory", "65535K", "a"], ["--max-memory", "at least 64M"]),
        (["encode", "a"], ["OUT"]),
        (["encode", "a", "b", "c"], ["extra", "c"]),
        (["encode", "-x.png", "b"], ["-x"]),
        (["info"], ["FILE"]),
        (["verify"], ["FILE"]),
    ],
)
def test_a_typo_is_named_and_mended_where_it_can_be(twc, args, words):
    twc(*args).misused(*words)


def test_no_command_shows_the_help(twc):
    done = twc()
    assert done.code == 2
    assert "Commands:" in done.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-q", "nan"], ["quality nan", "1 to 7"]),
        (["-q", "inf"], ["quality inf", "1 to 7"]),
        (["-q", "1e999"], ["quality inf", "1 to 7"]),
        (["-q", "0"], ["quality 0", "1 to 7"]),
        (["-q", "-3"], ["quality -3", "1 to 7"]),
        (["-q", "7.0004"], ["quality 7.0004", "1 to 7"]),
        (["--ways", "0"], ["0 ways"]),
        (["--ways", "1000000000"], ["1000000000 ways", "64"]),
        (["--seed", "-1"], ["seed -1"]),
        (["--seed", "4294967296"], ["seed 4294967296"]),
        (["--transforms", "flip-turn,warp"], ["warp", "flip-turn"]),
        (["--device", "tpu"], ["tpu", "cpu"]),
        (["--device", ""], ["device", "cpu"]),
        (["--device", "meta"], ["meta", "cpu"]),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused_with_what_is_possible(twc, photo, tmp_path, folder, options, words):
    twc("encode", *options, photo, tmp_path / "a.twc").refused(2, *words)
    assert folder() == {"photo.png"}


@pytest.mark.parametrize("threads", [10**9 * 3, 10**21])
def test_more_threads_than_there_can_be_are_refused(twc, photo, tmp_path, threads):
    twc("encode", "--threads", threads, photo, tmp_path / "a.twc").misused("threads")


@pytest.mark.parametrize("threads", ["two", "2.5", ""])
def test_what_is_no_number_of_threads_is_called_so(twc, photo, tmp_path, threads):
    twc("encode", "--threads", threads, photo, tmp_path / "a.twc").misused(
        "--threads", f"{threads!r} is no whole number"
    )


def test_what_a_refusal_says_that_is_needed_can_be_typed_and_is_enough(process, photo, tmp_path):
    refused = process("encode", "--max-memory", "64M", photo, tmp_path / "a.twc")
    assert refused.code == 6
    needed, allowed = re.search(r"needs about (\d+M), (\d+M) are allowed", refused.err).groups()
    assert allowed == "64M"
    assert process("encode", "--max-memory", needed, photo, tmp_path / "a.twc").code == 0


def test_a_million_threads_are_no_crash(process, photo, tmp_path):
    assert process("encode", "--threads", 10**6, photo, tmp_path / "a.twc").code in (0, 2)


def test_threads_of_your_choice(twc, photo, coded, tmp_path):
    import torch

    before = torch.get_num_threads()
    assert twc("encode", "--threads", 1, "--seed", 1, photo, tmp_path / "a.twc").code == 0
    assert twc("verify", "--threads", 3, tmp_path / "a.twc").code == 0
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("2G", 2 << 30),
        ("2g", 2 << 30),
        ("1.5GB", 3 << 29),
        ("1.5 GiB", 3 << 29),
        ("800M", 800 << 20),
        (" 800mib ", 800 << 20),
        ("65536K", 64 << 20),
        ("0.25T", 1 << 38),
        ("3000000000", 3_000_000_000),
        ("3000000000B", 3_000_000_000),
        ("1.3G", 1395864371),
        ("999999999999999999T", 999_999_999_999_999_999 << 40),
    ],
)
def test_memory_is_given_as_people_write_it(twc, photo, coded, tmp_path, monkeypatch, text, size):
    """By an option or in the environment, the option first; for all three commands."""
    from twcodec.codec import codec

    given = []
    first = codec.open_codec
    monkeypatch.setattr(
        codec, "open_codec", lambda *args, max_memory, **more: given.append(max_memory) or first(*args, **more)
    )
    assert twc("decode", "--max-memory", text, coded, tmp_path / "a.png").code == 0
    monkeypatch.setenv("TWC_MAX_MEMORY", text)
    assert twc("verify", coded).code == 0
    assert twc("encode", photo, tmp_path / "a.twc").code == 0
    assert twc("verify", "--max-memory", "5G", coded).code == 0
    assert given == [size, size, size, 5 << 30]


def test_a_picture_that_needs_more_memory_than_is_allowed_leaves_nothing(twc, photo, coded, tmp_path):
    before = sorted(tmp_path.iterdir())
    words = ("needs about", "100M are allowed (--max-memory)")
    twc("encode", "--max-memory", "100M", photo, tmp_path / "a.twc").refused(6, "photo.png", *words)
    twc("decode", "--max-memory", "100M", coded, tmp_path / "a.png").refused(6, "photo.twc", *words)
    twc("verify", "--max-memory", "100M", coded).refused(6, "photo.twc", *words)
    assert sorted(tmp_path.iterdir()) == before


def test_nonsense_in_the_environment_is_named(twc, coded, monkeypatch):
    monkeypatch.setenv("TWC_MAX_MEMORY", "all")
    twc("verify", coded).misused("--max-memory", "TWC_MAX_MEMORY", "'all'")
    monkeypatch.setenv("TWC_MAX_MEMORY", "")  # as if it were not set
    assert twc("verify", coded).code == 0


def test_the_limit_of_pixels_holds_both_ways(twc, photo, coded, tmp_path, monkeypatch):
    """120 x 96 is 11,520."""
    twc("encode", "--max-pixels", 11519, photo, "-").refused(6, "photo.png", "120x96", "11519", "--max-pixels")
    twc("encode", "--max-pixels", 11519, "-", "-", stdin=photo.read_bytes()).refused(6, "11519")
    twc("decode", "--max-pixels", 11519, coded, "-").refused(6, "photo.twc", "120x96", "11519", "--max-pixels")
    twc("verify", "--max-pixels", 11519, coded).refused(6, "photo.twc", "11519")
    assert twc("encode", "--max-pixels", 11520, photo, "-").code == 0
    assert twc("decode", "--max-pixels", 11520, coded, "-").code == 0

    monkeypatch.setenv("TWC_MAX_PIXELS", "11519")
    assert twc("encode", photo, "-").code == 6
    assert twc("decode", coded, "-").code == 6
    assert twc("decode", "--max-pixels", 11520, coded, "-").code == 0, "the option is stronger than the environment"
    assert twc("info", coded).code == 0, "info allocates nothing"
    monkeypatch.setenv("TWC_MAX_PIXELS", "many")
    twc("decode", coded, "-").misused("many", "--max-pixels", "TWC_MAX_PIXELS", "whole number")
    monkeypatch.setenv("TWC_MAX_PIXELS", "")
    assert twc("decode", coded, "-").code == 0


def test_an_absurd_limit_is_no_error(twc, photo):
    assert twc("encode", "--max-pixels", 10**40, photo, "-").code == 0


def test_a_model_that_is_not_there(twc, photo, coded, tmp_path):
    for source, command in ((photo, "encode"), (coded, "decode"), (coded, "verify")):
        out = [] if command == "verify" else ["-"]
        twc(command, "--model", "nosuch", source, *out).refused(5, "nosuch", "default")
        twc(command, "--model", tmp_path / "no.safetensors", source, *out).refused(3, "no.safetensors")
        twc(command, "--model", photo, source, *out).refused(5, "model file")


def test_a_file_that_is_no_model_is_named(twc, photo, tmp_path):
    (tmp_path / "picture.safetensors").write_bytes(photo.read_bytes())
    twc("encode", "--model", tmp_path / "picture.safetensors", photo, "-").refused(5, "picture.safetensors")


def test_a_model_name_that_is_too_long(twc, photo):
    done = twc("encode", "--model", "m" * 300, photo, "-")
    assert done.code in (3, 5)


def test_a_device_that_is_not_there(twc, photo, coded):
    twc("encode", "--device", "cuda:77", photo, "-").refused(8, "cuda:77", "--device cpu")
    twc("decode", "--device", "cuda:77", coded, "-").refused(8, "cuda:77", "--device cpu")


def test_a_file_of_another_model_asks_for_it_by_digest(twc, coded):
    import dataclasses

    from twcodec.container import Container

    container = Container.from_bytes(coded.read_bytes())
    header = dataclasses.replace(container.header, digest=bytes(range(16)))
    coded.write_bytes(dataclasses.replace(container, header=header).to_bytes())
    twc("decode", coded, "-").refused(5, "photo.twc", "000102030405", "--model")
    assert b"not in this twc" in twc("info", coded).out


def test_too_little_memory_is_a_limit(twc, photo, monkeypatch):
    from twcodec.codec import codec

    def none_left(*_):
        raise MemoryError

    monkeypatch.setattr(codec.Codec, "encode_picture", none_left)
    twc("encode", photo, "-").refused(6, "memory")


@pytest.mark.parametrize(
    "text",
    [
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
        "allocate 226492416 bytes. Error code 12 (Cannot allocate memory)",
        "could not create a primitive",
    ],
)
def test_too_little_memory_for_torch_is_a_limit(twc, photo, coded, monkeypatch, text):
    from twcodec.codec import decode, encode

    def none_left(*_):
        raise RuntimeError(text)

    monkeypatch.setattr(encode, "encode", none_left)
    monkeypatch.setattr(decode, "decode", none_left)
    twc("encode", photo, "-").refused(6, "photo.png", "memory")
    twc("decode", coded, "-").refused(6, "photo.twc", "memory")


def test_what_nobody_thought_of_is_one_line_too(twc, photo, tmp_path, folder, monkeypatch):
    from twcodec.codec import codec

    def surprise(*_):
        raise ZeroDivisionError("two\nlines")

    monkeypatch.setattr(codec.Codec, "encode_picture", surprise)
    twc("encode", photo, tmp_path / "a.twc").refused(ExitCode.INTERNAL, "ZeroDivisionError", "TWC_DEBUG")
    assert folder() == {"photo.png"}
    monkeypatch.setenv("TWC_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        twc("encode", photo, "-")


def test_an_interruption_is_130(twc, photo, tmp_path, folder, monkeypatch):
    from twcodec.codec import codec

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(codec.Codec, "encode_picture", interrupted)
    done = twc("encode", photo, tmp_path / "a.twc")
    assert (done.code, done.out, done.err.strip()) == (130, b"", "twc: interrupted")
    assert folder() == {"photo.png"}


def test_an_interruption_is_one_line(twc, photo, monkeypatch):
    from twcodec.codec import codec

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(codec.Codec, "encode_picture", interrupted)
    twc("encode", photo, "-").refused(130, "interrupted")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("photo.jpg",), "Did you mean 'encode IN OUT'?"),
        (("photo.TWC", "photo.png"), "Did you mean 'decode IN OUT'?"),
        (("encode", "-q", "4,5", "a.png", "b.twc"), "'4,5' is no number"),
    ],
)
def test_what_a_newcomer_types_is_met_with_what_to_type(twc, arguments, words):
    twc(*arguments).misused(words)
