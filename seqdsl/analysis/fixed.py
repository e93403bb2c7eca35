"""Expressions in which some value has been settled."""

from __future__ import annotations

from collections.abc import Callable

from seqdsl.differentiate.broadcast import pointwise, shaped
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit
from seqdsl.ir.walk import children, with_children


def fixed(node: ir.Node, rule: Callable[[ir.Node], ir.Node | None]) -> ir.Node:
    """`node` with `rule` applied from the top, and arithmetic on numbers carried out.

    It has the dims that it had.
    """
    found = _fixed(node, rule)
    return found if found is node else shaped(found, node.type.dims)


def _fixed(node: ir.Node, rule: Callable[[ir.Node], ir.Node | None]) -> ir.Node:
    replaced = rule(node)
    if replaced is not None:
        return _fixed(replaced, rule)
    old = children(node)
    new = tuple(_fixed(c, rule) for c in old)
    if all(a is b for a, b in zip(old, new, strict=True)):
        return node
    if isinstance(node, ir.Map):
        return build.at_span(_settled(node.op, new), node.span)
    whole = (shaped(n, c.type.dims) for n, c in zip(new, old, strict=True))
    return with_children(node, tuple(whole))


def _settled(op: str, args: tuple[ir.Node, ...]) -> ir.Node:
    match op, args:
        case (
            ("add" | "sub") as op,
            (
                ir.Const(value=Lit(int(a) | float(a))),
                ir.Const(value=Lit(int(b) | float(b))),
            ),
        ):
            return build.const(float(a + b if op == "add" else a - b))
        case _:
            return pointwise(op, *args)
