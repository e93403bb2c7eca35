"""TorchModule → the same with kernels: the text of functions that it carries along."""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from seqdsl.backends.torch.module import TorchModule
from seqdsl.backends.triton.calls import PASSED, PULLED, SCAN, SCAN_IN, Chunks

_FOLDER = Path(__file__).parent
_FILES = (
    "kernels/rows",
    "kernels/decays",
    "kernels/semirings",
    "kernels/pointwise",
    "kernels/scan",
    "kernels/scan_backward",
    "kernels/pairs",
    "kernels/outer",
    "kernels/delta",
    "kernels/delta_backward",
    "kernels/delta_sides",
    "kernels/passes",
    "launch/tiles",
    "launch/tuning",
    "launch/sizes",
    "launch/again",
    "launch/scan",
    "launch/outer",
    "launch/delta_forward",
    "launch/delta",
    "launch/dispatch",
    "launch/passes",
    "launch/loop_gradients",
    "launch/loops",
)
_IMPORTS = (
    "import hashlib",
    "import inspect",
    "import json",
    "import math",
    "import mmap",
    "import os",
    "import threading",
    "import weakref",
    "from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence",
    "from dataclasses import asdict, dataclass, replace",
    "from functools import cache, partial",
    "from itertools import product",
    "from math import prod",
    "from pathlib import Path",
    "from typing import Any, NamedTuple",
    "",
    "import torch",
    "import torch.nn.functional as F",
    "import triton",
    "import triton.language as tl",
    "from torch import Tensor, nn",
    "from triton import knobs",
    "from triton.errors import TritonError",
    "from triton.testing import do_bench",
)

_IMPORTED = frozenset(
    re.findall(r"\w+", " ".join(x.rpartition("import ")[2] for x in _IMPORTS))
)


@cache
def _statements() -> dict[str, tuple[tuple[str, ...], str, frozenset[str]]]:
    """Top-level statements by a key: the names they define, their text, what they read."""
    found: dict[str, tuple[tuple[str, ...], str, frozenset[str]]] = {}
    for name in _FILES:
        text = (_FOLDER / f"{name}.py").read_text("utf-8")
        lines = text.splitlines()
        for node in ast.parse(text).body[1:]:
            if _is_import_or_text(node):
                continue
            start = min([node.lineno, *(d.lineno for d in _decorators(node))])
            body = "\n".join(lines[start - 1 : node.end_lineno])
            read = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
            found[f"{name}:{node.lineno}"] = (
                tuple(_defined(node)),
                body,
                frozenset(read),
            )
    return found


def _is_import_or_text(node: ast.stmt) -> bool:
    match node:
        case ast.Import() | ast.ImportFrom() | ast.Expr(value=ast.Constant()):
            return True
        case _:
            return False


def _decorators(node: ast.stmt) -> list[ast.expr]:
    match node:
        case ast.FunctionDef(decorator_list=found) | ast.ClassDef(decorator_list=found):
            return found
        case _:
            return []


def _defined(node: ast.stmt) -> Iterator[str]:
    match node:
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.Assign(targets=[ast.Name(id=name)]):
            yield name
        case ast.AnnAssign(target=ast.Name(id=name)):
            yield name
        case _:
            pass


def names() -> frozenset[str]:
    """All names that a file with kernels may define."""
    mine = {n for defined, _, _ in _statements().values() for n in defined}
    return frozenset(mine | _IMPORTED)


def texts(wanted: frozenset[str]) -> tuple[str, ...]:
    """Statements that define `wanted`, and all that these need, in order.

    A statement that defines nothing, or whose decorator is one of our functions (what
    registers a fake or a gradient), belongs to what it reads.
    """
    known, mine = _statements(), names()
    needed, chosen = set(wanted), set[str]()
    grown = True
    while grown:
        grown = False
        for key, (defined, text, read) in known.items():
            attached = re.match(r"@?(\w+)\.register_", text)
            if key in chosen or not (
                needed & set(defined) or (attached and attached[1] in needed)
            ):
                continue
            chosen.add(key)
            needed |= read & mine
            grown = True
    return tuple(text for key, (_, text, _) in known.items() if key in chosen)


def with_kernels(
    module: TorchModule, chunks: Chunks, loops: Sequence[str] = ()
) -> TorchModule:
    """`module` whose scans and chunks run as kernels on a GPU.

    `loops` are texts of kernels that are its own.
    """
    known = {
        "_scanned": (SCAN, {"scan_fits", "scan_fused"}),
        "_scanned_in": (SCAN_IN, {"scan_fits", "scan_fused"}),
    }
    if chunks.erasing or chunks.plain:
        known["_chunkwise"] = chunks.text(), chunks.wanted()
    if chunks.coupled:
        known["_chunk_by_chunk"] = PASSED, {"passes_fit", "chunks_passed"}
        known["_states_back"] = PULLED, {"passes_fit", "chunks_pulled"}
    helpers: list[str] = []
    wanted = {"loops_fit"} if loops else set[str]()
    wanted |= names() & set(re.findall(r"\w+", "\n".join(loops)))
    for text in module.helpers:
        named = re.match(r"def (\w+)\(", text)
        name = named[1] if named else ""
        if name in known:
            text = text.replace(f"def {name}(", f"def {name}_by_torch(", 1)
            fused, needed = known[name]
            helpers += [text, fused]
            wanted |= needed
        else:
            helpers.append(text)
    if not wanted:
        return module
    kernels = "\n\n\n".join(texts(frozenset(wanted | {"unused"})))
    own = repr((module, kernels, loops))
    digest = hashlib.sha256(own.encode()).hexdigest()[:12]
    kernels = kernels.replace(
        'NAMESPACE = "seqdsl"', f'NAMESPACE = unused("seqdsl_{digest}")', 1
    )
    return replace(
        module,
        imports=_imports(kernels, [*helpers, *loops], module),
        helpers=(kernels, *helpers, *loops),
    )


def _imports(
    kernels: str, helpers: Sequence[str], module: TorchModule
) -> tuple[str, ...]:
    """The lines of `_IMPORTS` that something reads, narrowed to the names read."""
    parts = [kernels, *helpers]
    parts += ["\n".join(line for m in c.methods for line in m) for c in module.classes]
    text = " ".join([*parts, "NamedTuple" if module.results else "", "nn."])
    kept: list[str] = []
    for line in _IMPORTS:
        lead, _, named = line.rpartition("import ")
        used = [
            n
            for n in named.split(", ")
            if re.search(rf"\b{n.split(' as ')[-1]}\b", text)
        ]
        if not line or used:
            kept.append(line and f"{lead}import {', '.join(used)}")
    return tuple(kept)
