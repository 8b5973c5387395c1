"""docs/errors.md against the source: every error message is listed under its exit code, and no other one is.

Messages are read out of the syntax tree, not raised. Text that is put together first and raised later is followed
through variables, constants and functions; what stands in for a value there is HOLE.
"""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path

import pytest

from twcodec import errors
from twcodec.errors import ExitCode, TwcError

ROOT = Path(__file__).resolve().parents[2]
DOCS = (ROOT / "docs" / "errors.md").read_text()
HOLE = "\0"
MOST_DEEP = 6
LEAST_LETTERS = 12

CODES = {
    name: kind.exit_code for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, TwcError)
}
CODES |= dict.fromkeys(("BadParameter", "UsageError", "fail"), ExitCode.USAGE)  # click's

NOT_OURS = {
    # click
    "No such option",
    "Missing argument",
    "Missing option",
    "Invalid value for ...",
    # the system
    "No such file or directory",
    "Permission denied",
    "Is a directory",
    # Pillow
    "image file could not be identified because ... support not installed",
}
"""Entries of the list whose words are no text of twcodec's."""

PASSED_ON = {
    "f'{self.path}: {error}'",
    "f'{path}: {error}'",
    "f'{url}: {error}'",
    "f'{shown(source)}: {error}'",
    "f\"{shown(target, 'standard output')}: {error}\"",
    "f'{shown(folder)}: {error.strerror or error}'",
    "str(error)",
    "str(message['error'])",
    "record['error']",
    "reason",
    "verdict",
}
"""Errors whose words all come from elsewhere: from an error that was listed, the system, or Pillow."""

NOT_SHOWN = {"SystemExit", "KeyboardInterrupt", "AttributeError", "ValueError", "OSError", "HTTPException", "HTTPError"}
"""Other exceptions that are raised by name: they are caught inside twc, or else they are internal errors."""


class Module:
    """A parsed file, with what its names stand for."""

    def __init__(self, path: Path) -> None:
        self.name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        self.path = path.relative_to(ROOT).as_posix()
        self.tree = ast.parse(path.read_text())
        self.outer: dict[ast.AST, ast.AST] = {
            child: node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)
        }

    @cached_property
    def functions(self) -> dict[str, ast.FunctionDef]:
        return {node.name: node for node in ast.walk(self.tree) if isinstance(node, ast.FunctionDef)}

    @cached_property
    def imported(self) -> dict[str, str]:
        """The dotted names of what is imported."""
        nodes = [node for node in ast.walk(self.tree) if isinstance(node, ast.ImportFrom)]
        return {alias.asname or alias.name: f"{node.module}.{alias.name}" for node in nodes for alias in node.names}

    def function_around(self, node: ast.AST) -> ast.AST:
        while node in self.outer and not isinstance(node, ast.FunctionDef):
            node = self.outer[node]
        return node


def modules() -> dict[str, Module]:
    found = [Module(path) for path in sorted((ROOT / "twcodec").rglob("*.py"))]
    return {module.name: module for module in found}


MODULES = modules()


def assigned(scope: ast.AST, name: str) -> Iterator[ast.AST]:
    """Every value that a name gets in a function or module."""
    for node in ast.walk(scope):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        value = getattr(node, "value", None) or (node.iter if isinstance(node, ast.For) else None)
        for target in targets:
            if isinstance(target, ast.Name) and target.id == name and value:
                yield value
            elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
                yield from (
                    v for t, v in zip(target.elts, value.elts, strict=False) if isinstance(t, ast.Name) and t.id == name
                )


