"""Text of the functions in `carried/` (and of what all targets share) that a file needs."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
    "chunk_gates",
    "stretches",
    "room",
    "divided_chunks",
    "chunk_gates_back",
    "divided_chunks_back",
    "chunk_gradients",
    "group_order",
    "near_groups",
    "chunk_groups",
    "chunkwise",
    "turns",
    "newton",
    "pieces",
)
_RUNTIME = ("random", "pages")


@dataclass(frozen=True)
class _Definition:
    """A function, class or constant at the top of a file, as text and as parsed."""

    text: str
    node: ast.stmt

    def reads(self) -> set[str]:
        """The names that it reads."""
        return {n.id for n in ast.walk(self.node) if isinstance(n, ast.Name)}


@cache
def _definitions() -> Mapping[str, _Definition]:
    """Every function, class and constant by name."""
    found: dict[str, _Definition] = {}
    for source in _sources():
        text = source.read_text(encoding="utf-8")
        lines = text.split("\n")
        for node in ast.parse(text).body:
            for name in _defined(node):
                assert name not in found, f"two functions are called {name}"
                found[name] = _Definition(_text(lines, node), node)
    return found


def _text(lines: Sequence[str], node: ast.stmt) -> str:
    """The text of a statement; `ast.get_source_segment` splits the file for each."""
    *before, last = lines[node.lineno - 1 : node.end_lineno]
    return "\n".join([*before, last.encode()[: node.end_col_offset].decode()])


def _sources() -> tuple[Path, ...]:
    runtime = Path(next(iter(seqdsl.runtime.__path__)))
    own = (_FOLDER / f"{name}.py" for name in _FILES)
    return (*own, *(runtime / f"{name}.py" for name in _RUNTIME))


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
        open_.extend(known[name].reads())
    return tuple(d.text for name, d in known.items() if name in needed)
