"""Cotangents through operators along a dim that keep the shape."""

from __future__ import annotations

from seqdsl.differentiate.broadcast import (
    ONE,
    ZERO,
    Dims,
    masked,
    mul,
    ones,
    pointwise,
    select,
    spread,
    total,
)
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit, apply


def pull_along(node: ir.Along, ct: ir.Node, dims: Dims) -> ir.Node:
    """The cotangent of the argument."""
    match node.op:
        case "softmax":
            mean = total(mul(node, ct), node.over, dims)
            return mul(node, pointwise("sub", ct, mean))
        case "log_softmax":
            share = mul(build.map_("exp", node), total(ct, node.over, dims))
            return masked(node.where, pointwise("sub", ct, share))
        case "cumsum":
            return _later(ct, node.over[0], dims)
        case "cumprod":
            return _cumprod(node, ct, dims)
        case "top":
            return select(_kept(node), ct, ZERO)
        case _ if node.over[0] not in node.arg.type.dims:
            raise build.Issue("E0315", f"`grad` cannot go through this `{node.op}`")
        case "logcumsumexp":
            return _logcumsumexp(node, ct, dims)
        case _:
            return _record(node, ct, dims)


def _later(ct: ir.Node, dim: str, dims: Dims) -> ir.Node:
    """Sums over this and all later entries of `dim`."""
    if dim in dims.copies:
        ct = _vary(ct, dim)
        rest = pointwise("sub", ct, build.along("cumsum", ct, (dim,)))
        return pointwise("add", rest, build.reduce("sum", ct, (dim,)))
    turned = build.along("cumsum", _flip(spread(ct, (dim,)), dim, dims), (dim,))
    return _flip(turned, dim, dims)


def _vary(ct: ir.Node, copy: str) -> ir.Node:
    if copy in ct.type.axes:
        return ct
    everywhere = build.map_("ge", build.position(copy, axis=True), build.const(0))
    return build.map_("mul", build.map_("float", everywhere), ct)


def _flip(node: ir.Node, dim: str, dims: Dims) -> ir.Node:
    other = dims.fresh(dim)
    last = build.const(apply("-", dims.extent(dim), Lit(1)))
    place = build.map_("int", last) if last.type.dtype == "float" else last
    index = build.map_("sub", place, build.position(dim, axis=False))
    return build.gather(build.rename(node, [(dim, other)]), other, index)


def _cumprod(node: ir.Along, ct: ir.Node, dims: Dims) -> ir.Node:
    """Products of the other entries so far, also where entries are zero."""
    dim = node.over[0]
    arg: ir.Node = node.arg
    y: ir.Node = node
    zero = pointwise("eq", arg, ZERO)
    others = select(zero, ONE, arg)
    rest: ir.Node = build.along("cumprod", others, (dim,))
    seen = build.along("cumsum", build.map_("float", zero), (dim,))
    once = pointwise("eq", seen, ONE)
    if arg.type.dtype == "complex":
        others, rest, y = (build.map_("conj", n) for n in (others, rest, y))
    at_zero = _later(select(once, mul(rest, ct), ZERO), dim, dims)
    elsewhere = pointwise("div", _later(mul(y, ct), dim, dims), others)
    return select(zero, select(once, at_zero, ZERO), elsewhere)


def _kept(node: ir.Along) -> ir.Node:
    """Which entries `top` keeps; an entry that is kept may itself be 0."""
    (dim,) = node.over
    low = build.reduce("min", node.arg, (dim,))
    above = pointwise("add", pointwise("sub", node.arg, low), ONE)
    again = build.along("top", above, (dim,), count=node.count)
    zero = pointwise("eq", node.arg, ZERO)
    also = pointwise("and", zero, pointwise("ne", again, ZERO))
    return pointwise("or", pointwise("ne", node, ZERO), also)


def _logcumsumexp(node: ir.Along, ct: ir.Node, dims: Dims) -> ir.Node:
    """Sum over later entries j of `ct[j] * exp(a - y[j])`, never overflowing."""
    (dim,) = node.over
    later = dims.fresh(dim)
    here = build.position(dim, axis=False)
    there = build.position(later, axis=False)
    y = build.rename(node, [(dim, later)])
    weight = build.map_("exp", pointwise("sub", node.arg, y))
    ct = build.rename(spread(ct, (dim,)), [(dim, later)])
    reached = pointwise("ge", there, here)
    return build.reduce("sum", select(reached, mul(weight, ct), ZERO), (later,))


def _record(node: ir.Along, ct: ir.Node, dims: Dims) -> ir.Node:
    """cummax and cummin: an entry gets what reached it; the latest of a tie does."""
    (dim,) = node.over
    later = dims.fresh(dim)
    place = mul(build.position(dim, axis=False), build.map_("int", ones(dim)))
    new = pointwise("eq", node.arg, node)
    record = build.along("cummax", select(new, place, build.const(-1)), (dim,))
    there = build.rename(record, [(dim, later)])
    ct = build.rename(spread(ct, (dim,)), [(dim, later)])
    chosen = build.map_("float", pointwise("eq", spread(there, (dim,)), place))
    return build.reduce("sum", mul(chosen, ct), (later,))
