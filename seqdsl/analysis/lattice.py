"""Updates that are affine in (max, min), or over bools in (or, and), and clamps.

By distributivity any nest of maxima and minima is a maximum of minima; it is affine
where no minimum holds two reads of the state.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from seqdsl.analysis.normal import Normal
from seqdsl.analysis.terms import LIMIT
from seqdsl.analysis.tropical import NoForm
from seqdsl.ir import build
from seqdsl.ir import nodes as ir


@dataclass(frozen=True)
class Meet:
    """The minimum of some reads of the state and some free values."""

    reads: tuple[ir.Node, ...]
    free: tuple[ir.Node, ...]
    over: frozenset[str] = frozenset()


Join = tuple[Meet, ...]


def join_of(normal: Normal, node: ir.Node, bools: bool) -> Join:
    """`node` as a maximum of minima (`or` of `and`s); raises `NoForm`."""
    if not normal.active(node):
        return (Meet((), (node,)),)
    if normal.is_read(node):
        return (Meet((node,), ()),)
    match node:
        case ir.Ref(name=name) if name in normal.model.equation:
            return join_of(normal, normal.model.equation[name].expr, bools)
        case ir.Map(op="or" | "max" as op, args=(a, b)) if (op == "or") == bools:
            return _limited((*join_of(normal, a, bools), *join_of(normal, b, bools)))
        case ir.Map(op="and" | "min" as op, args=(a, b)) if (op == "and") == bools:
            return _meets(join_of(normal, a, bools), join_of(normal, b, bools))
        case ir.Map(op="relu", args=(a,)):
            return (*join_of(normal, a, bools), Meet((), (build.const(0.0),)))
        case ir.Map(op="where", args=(c, a, b)) if not normal.active(c):
            return _choice(normal, c, a, b, bools)
        case ir.Reduce(op="any" | "max", arg=arg, over=over, where=None):
            if not all(d in arg.type.dims for d in over):
                raise NoForm
            return tuple(_reduced(m, over) for m in join_of(normal, arg, bools))
        case _:
            raise NoForm


def _reduced(meet: Meet, over: Iterable[str]) -> Meet:
    """The largest along `over`; what does not vary there stays as it is."""
    dims = {d for n in (*meet.reads, *meet.free) for d in n.type.dims}
    return Meet(meet.reads, meet.free, meet.over | (dims & set(over)))


def _limited(join: Join) -> Join:
    if len(join) > LIMIT:
        raise NoForm
    return join


def _meets(a: Join, b: Join) -> Join:
    if len(a) * len(b) > LIMIT or any(m.over for m in (*a, *b)):
        raise NoForm
    return tuple(Meet((*x.reads, *y.reads), (*x.free, *y.free)) for x in a for y in b)


def _choice(normal: Normal, c: ir.Node, a: ir.Node, b: ir.Node, bools: bool) -> Join:
    unless = build.map_("not", c)
    then, otherwise = join_of(normal, a, bools), join_of(normal, b, bools)
    return _limited((*_given(c, then, bools), *_given(unless, otherwise, bools)))


def _given(condition: ir.Node, join: Join, bools: bool) -> Iterable[Meet]:
    if any(m.over & set(condition.type.dims) for m in join):
        raise NoForm  # the condition chooses per entry of what has been reduced
    high, low = build.const(math.inf), build.const(-math.inf)
    gate = condition if bools else build.map_("where", condition, high, low)
    return [Meet(m.reads, (*m.free, gate), m.over) for m in join]


# ---- Clamps


@dataclass(frozen=True)
class Clamp:
    """`min(max(read + shift, low), high)`, which is closed under composition."""

    read: ir.Node
    shift: ir.Node
    low: ir.Node
    high: ir.Node


def clamp_of(normal: Normal, node: ir.Node) -> Clamp:
    """`node` as a clamp of the one read of the state in it; raises `NoForm`."""
    if normal.is_read(node):
        return Clamp(
            node, build.const(0.0), build.const(-math.inf), build.const(math.inf)
        )
    match node:
        case ir.Ref(name=name) if name in normal.model.equation:
            return clamp_of(normal, normal.model.equation[name].expr)
        case ir.Map(op="max" | "min" | "add" as op, args=(a, b)):
            inner, other = (a, b) if normal.active(a) else (b, a)
            return _applied(normal, op, inner, other)
        case ir.Map(op="sub", args=(a, b)):
            return _applied(normal, "add", a, build.map_("neg", b))
        case ir.Map(op="relu", args=(a,)):
            return _applied(normal, "max", a, build.const(0.0))
        case ir.Map(op="where", args=(c, a, b)) if not normal.active(c):
            return _either(c, clamp_of(normal, a), clamp_of(normal, b))
        case _:
            raise NoForm


def _either(condition: ir.Node, a: Clamp, b: Clamp) -> Clamp:
    if a.read != b.read:
        raise NoForm  # one branch goes back further than the other
    shift, low, high = (
        build.map_("where", condition, x, y)
        for x, y in ((a.shift, b.shift), (a.low, b.low), (a.high, b.high))
    )
    return Clamp(a.read, shift, low, high)


def _applied(normal: Normal, op: str, inner: ir.Node, other: ir.Node) -> Clamp:
    if normal.active(other) or not normal.active(inner):
        raise NoForm
    old = clamp_of(normal, inner)
    bounds = (build.map_(op, old.low, other), build.map_(op, old.high, other))
    shift = build.map_("add", old.shift, other) if op == "add" else old.shift
    return Clamp(old.read, shift, *bounds)
