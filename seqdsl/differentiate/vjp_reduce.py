"""Cotangents through reductions."""

from __future__ import annotations

from seqdsl.differentiate.broadcast import (
    INFINITY,
    ONE,
    ZERO,
    Dims,
    extent,
    masked,
    mul,
    neg,
    pointwise,
    select,
    typed,
)
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import BATCH, TIME, Type


def pull_reduce(node: ir.Reduce, ct: ir.Node, dims: Dims) -> ir.Node | None:
    """The cotangent of the reduced value; ties of max and min share it equally."""
    match node.op:
        case "sum":
            return masked(node.where, ct)
        case "mean":
            return masked(node.where, pointwise("div", ct, _count(node, dims)))
        case "prod":
            return _prod(node, ct)
        case "max" | "min":
            return _extremum(node, ct)
        case "logsumexp":
            return _logsumexp(node, ct)
        case _:
            return None


def _count(node: ir.Reduce, dims: Dims) -> ir.Node:
    """How many entries take part in the mean."""
    where = node.where
    if where is None and not set(node.over) - set(node.arg.type.dims) - dims.copies:
        return mul(*(extent(name, dims) for name in node.over))
    if where is None and TIME in node.over and TIME in node.arg.type.axes:
        # Along batch and time nothing says how many steps there are but a value.
        here = build.map_("ge", build.position(TIME, axis=True), build.const(0))
        where = typed(here, Type("bool", (), node.arg.type.axes & {BATCH, TIME}))
    if where is None:
        where = build.map_("eq", node.arg, node.arg)
        where = build.map_("or", where, build.map_("not", where))
    counted = build.map_("float", where)
    here = [d for d in node.over if d in where.type.dims or d in where.type.axes]
    count: ir.Node = build.reduce("sum", counted, here) if here else counted
    for name in node.over:
        if name not in here:
            count = mul(extent(name, dims), count)
    return count


def _prod(node: ir.Reduce, ct: ir.Node) -> ir.Node:
    """The product of the other entries, also where entries are zero."""
    zero = pointwise("eq", node.arg, ZERO)
    others = select(zero, ONE, node.arg)
    rest = build.reduce("prod", others, node.over, node.where)
    flags = masked(node.where, build.map_("float", zero))
    count = build.reduce("sum", flags, node.over)
    at_zero = select(pointwise("le", count, ONE), rest, ZERO)
    elsewhere = select(pointwise("eq", count, ZERO), rest, ZERO)
    slope = select(zero, at_zero, pointwise("div", elsewhere, others))
    if slope.type.dtype == "complex":
        slope = build.map_("conj", slope)
    return masked(node.where, mul(slope, ct))


def _extremum(node: ir.Reduce, ct: ir.Node) -> ir.Node:
    ties = pointwise("eq", node.arg, node)
    if node.where is not None:
        ties = pointwise("and", ties, node.where)
    count = build.reduce("sum", build.map_("float", ties), node.over)
    return select(ties, pointwise("div", ct, count), ZERO)


def _logsumexp(node: ir.Reduce, ct: ir.Node) -> ir.Node:
    empty = build.map_("eq", node, neg(INFINITY))
    scale = select(empty, ZERO, node)
    weight = build.map_("exp", pointwise("sub", node.arg, scale))
    return masked(node.where, mul(weight, ct))
