"""Text of the functions in `carried/` (and of random numbers) that a file needs."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import seqdsl.runtime

_FOLDER = Path(__file__).with_name("carried")
_FILES = (
    "calling",
    "along_time",
    "along_depth",
    "masked",
    "dims",
    "scan",
    "monoids",
    "matrices",
    "chunks",
    "stretches",
    "chunkwise",
    "newton",
)


@cache
def _definitions() -> Mapping[str, tuple[str, frozenset[str]]]:
    """Every function, class and constant: its text and the names it reads."""
    found: dict[str, tuple[str, frozenset[str]]] = {}
    for source in _sources():
        text = source.read_text(encoding="utf-8")
        for node in ast.parse(text).body:
            names = _defined(node)
            read = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
            for name in names:
                assert name not in found, f"two functions are called {name}"
                segment = ast.get_source_segment(text, node) or ""
                found[name] = (segment, frozenset(read - {name}))
    return found


def _sources() -> tuple[Path, ...]:
    runtime = Path(next(iter(seqdsl.runtime.__path__)))
    return (*(_FOLDER / f"{name}.py" for name in _FILES), runtime / "random.py")


def _defined(node: ast.stmt) -> list[str]:
    match node:
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            return [name]
        case ast.Assign(targets=[ast.Name(id=name)]) if name != "__all__":
            return [name]
        case ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
        case _:
            return []


def helper_texts(wanted: set[str]) -> tuple[str, ...]:
    """Texts of `wanted` and of what they use, in the order of their source."""
    known = _definitions()
    needed: set[str] = set()
    open_ = list(wanted)
    while open_:
        name = open_.pop()
        if name in needed or name not in known:
            continue
        needed.add(name)
        open_.extend(known[name][1])
    return tuple(text for name, (text, _) in known.items() if name in needed)
