"""Cotangents through operators along a dim that keep the shape."""

from __future__ import annotations

from dataclasses import replace

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
from seqdsl.ir.walk import children, with_children


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


def _along(ct: ir.Node, dim: str, dims: Dims) -> ir.Node:
    """`ct` with an entry for each of a dim or a copy of time."""
    return _vary(ct, dim) if dim in dims.copies else spread(ct, (dim,))


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
    later = _Other(dim, dims)
    here = build.position(dim, axis=later.copied)
    weight = build.map_("exp", pointwise("sub", node.arg, later.of(node)))
    reached = pointwise("ge", later.place, here)
    ct = later.of(_along(ct, dim, dims))
    return later.total(select(reached, mul(weight, ct), ZERO))


def _record(node: ir.Along, ct: ir.Node, dims: Dims) -> ir.Node:
    """cummax and cummin: an entry gets what reached it; the latest of a tie does."""
    (dim,) = node.over
    later = _Other(dim, dims)
    place = _places(dim, dims)
    there = later.of(_records(node, place))
    ct = later.of(_along(ct, dim, dims))
    there = there if later.copied else spread(there, (dim,))
    chosen = build.map_("float", pointwise("eq", there, place))
    return later.total(mul(chosen, ct))


def push_along(node: ir.Along, tangent: ir.Node, dims: Dims) -> ir.Node:
    """The tangent of cummax, cummin or logcumsumexp: of the entries that make each."""
    (dim,) = node.over
    earlier = _Other(dim, dims)
    own = earlier.of(_along(tangent, dim, dims))
    if node.op == "logcumsumexp":
        here = build.position(dim, axis=earlier.copied)
        weight = build.map_("exp", pointwise("sub", earlier.of(node.arg), node))
        reached = pointwise("le", earlier.place, here)
        return earlier.total(select(reached, mul(weight, own), ZERO))
    record = _records(node, _places(dim, dims))
    record = record if earlier.copied else spread(record, (earlier.name,))
    chosen = build.map_("float", pointwise("eq", record, earlier.place))
    return earlier.total(mul(chosen, own))


def _records(node: ir.Along, place: ir.Node) -> ir.Node:
    """Where the extreme so far stands."""
    new = pointwise("eq", node.arg, node)
    return build.along("cummax", select(new, place, build.const(-1)), node.over)


def _places(dim: str, dims: Dims) -> ir.Node:
    """The index along a dim or a copy of time."""
    if dim in dims.copies:
        return build.position(dim, axis=True)
    return mul(build.position(dim, axis=False), build.map_("int", ones(dim)))


class _Other:
    """A second index along a dim or a copy of time."""

    def __init__(self, dim: str, dims: Dims) -> None:
        self.copied = dim in dims.copies
        self.dim = dim
        self.name = dims.another(dim) if self.copied else dims.fresh(dim)
        self.place = build.position(self.name, axis=self.copied)

    def of(self, node: ir.Node) -> ir.Node:
        """`node` at that index."""
        if self.copied:
            return moved(node, self.dim, self.name)
        return build.rename(node, [(self.dim, self.name)])

    def total(self, node: ir.Node) -> ir.Node:
        """The sum over that index."""
        return build.reduce("sum", node, (self.name,))


def moved(node: ir.Node, copy: str, to: str) -> ir.Node:
    """`node` along another copy of time; raises `build.Issue` (E0315) for rows of a state."""
    if copy not in node.type.axes:
        return node
    match node:
        case ir.Position():
            return build.position(to, axis=True)
        case ir.Copy(arg=arg) if copy not in arg.type.axes:
            return build.copy(arg, to, node.span)
        case ir.Ref() | ir.Shift() | ir.At() | ir.Stack() | ir.Copy():
            raise build.Issue(
                "E0315",
                f"`grad` cannot go through a running extreme or logcumsumexp over rows `{copy}`",
            )
        case _:
            new = tuple(moved(child, copy, to) for child in children(node))
            node = with_children(node, new)
            if isinstance(node, ir.Along):
                node = replace(
                    node, over=tuple(to if d == copy else d for d in node.over)
                )
            axes = node.type.axes - {copy} | {to}
            return replace(node, type=replace(node.type, axes=axes))