def texts(node: ast.AST, module: Module, deep: int = 0) -> set[str]:
    """What an expression can say, HOLE in place of what is only known at run time."""

    def follow(inner: ast.AST, where: Module = module) -> set[str]:
        return texts(inner, where, deep + 1) if deep < MOST_DEEP else {HOLE}

    match node:
        case ast.Constant(value=str(text)):
            return {text}
        case ast.JoinedStr(values=values):
            return {"".join(parts) for parts in itertools.product(*map(follow, values))}
        case ast.FormattedValue(value=value, conversion=-1, format_spec=None):
            return follow(value)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return {a + b for a in follow(left) for b in follow(right)}
        case ast.IfExp(body=body, orelse=other):
            return follow(body) | follow(other)
        case ast.BoolOp(op=ast.Or(), values=values):
            return set().union(*map(follow, values))
        case ast.Call(func=ast.Attribute(value=ast.Constant(value=" "), attr="join"), args=[words]):
            return follow(words)  # text whose white space is made single
        case ast.Call(func=ast.Attribute(value=ast.JoinedStr() as text, attr="split"), args=[]):
            return follow(text)
        case ast.Call(func=ast.Name() | ast.Attribute() as called):
            return named(called, module, follow, calls=True)
        case ast.Name() | ast.Attribute():
            return named(node, module, follow, calls=False)
    return {HOLE}


def named(node: ast.Name | ast.Attribute, module: Module, follow: Callable[..., set[str]], calls: bool) -> set[str]:
    """What a variable, a constant or (calls) a function of twcodec's says."""
    name = node.id if isinstance(node, ast.Name) else node.attr
    if isinstance(node, ast.Attribute):
        holder = node.value.id if isinstance(node.value, ast.Name) else ""
        module_name = module.imported.get(holder, "")
    elif name in module.imported:
        module_name, _, name = module.imported[name].rpartition(".")
    else:
        module_name = module.name
    home = MODULES.get(module_name)
    if home is None:
        return {HOLE}
    if calls:
        function = home.functions.get(name)
        returns = [n.value for n in ast.walk(function) if isinstance(n, ast.Return) and n.value] if function else []
        return set().union(*(follow(value, home) for value in returns)) or {HOLE}
    local = list(assigned(module.function_around(node), name)) if home is module else []
    values = local or [v for n in home.tree.body for v in assigned(n, name) if isinstance(n, ast.Assign)]
    return set().union(*(follow(value, home) for value in values)) or {HOLE}


def sections_of(call: ast.Call, module: Module) -> set[int]:
    """The exit codes of an error: of its class, or as it is given beside the text."""
    name = name_of(call)
    if name not in ("FatalError", "failed"):
        return {CODES[name]}
    given = call.args[1]
    if isinstance(given, ast.Call) and name_of(given) in module.functions:
        given = module.functions[name_of(given)]
    return {
        ExitCode[n.attr] for n in ast.walk(given) if isinstance(n, ast.Attribute) and n.attr in ExitCode.__members__
    }


