"""The one place that imports CompressAI (design section 6).

`import compressai` drags in torchvision, torch-geometric and pandas for data sets and point clouds that no image codec
uses, takes 3 s, and fails where torchvision's binary does not match torch. Stand-ins keep them out while CompressAI's
own modules are imported; they are taken away again afterwards, so that nobody else meets them.
"""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from typing import Any

_UNUSED = ("torchvision", "torch_geometric", "compressai.datasets")


class _Anything:
    """A base class, a decorator and a decorator's factory, whichever is asked for; it does nothing."""

    def __init__(self, *_args: Any, **_kwargs: Any) -> None: ...

    def __call__(self, decorated: Any = None, *_args: Any, **_kwargs: Any) -> Any:
        return decorated


class _StandIn(types.ModuleType):
    """A module in which every public name is `_Anything`."""

    __path__: list[str] = []  # noqa: RUF012 - what makes a module a package

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything


class _StandInFinder:
    """Finds a stand-in for every unused package and whatever is in it."""

    def find_spec(self, name: str, _path: Sequence[str] | None = None, _target: Any = None) -> ModuleSpec | None:
        if any(name == unused or name.startswith(unused + ".") for unused in _UNUSED):
            return ModuleSpec(name, self)  # type: ignore[arg-type]
        return None

    def create_module(self, spec: ModuleSpec) -> types.ModuleType:
        return _StandIn(spec.name)

    def exec_module(self, _module: types.ModuleType) -> None: ...


@contextmanager
def _stand_ins() -> Iterator[None]:
    finder: Any = _StandInFinder()
    before = set(sys.modules)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in set(sys.modules) - before:
            if isinstance(sys.modules[name], _StandIn):
                del sys.modules[name]


def load(name: str) -> Any:
    """CompressAI's module of this name: "compressai.entropy_models", "compressai.models.google"."""
    with _stand_ins():
        return importlib.import_module(name)
