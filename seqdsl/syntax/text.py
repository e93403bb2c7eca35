"""The printed form of a syntax tree: one node a line, children indented."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import cast

from seqdsl.syntax import ast


def spec_text(spec: ast.Spec) -> str:
    """`spec` as a tree, with the line and column at which every node begins."""
    return "\n".join(_lines("", spec, 0)) + "\n"


def _lines(role: str, node: ast.Ast, depth: int) -> Iterator[str]:
    plain: list[str] = []
    below: list[tuple[str, ast.Ast]] = []
    for f in fields(node):
        value: object = getattr(node, f.name)
        if f.name in ("span", "header", "source", "comments", "text"):
            continue
        children = cast("tuple[object, ...]", value if _several(value) else (value,))
        nodes = [c for c in children if isinstance(c, ast.Ast)]
        if nodes:
            below.extend((f.name, child) for child in nodes)
        elif value not in (None, (), False) or f.name == "value":
            plain.append(f"{f.name} = {value!r}")
    label = f"{role}: " if role else ""
    facts = f"({', '.join(plain)})" if plain else ""
    where = f"{node.span.line}:{node.span.column}"
    yield f"{'  ' * depth}{label}{type(node).__name__}{facts}  @{where}"
    for name, child in below:
        yield from _lines(name, child, depth + 1)


def _several(value: object) -> bool:
    return isinstance(value, tuple)