def name_of(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", ast.unparse(call.func))


def raised(module: Module) -> Iterator[tuple[set[int], ast.AST]]:
    """Exit codes and text of every error."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and node.args:
            name = name_of(node)
            if name in CODES or name == "FatalError":
                yield sections_of(node, module), node.args[0]
            elif name == "failed" and len(node.args) == 3:
                yield sections_of(node, module), node.args[2]
            elif name.startswith("type("):
                yield set(), node.args[0]
            elif isinstance(node.func, ast.Call | ast.IfExp | ast.Subscript):  # a class that is chosen
                chosen = {CODES[n.id] for n in ast.walk(node.func) if isinstance(n, ast.Name) and n.id in CODES}
                yield from [(chosen, node.args[0])] * bool(chosen)
        match node:  # a task that is not begun: `batch.run` records the reason
            case ast.Yield(value=ast.Tuple(elts=[ast.Call(func=ast.Name(id="replace")), reason])):
                yield {ExitCode.OUTPUT}, reason
        if isinstance(node, ast.ExceptHandler) and module.name == "twcodec.cli.main":
            said = [n.args[0] for n in ast.walk(node) if isinstance(n, ast.Call) and name_of(n) == "say"]
            codes = [n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute) and n.attr in ExitCode.__members__]
            for text in said:
                yield {ExitCode[code] for code in codes}, text


def letters(text: str) -> int:
    return sum(letter.isalpha() for letter in text)


def messages() -> dict[int, set[str]]:
    """The texts of all errors, by exit code."""
    found: dict[int, set[str]] = {}
    for module in MODULES.values():
        for codes, node in raised(module):
            for code in codes:
                found.setdefault(code, set()).update(text for text in texts(node, module) if letters(text))
    return found


def listed() -> dict[int, list[str]]:
    """The entries of the tables' first columns, by the exit code in the heading above."""
    found: dict[int, list[str]] = {}
    code = None
    for line in DOCS.splitlines():
        if line.startswith("## "):
            heading = re.match(r"## (\d+):", line)
            code = int(heading[1]) if heading else None
        elif line.startswith("| `") and code is not None:
            found.setdefault(code, []).extend(re.findall(r"`([^`]+)`", line.split(" | ")[0]))
    return found


def matches(entry: str, message: str) -> bool:
    """Whether the parts of the entry between its "..." occur in order, from the beginning of the message.

    The name of a file before the message, and its tail from the end of a word on, may be missing in the entry, if that
    has LEAST_LETTERS; else it is the whole message. "..." is text that differs, as far as it has to go.
    """
    if message.replace(HOLE, "...") == entry:
        return True
    pattern = ".*?".join(map(re.escape, entry.split("...")))
    return letters(entry) >= LEAST_LETTERS and bool(re.match(rf"(?:{HOLE}: )?{pattern}(?!\w)", message))


FOUND, LISTED = messages(), listed()


@pytest.mark.parametrize("code", sorted(FOUND))
def test_every_message_is_listed_under_its_exit_code(code: int) -> None:
    missing = [m for m in FOUND[code] if not any(matches(entry, m) for entry in LISTED.get(code, []))]
    assert not missing, f"docs/errors.md lacks, under {code}: " + "; ".join(m.replace(HOLE, "...") for m in missing)


@pytest.mark.parametrize("code", sorted(LISTED))
def test_every_entry_is_a_message_with_that_exit_code(code: int) -> None:
    stale = [e for e in LISTED[code] if e not in NOT_OURS and not any(matches(e, m) for m in FOUND.get(code, ()))]
    assert not stale, f"docs/errors.md lists, under {code}, what nothing says: {stale}"


def test_no_error_escapes_the_search() -> None:
    """Text that cannot be followed, a class that is not known, or words beside a re-raised error: none, or by name."""
    makers = {name for module in MODULES.values() for name in module.functions}
    for module in MODULES.values():
        for codes, node in raised(module):
            said = texts(node, module)
            assert codes or not any(map(letters, said)), f"{module.path}: {ast.unparse(node)} has no exit code"
            assert any(map(letters, said)) or ast.unparse(node) in PASSED_ON, f"{module.path}: {ast.unparse(node)}"
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                name = name_of(node.exc)
                known = name in CODES or name in NOT_SHOWN | makers | {"FatalError"} or name.startswith("type(")
                assert known, f"{module.path}: what is {name}?"


@pytest.mark.parametrize(
    ("entry", "message", "expected"),
    [
        ("the output exists already", "the output exists already; overwrite it with -f", True),
        ("... has a side of more than ... pixels", "\0x\0 has a side of more than \0 pixels, which is", True),
        ("cannot be read: ...", "\0: cannot be read: \0", True),
        ("... ways; 1 to ... are possible", "\0 ways; 1 to \0 are possible", True),
        ("the output", "the output exists already", False),
        ("the output exists al", "the output exists already", False),
        ("exists already; overwrite it", "the output exists already; overwrite it with -f", False),
        ("something new to say", "something else to say", False),
    ],
)
def test_an_entry_matches_its_message_only(entry: str, message: str, expected: bool) -> None:
    assert matches(entry, message) == expected
