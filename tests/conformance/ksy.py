"""A parser that is driven by a Kaitai Struct description: as much of the language as formats/twc-1.ksy uses.

Anything else in a description is an error here, never passed over. What a type holds becomes a dictionary of its
fields; members of an enum are their numbers. It reads the golden files as the
parser does that kaitai-struct-compiler 0.11 makes.
"""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from typing import Any

import yaml

Fields = dict[str, Any]

INTEGERS = {"u1": 1, "u2": 2, "u4": 4}
OF_A_FIELD = {"id", "type", "size", "size-eos", "contents", "valid", "doc", "enum", "if", "process", "encoding"}
OF_A_FIELD |= {"repeat", "repeat-until"}


class Invalid(Exception):
    """The bytes are not as the description says."""


class Description:
    """A .ksy file."""

    def __init__(self, path: Path) -> None:
        self.tree = yaml.safe_load(path.read_text())
        assert self.tree["meta"]["endian"] == "be"
        assert set(self.tree) == {"meta", "doc", "doc-ref", "seq", "types", "enums"}
        self.enums = {
            name: {label: number for number, label in members.items()} for name, members in self.tree["enums"].items()
        }

    def parse(self, data: bytes) -> Fields:
        """Invalid: the description has no place for these bytes."""
        return Reader(self, data).read(self.tree)


class Reader:
    """Walks through some bytes."""

    def __init__(self, description: Description, data: bytes) -> None:
        self.description, self.data, self.at = description, data, 0

    def take(self, count: int) -> bytes:
        if self.at + count > len(self.data):
            raise Invalid(f"{count} bytes were expected, {len(self.data) - self.at} are left")
        self.at += count
        return self.data[self.at - count : self.at]

    def read(self, kind: dict[str, Any]) -> Fields:
        """All fields of a type, then its instances."""
        assert set(kind) <= {"meta", "doc", "doc-ref", "seq", "instances", "types", "enums"}, kind
        found: Fields = {}
        for field in kind["seq"]:
            assert set(field) <= OF_A_FIELD, field
            if "if" in field and not self.value(field["if"], found):
                continue
            found[field["id"]] = self.repeated(field, found) if "repeat" in field else self.field(field, found)
        for name, instance in kind.get("instances", {}).items():
            found[name] = self.value(instance["value"], found)
        return found

    def repeated(self, field: dict[str, Any], found: Fields) -> list[Any]:
        assert field["repeat"] == "until"
        values = [self.field(field, found)]
        while not self.value(field["repeat-until"], {**found, "_": values[-1]}):
            values.append(self.field(field, found))
        return values

    def field(self, field: dict[str, Any], found: Fields) -> Any:
        value = self.content(field, found)
        if "valid" in field and not self.is_valid(value, field["valid"], found):
            raise Invalid(f"{field['id']} is {value!r}")
        return value

    def content(self, field: dict[str, Any], found: Fields) -> Any:
        kind = field.get("type")
        if isinstance(kind, dict):
            cases = {self.value(case, found): name for case, name in kind["cases"].items()}
            kind = cases.get(self.value(kind["switch-on"], found))
        if kind in INTEGERS:
            return int.from_bytes(self.take(INTEGERS[kind]), "big")
        if "contents" in field:
            return self.contents(field["contents"])
        if "size" not in field and "size-eos" not in field:
            return self.read_inside(kind)
        body = self.take(self.value(field["size"], found) if "size" in field else len(self.data) - self.at)
        if "process" in field:
            body = inflated(body, field["process"])
        if kind == "str":
            return text(body, field["encoding"])
        return body if kind is None else Reader(self.description, body).read_inside(kind)

    def read_inside(self, kind: str) -> Fields:
        return self.read(self.description.tree["types"][kind])

    def contents(self, parts: list[Any]) -> bytes:
        expected = b"".join(part.encode() if isinstance(part, str) else bytes([part]) for part in parts)
        if (found := self.take(len(expected))) != expected:
            raise Invalid(f"{found.hex()}, {expected.hex()} was expected")
        return found

    def is_valid(self, value: Any, rule: Any, found: Fields) -> bool:
        if not isinstance(rule, dict):
            return bool(value == rule)
        assert set(rule) <= {"min", "max", "any-of", "expr"}, rule
        return (
            value >= rule.get("min", value)
            and value <= rule.get("max", value)
            and value in rule.get("any-of", [value])
            and bool(self.value(rule.get("expr", "1"), {**found, "_": value}))
        )

    def value(self, expression: Any, found: Fields) -> Any:
        """Kaitai's expressions are Python's but for enums, members and the conditional operator."""
        if isinstance(expression, int):
            return expression
        python = re.sub(
            r"\(([^()?]*)\?([^():]*):([^():]*)\)", r"((\2) if (\1) else (\3))", self.with_numbers(expression)
        )
        python = re.sub(r"\b_\.length\b", "len(_)", python)
        python = re.sub(r"\b_\.(\w+)", r"_['\1']", python)
        return eval(python.strip(), {"__builtins__": {}, "len": len}, found)

    def with_numbers(self, expression: str) -> str:
        return re.sub(r"(\w+)::(\w+)", lambda match: str(self.description.enums[match[1]][match[2]]), expression)


def inflated(body: bytes, process: str) -> bytes:
    assert process == "zlib"
    try:
        return zlib.decompress(body)
    except zlib.error as error:
        raise Invalid(f"zlib: {error}") from None


def text(body: bytes, encoding: str) -> str:
    try:
        return body.decode(encoding)
    except UnicodeDecodeError as error:
        raise Invalid(str(error)) from None
