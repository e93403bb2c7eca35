"""Convolutions along time of what is linear in the state: recurrences of higher order.

Every tap reads the state one step earlier than the one after it. Before the first step
a convolution reads 0, but a state its initial value.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from seqdsl.analysis.graph import name_of
from seqdsl.analysis.rebuild import poly_node
from seqdsl.analysis.reindexing import Reindexer
from seqdsl.analysis.terms import Factor, Poly, Term, add, is_bad, multiply
from seqdsl.differentiate.broadcast import shaped
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit, Size
from seqdsl.ir.types import TIME
from seqdsl.ir.walk import children, subtree, with_children

if TYPE_CHECKING:
    from seqdsl.analysis.normal import Normal

TAPS = 16
"""A convolution of more taps is not written out."""


class Undelayed(Exception):
    """A value that cannot be read at an earlier step."""


def filtered(normal: Normal, node: ir.Conv) -> Poly:
    """The normal form of a convolution along time, tap by tap."""
    width, dilation = _whole(normal.dims.extent(node.taps[0])), _whole(node.dilation)
    poly = normal.poly(node.arg)
    plain = node.axes == (TIME,) and not normal.active(node.weight)
    plain = plain and not node.ahead
    if not plain or not width or not dilation or any(map(is_bad, poly)):
        return normal.opaque(node)
    active = tuple(t for t in poly if t.active)
    try:
        result = _free(normal, node, tuple(t for t in poly if not t.active))
        for tap in range(width):
            lag = (width - 1 - tap) * dilation
            weight = normal.free(
                build.gather(node.weight, node.taps[0], build.const(tap))
            )
            late = _delayed(normal, active, lag)
            part = multiply(weight, late, normal.interner)
            result = add(result, Reindexer(normal).summed(part, node.reduce))
    except (Undelayed, build.Issue):
        return normal.opaque(node)
    return result


def _whole(size: Size) -> int:
    """A number of at most `TAPS`, else 0."""
    value = size.value if isinstance(size, Lit) else 0
    return value if isinstance(value, int) and value <= TAPS else 0


def _free(normal: Normal, node: ir.Conv, poly: Poly) -> Poly:
    """What the convolution makes of the part that does not depend on the state."""
    value = poly_node(poly, normal.dims)
    if value is None:
        return ()
    if TIME not in value.type.axes:
        raise Undelayed
    arg = shaped(value, node.arg.type.dims)
    return normal.free(with_children(node, (arg, node.weight)))


def _delayed(normal: Normal, poly: Poly, lag: int) -> Poly:
    return tuple(
        replace(term, factors=(*_gate(normal, term, lag), *_late(normal, term, lag)))
        for term in poly
    )


def _late(normal: Normal, term: Term, lag: int) -> Iterable[Factor]:
    for factor in term.factors:
        made = normal.factor("free", _earlier(normal, factor.node, lag))
        same = made.names == made.node.type.dims == factor.node.type.dims
        if factor.kind == "nonlinear" or not same:
            raise Undelayed
        key = normal.interner.key((factor.kind, normal.interner.node(made.node)))
        yield replace(made, kind=factor.kind, key=key, names=factor.names)


def _earlier(normal: Normal, node: ir.Node, lag: int) -> ir.Node:
    """`node` as it was `lag` steps before."""
    if lag == 0 or TIME not in node.type.axes:
        return node
    match node:
        case ir.Ref():
            return build.shift(node, TIME, -lag, node.span)
        case ir.Shift(axis=axis, offset=offset) if axis == TIME and offset < 0:
            return replace(node, offset=offset - lag)
        case ir.Map() | ir.Rename() | ir.Split() | ir.Merge() | ir.Roll():
            below = (_earlier(normal, c, lag) for c in children(node))
            return with_children(node, tuple(below))
        case _:
            raise Undelayed


def _gate(normal: Normal, term: Term, lag: int) -> tuple[Factor, ...]:
    """0 before the first step, unless it is so by itself: the state is 0 there.

    What varies along time is not trusted with that, as it may be no number there.
    """
    reads = [n for n in subtree(term.active[0].node) if normal.is_read(n)]
    zero = (build.const(0), build.const(0.0))
    names = [
        name_of(n.arg) if isinstance(n, ir.Shift) else n.name
        for n in reads
        if isinstance(n, ir.Shift | ir.Ref)
    ]
    initials = [normal.model.state[name].initial for name in names]
    steady = not any(TIME in f.node.type.axes for f in term.passive)
    if lag == 0 or (steady and all(i in zero for i in initials)):
        return ()
    here = build.position(TIME, axis=True)
    (gate,) = normal.mask(build.map_("ge", here, build.const(lag)))
    return gate.factors
