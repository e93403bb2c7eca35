"""Artifact → `torch.nn.Module` class, without a file on disk."""

from __future__ import annotations

import hashlib
import linecache
import marshal
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any, cast

import torch

from seqdsl import diagnostics
from seqdsl.backends.torch.module import Artifact


def load(artifact: Artifact, class_name: str | None = None) -> type[torch.nn.Module]:
    """The class `class_name` (the layer's own by default) of a generated file.

    Its errors are `seqdsl.diagnostics.CallError` and `UnsupportedError`. Instances are
    pickled together with the text of their file, so they can be unpickled where this
    file was never generated.
    """
    module = _module(artifact.text)
    return cast("type[torch.nn.Module]", getattr(module, class_name or artifact.entry))


_offered: dict[str, bytes] = {}
"""Code of files that were not loaded yet, by their names as modules."""


def code_of(text: str) -> tuple[str, bytes]:
    """The name of a generated file as a module, and its code for this very Python."""
    name = _name(text)
    return name, marshal.dumps(compile(text, f"<{name}>", "exec"))


def offer(codes: Mapping[str, bytes]) -> None:
    """Code that `code_of` gave, so that loading these files compiles nothing."""
    _offered.update((n, c) for n, c in codes.items() if n not in sys.modules)


def _name(text: str) -> str:
    return f"seqdsl_generated_{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _module(text: str) -> ModuleType:
    """The text as a module, made once for each text."""
    name = _name(text)
    if name in sys.modules:
        return sys.modules[name]
    file = f"<{name}>"
    offered = _offered.pop(name, None)
    code = compile(text, file, "exec") if offered is None else marshal.loads(offered)
    module = ModuleType(name)
    module.__file__ = file
    lines = text.splitlines(keepends=True)
    linecache.cache[file] = (len(text), None, lines, file)
    sys.modules[name] = module
    try:
        exec(code, module.__dict__)  # noqa: S102
    except BaseException:
        del sys.modules[name]
        raise
    module.__dict__["CallError"] = diagnostics.CallError
    module.__dict__["UnsupportedError"] = diagnostics.UnsupportedError
    for value in list(vars(module).values()):
        if isinstance(value, type) and issubclass(value, torch.nn.Module):
            _picklable(value, text)
    return module


def _picklable(cls: type[torch.nn.Module], text: str) -> None:
    """Instances carry the text of their class."""

    def reduce(self: torch.nn.Module, protocol: Any) -> tuple[Any, ...]:
        state = self.__getstate__() if hasattr(self, "__getstate__") else self.__dict__
        return _restore, (text, cls.__name__), state

    cls.__reduce_ex__ = reduce


def _restore(text: str, name: str) -> torch.nn.Module:
    """An empty instance, to be filled with what was pickled."""
    cls = getattr(_module(text), name)
    return cls.__new__(cls)
