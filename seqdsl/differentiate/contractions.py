"""Sums of products as contractions, which a backend gives to a matrix product."""

from __future__ import annotations

from collections.abc import Iterator

from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.walk import transform


def contracted(node: ir.Node) -> ir.Node:
    """`node` with every sum of a product as a contraction, nested sums joined."""
    return transform(node, _rule)


def _rule(node: ir.Node) -> ir.Node:
    match node:
        case ir.Reduce(op="sum", where=None, arg=arg, over=over):
            pass
        case _:
            return node
    if isinstance(arg, ir.Reduce) and arg.op == "sum" and arg.where is None:
        return _rule(build.reduce("sum", arg.arg, (*over, *arg.over), node.where))
    if isinstance(arg, ir.Contract) and not set(arg.over) & set(over):
        return build.contract(arg.args, (*over, *arg.over), node.span)
    factors = list(_factors(arg))
    # A product may be declared to vary along an axis that no factor has.
    held = frozenset[str]().union(*(f.type.axes for f in factors))
    if len(factors) < 2 or not arg.type.axes <= held:
        return node
    product = build.contract(factors, over, node.span)
    return product if product.type == node.type else node


def _factors(node: ir.Node) -> Iterator[ir.Node]:
    match node:
        case ir.Map(op="mul", args=(a, b)):
            yield from _factors(a)
            yield from _factors(b)
        case _:
            yield node
