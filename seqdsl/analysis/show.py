"""Parts of a model in the writer's words: his own spelling where it still says it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from seqdsl.ir import nodes as ir
from seqdsl.ir.text import node_text
from seqdsl.ir.walk import children, subtree, with_children
from seqdsl.source import BUILTIN, Source

_CALL = re.compile(r"[A-Za-z_][\w.]*(\[[^\[\]]*\])?\(")


class Shower:
    """Renders nodes of one model; parts that are untouched keep their spelling."""

    def __init__(self, model: ir.Model) -> None:
        self.model = model
        self.source: Source = model.span.source
        self._own = {
            id(n) for e in model.equations for n in _outermost(e.expr) if self._here(n)
        }

    def _here(self, node: ir.Node) -> bool:
        source = node.span.source
        return source is not BUILTIN and source is self.source

    def text(self, node: ir.Node) -> str:
        """`node` on one line."""
        return node_text(self._worded(node))

    def spelling(self, node: ir.Node) -> str:
        """What the writer wrote for `node`, on one line; empty where he did not."""
        return " ".join(node.span.text.split()) if id(node) in self._own else ""

    def _worded(self, node: ir.Node) -> ir.Node:
        """`node` with calls the writer wrote, such as `linear(x, H)`, as one word."""
        match node:
            case ir.Ref() | ir.Shift() | ir.Const() | ir.Result():
                return node
            case ir.Rename(arg=ir.Ref() as arg):
                return arg
            case ir.Position(along=along, type=type_):
                name = along if type_.axes else f"index[{along}]"
                return ir.Ref(name=name, type=type_)
            case _:
                pass
        written = self.spelling(node)
        if written and _is_call(written):
            return ir.Ref(name=written, type=node.type)
        below = children(node)
        new = tuple(map(self._worded, below))
        if all(a is b for a, b in zip(below, new, strict=True)):
            return node
        if isinstance(node, ir.Rename):
            return new[0] if isinstance(new[0], ir.Ref) else replace(node, arg=new[0])
        return with_children(node, new)


def _outermost(expr: ir.Node) -> Iterator[ir.Node]:
    """The nodes that a place in the text stands for: of those made for it, the topmost."""
    yield expr
    for node in subtree(expr):
        yield from (c for c in children(node) if c.span != node.span)


def _is_call(text: str) -> bool:
    """Whether `text` is one call, to its last parenthesis."""
    opened = _CALL.match(text)
    if opened is None or not text.endswith(")"):
        return False
    depth = 1
    for i, char in enumerate(text[opened.end() :], opened.end()):
        depth += (char == "(") - (char == ")")
        if depth == 0:
            return i == len(text) - 1
    return False
