"""What an affine update is when the state is zero."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seqdsl.analysis.graph import name_of
from seqdsl.differentiate.broadcast import ZERO, neg, pointwise, shaped
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.walk import children, with_children

if TYPE_CHECKING:
    from seqdsl.analysis.normal import Normal


def offset(normal: Normal, node: ir.Node) -> ir.Node | None:
    """`node` with every read of the state replaced by 0; None where that is 0.

    The user's own expression is kept wherever the state is not in it.
    """
    if not normal.active(node):
        return node
    if normal.is_read(node):
        return None
    match node:
        # other steps of what depends on the state: no term of an affine value has them
        case ir.Shift() | ir.Copy():
            return None
        case ir.Ref() if name_of(node) in normal.model.equation:
            return offset(normal, normal.model.equation[name_of(node)].expr)
        case ir.Map(op="add" | "sub" as op, args=(a, b)):
            return _sum(node, op, offset(normal, a), offset(normal, b))
        case ir.Map(op="mul") | ir.Contract():
            found = [offset(normal, a) for a in node.args]
            kept = [f for f in found if f is not None]
            return _rebuilt(node, kept) if len(kept) == len(found) else None
        case ir.Map(op="neg" | "float" | "square" | "abs" | "relu", args=(a,)):
            found = offset(normal, a)
            return None if found is None else _rebuilt(node, [found])
        case ir.Map(op="div", args=(a, b)) if not normal.active(b):
            found = offset(normal, a)
            return None if found is None else _rebuilt(node, [found, b])
        case _:
            return _plain(normal, node)


def _sum(node: ir.Map, op: str, a: ir.Node | None, b: ir.Node | None) -> ir.Node | None:
    if a is None and b is None:
        return None
    if b is None:
        result = a
    elif a is None:
        result = b if op == "add" else neg(b)
    else:
        return _rebuilt(node, [a, b])
    assert result is not None
    return shaped(result, node.type.dims)


def _plain(normal: Normal, node: ir.Node) -> ir.Node | None:
    """Linear re-indexing of zero is zero; anything else is kept, of zeros."""
    found = [offset(normal, c) for c in children(node)]
    linear = isinstance(
        node,
        ir.Rename | ir.Split | ir.Merge | ir.SliceDim | ir.Roll | ir.Gather | ir.Conv,
    ) or (isinstance(node, ir.Reduce) and node.op in ("sum", "mean"))
    if linear and found[0] is None:
        return None
    old = children(node)
    new = [
        shaped(_zero(c), c.type.dims) if f is None else f
        for c, f in zip(old, found, strict=True)
    ]
    return _rebuilt(node, new)


def _zero(node: ir.Node) -> ir.Node:
    match node.type.dtype:
        case "bool":
            return build.const(False)
        case "int":
            return build.const(0)
        case _:
            return ZERO


def _rebuilt(node: ir.Node, new: list[ir.Node]) -> ir.Node:
    """`node` over other operands, brought to the dims of the old ones."""
    fitted = [shaped(n, c.type.dims) for n, c in zip(new, children(node), strict=True)]
    if isinstance(node, ir.Map):
        value = build.at_span(pointwise(node.op, *fitted), node.span)
        return shaped(value, node.type.dims)
    return with_children(node, tuple(fitted))
