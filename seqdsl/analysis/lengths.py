"""Vectors of length at most 1, by the way they are made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seqdsl.analysis.graph import behind
from seqdsl.ir import nodes as ir

if TYPE_CHECKING:
    from seqdsl.analysis.bounds import Bounds


def normed(bounds: Bounds, value: ir.Node, factor: ir.Node) -> frozenset[str]:
    """Dims over which `factor` is 1 over the length of `value`."""
    factor = behind(bounds.model, factor, states=False)
    if not isinstance(factor, ir.Map) or factor.op != "rsqrt":
        return frozenset()
    (inside,) = factor.args
    match behind(bounds.model, inside, states=False):
        case ir.Map(op="add" | "max", args=(a, b)):
            sums = [x for x, y in ((a, b), (b, a)) if bounds.of(y).low >= 0]
        case _:
            sums = [inside]
    for candidate in (behind(bounds.model, s, states=False) for s in sums):
        match candidate:
            case ir.Reduce(
                op="sum", where=None, arg=ir.Map(op="square", args=(v,)), over=over
            ) if same(bounds.model, v, value):
                return frozenset(over)
            case ir.Contract(args=(v, w), over=over) if v == w:
                if same(bounds.model, v, value):
                    return frozenset(over)
            case _:
                pass
    return frozenset()


def same(model: ir.Model, a: ir.Node, b: ir.Node) -> bool:
    """Whether two values are equal by definition."""
    return a == b or behind(model, a, states=False) == behind(model, b, states=False)


def unit_along(bounds: Bounds, node: ir.Node) -> frozenset[str]:
    """Dims along which `node` is a vector of length at most 1."""
    match behind(bounds.model, node, states=False):
        case ir.Map(op="mul", args=(a, b)):
            found = normed(bounds, a, b) | normed(bounds, b, a)
            for vector, factor in ((a, b), (b, a)):
                if bounds.of(factor).inside(-1, 1):
                    found |= unit_along(bounds, vector)
            return found
        case ir.Rename(arg=arg, pairs=pairs):
            table = dict(pairs)
            return frozenset(table.get(d, d) for d in unit_along(bounds, arg))
        case _:
            return frozenset()
