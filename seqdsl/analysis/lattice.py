"""Updates that are affine in (max, min), or over bools in (or, and).

By distributivity any nest of maxima and minima is a maximum of minima; it is affine
where no minimum holds two reads of the state.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from seqdsl.analysis.normal import Normal
from seqdsl.analysis.terms import LIMIT
from seqdsl.analysis.tropical import NoForm
from seqdsl.differentiate.broadcast import shaped
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.walk import children, with_children


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
        case ir.Map(op="not", args=(a,)):
            return join_of(normal, _negated(normal, a), bools)
        case ir.Reduce(op="any" | "max", arg=arg, over=over, where=None):
            if not all(d in arg.type.dims for d in over):
                raise NoForm
            return tuple(_reduced(m, over) for m in join_of(normal, arg, bools))
        case ir.Rename(arg=arg) | ir.Split(arg=arg) | ir.Merge(arg=arg):
            return tuple(_moved(node, m) for m in join_of(normal, arg, bools))
        case ir.SliceDim(arg=arg) | ir.Roll(arg=arg, wrap=True):
            return tuple(_moved(node, m) for m in join_of(normal, arg, bools))
        case _:
            raise NoForm


def _moved(node: ir.Node, meet: Meet) -> Meet:
    """A minimum with its entries where `node`, which only moves entries, puts them."""
    (arg,) = children(node)
    if meet.over or any(set(r.type.dims) != set(arg.type.dims) for r in meet.reads):
        raise NoForm

    def moved(value: ir.Node) -> ir.Node:
        inner = shaped(value, arg.type.dims)
        type_ = replace(node.type, axes=inner.type.axes)
        return replace(with_children(node, (inner,)), type=type_)

    return Meet(tuple(map(moved, meet.reads)), tuple(map(moved, meet.free)))


def _negated(normal: Normal, node: ir.Node) -> ir.Node:
    """`not node` with the negation moved inwards; raises `NoForm` at a read."""
    if not normal.active(node):
        return build.map_("not", node)
    match node:
        case ir.Ref(name=name) if name in normal.model.equation:
            return _negated(normal, normal.model.equation[name].expr)
        case ir.Map(op="not", args=(a,)):
            return a
        case ir.Map(op="and" | "or" as op, args=(a, b)):
            dual = "or" if op == "and" else "and"
            return build.map_(dual, _negated(normal, a), _negated(normal, b))
        case ir.Map(op="where", args=(c, a, b)) if not normal.active(c):
            return build.map_("where", c, _negated(normal, a), _negated(normal, b))
        case ir.Reduce(op="all", arg=arg, where=None):
            return build.reduce("any", _negated(normal, arg), node.over)
        case _:
            raise NoForm


def _reduced(meet: Meet, over: Iterable[str]) -> Meet:
    """The largest along `over`; what does not vary there stays as it is."""
    return Meet(meet.reads, meet.free, meet.over | (_dims(meet) & set(over)))


def _limited(join: Join) -> Join:
    if len(join) > LIMIT:
        raise NoForm
    return join


def _meets(a: Join, b: Join) -> Join:
    if len(a) * len(b) > LIMIT:
        raise NoForm
    return tuple(_both(x, y) for x in a for y in b)


def _both(a: Meet, b: Meet) -> Meet:
    """What does not vary along a dim may be taken into the maximum along it."""
    if a.over & (b.over | _dims(b)) or b.over & _dims(a):
        raise NoForm
    return Meet((*a.reads, *b.reads), (*a.free, *b.free), a.over | b.over)


def _dims(meet: Meet) -> set[str]:
    return {d for n in (*meet.reads, *meet.free) for d in n.type.dims}


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
