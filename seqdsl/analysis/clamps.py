"""Updates that are clamps of the state: `min(max(state + a, low), high)`, however written.

Clamps are read off maxima, minima, sums and multiples; off choices that meet where they
change over; and off the normal form, in which a clamp is half the difference of two
distances, `(|h + a| - |h + b|) / 2` with a not smaller than b.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from seqdsl.analysis.applied import arguments
from seqdsl.analysis.bounds import Bounds
from seqdsl.analysis.expand import expanded
from seqdsl.analysis.folded import folded
from seqdsl.analysis.normal import Normal
from seqdsl.analysis.rebuild import number, poly_node
from seqdsl.analysis.terms import Poly, Term, add, is_bad, is_free, same, scale
from seqdsl.analysis.tropical import NoForm
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit

HALF = Fraction(1, 2)


@dataclass(frozen=True)
class Clamp:
    """`min(max(times * read + shift, low), high)`, which is closed under composition."""

    read: ir.Node
    times: Fraction
    shift: ir.Node
    low: ir.Node
    high: ir.Node

    def scaled(self, by: Fraction) -> Clamp:
        """The clamp times a number that is not 0."""
        factor = build.const(number(by))
        shift, low, high = (
            _product(factor, n) for n in (self.shift, self.low, self.high)
        )
        ends = (low, high) if by > 0 else (high, low)
        return Clamp(self.read, self.times * by, shift, *ends)

    def applied(self, op: str, other: ir.Node) -> Clamp:
        """`op` of the clamp and a free value: a sum, a maximum or a minimum."""
        low, high = (
            folded(build.map_(op, end, other)) for end in (self.low, self.high)
        )
        shift = build.map_("add", self.shift, other) if op == "add" else self.shift
        return Clamp(self.read, self.times, shift, low, high)


def _product(factor: ir.Const, node: ir.Node) -> ir.Node:
    if isinstance(node, ir.Const) and isinstance(node.value, Lit):
        return build.const(_scalar(factor) * _scalar(node))
    if _scalar(factor) == 1:
        return node
    minus = _scalar(factor) == -1
    return build.map_("neg", node) if minus else build.map_("mul", factor, node)


def _scalar(node: ir.Const) -> float:
    match node.value:
        case Lit(int(value) | float(value)):
            return value
        case _:
            return math.nan


def clamp_of(normal: Normal, node: ir.Node) -> Clamp:
    """`node` as a clamp of the one read of the state in it; raises `NoForm`."""
    try:
        return _written(normal, node)
    except NoForm:
        return _folded(normal, normal.poly(node))


def _written(normal: Normal, node: ir.Node) -> Clamp:
    poly = normal.poly(node)
    if not any(map(is_bad, poly)):
        return _plain(normal, poly)
    match node:
        case ir.Ref(name=name) if name in normal.model.equation:
            return _written(normal, normal.model.equation[name].expr)
        case ir.Map(op="max" | "min" | "add" as op, args=(a, b)):
            inner, other = (a, b) if normal.active(a) else (b, a)
            return _with(normal, op, clamp_of(normal, inner), other)
        case ir.Map(op="sub", args=(a, b)) if normal.active(a):
            minus = build.map_("neg", b)
            return _with(normal, "add", clamp_of(normal, a), minus)
        case ir.Map(op="sub", args=(a, b)):
            return _with(normal, "add", clamp_of(normal, b).scaled(Fraction(-1)), a)
        case ir.Map(op="neg", args=(a,)):
            return clamp_of(normal, a).scaled(Fraction(-1))
        case ir.Map(op="relu", args=(a,)):
            return clamp_of(normal, a).applied("max", build.const(0.0))
        case ir.Map(op="mul", args=(a, b)):
            inner, other = (a, b) if normal.active(a) else (b, a)
            return clamp_of(normal, inner).scaled(_number(normal, other))
        case ir.Map(op="div", args=(a, b)) if normal.active(a):
            return clamp_of(normal, a).scaled(1 / _number(normal, b))
        case ir.Map(op="where", args=(c, a, b)) if not normal.active(c):
            return _either(c, clamp_of(normal, a), clamp_of(normal, b))
        case ir.Map(op="where", args=(c, a, b)):
            return _meeting(normal, c, a, b)
        case _:
            raise NoForm


def _plain(normal: Normal, poly: Poly) -> Clamp:
    """A multiple of the state plus something free."""
    reads = [t for t in poly if t.active]
    if len(reads) != 1 or is_bad(reads[0]) or reads[0].passive or reads[0].bound:
        raise NoForm
    rest = poly_node(tuple(t for t in poly if not t.active), normal.dims)
    shift = build.const(0.0) if rest is None else rest
    ends = build.const(-math.inf), build.const(math.inf)
    return Clamp(reads[0].active[0].node, reads[0].scale, shift, *ends)


def _with(normal: Normal, op: str, clamp: Clamp, other: ir.Node) -> Clamp:
    if normal.active(other):
        raise NoForm
    return clamp.applied(op, other)


def _number(normal: Normal, node: ir.Node) -> Fraction:
    """The number other than 0 that `node` is; raises `NoForm`."""
    if normal.active(node):
        raise NoForm
    value = _constant(_value(normal, node))
    if not value:
        raise NoForm
    return value


def _value(normal: Normal, node: ir.Node) -> Poly:
    """A free value with its sums taken apart, so that what cancels does."""
    return expanded(normal, normal.poly(node))


def _constant(poly: Poly) -> Fraction | None:
    match poly:
        case ():
            return Fraction(0)
        case (Term(scale=value, factors=()),):
            return value
        case _:
            return None


def _either(condition: ir.Node, a: Clamp, b: Clamp) -> Clamp:
    if a.read != b.read or a.times != b.times:
        raise NoForm  # one branch reads an earlier step than the other, or a multiple
    shift, low, high = (
        build.map_("where", condition, x, y)
        for x, y in ((a.shift, b.shift), (a.low, b.low), (a.high, b.high))
    )
    return Clamp(a.read, a.times, shift, low, high)


# ---- Choices that depend on the state


def _meeting(normal: Normal, c: ir.Node, a: ir.Node, b: ir.Node) -> Clamp:
    """`where(h > at, end, f)` with f = end where h = at: f cut off at `end`.

    A clamp rises or falls all the way, so that beyond `at` it is beyond `end`.
    """
    while isinstance(c, ir.Ref) and c.name in normal.model.equation:
        c = normal.model.equation[c.name].expr
    signs = {"gt": 1, "ge": 1, "lt": -1, "le": -1}
    if not isinstance(c, ir.Map) or c.op not in signs:
        raise NoForm
    above = signs[c.op]
    if normal.active(a):
        a, b, above = b, a, -above
    if normal.active(a):
        raise NoForm
    gap = add(normal.poly(c.args[0]), scale(normal.poly(c.args[1]), Fraction(-1)))
    threshold = _plain(normal, gap)
    inner = clamp_of(normal, b)
    if inner.read != threshold.read or not _meets(normal, threshold, inner, a):
        raise NoForm
    rising = (inner.times > 0) == (threshold.times > 0)
    return inner.applied("min" if (above > 0) == rising else "max", a)


def _meets(normal: Normal, threshold: Clamp, inner: Clamp, end: ir.Node) -> bool:
    """Whether `inner` is `end` where the state is at the threshold."""
    at = scale(_value(normal, threshold.shift), -inner.times / threshold.times)
    there = add(at, _value(normal, inner.shift))
    ends = [inner.low, inner.high]
    low, high = (_bounded(normal, e, end) for e in ends)
    return same(there, _value(normal, end)) and low <= 0 <= high


def _bounded(normal: Normal, node: ir.Node, end: ir.Node) -> float:
    """`node - end` as a number; nan where it is none."""
    if isinstance(node, ir.Const) and node in _INFINITE:
        return -math.inf if node == _INFINITE[0] else math.inf
    gap = add(_value(normal, node), scale(_value(normal, end), Fraction(-1)))
    value = _constant(gap)
    return math.nan if value is None else float(value)


_INFINITE = (build.const(-math.inf), build.const(math.inf))


# ---- In the normal form


def _folded(normal: Normal, poly: Poly) -> Clamp:
    """`d + (|h + a| - |h + b|) / 2` with a >= b: h + d + (a + b) / 2 between two ends."""
    gaps = [t for t in poly if t.active]
    if len(gaps) != 2 or {t.scale for t in gaps} != {HALF, -HALF}:
        raise NoForm
    up, down = sorted(gaps, key=lambda t: -t.scale)
    a, b = (_plain(normal, _distance(t)) for t in (up, down))
    if a.read != b.read or abs(a.times) != abs(b.times):
        raise NoForm
    first, second = (_value(normal, c.scaled(_sign(c)).shift) for c in (a, b))
    width = scale(add(first, scale(second, Fraction(-1))), HALF)
    if not _not_negative(normal, width):
        raise NoForm
    middle = expanded(normal, tuple(t for t in poly if not t.active))
    mean = scale(add(first, second), HALF)
    shift, low, high = (
        poly_node(p, normal.dims) or build.const(0.0)
        for p in (
            add(middle, mean),
            add(middle, scale(width, Fraction(-1))),
            add(middle, width),
        )
    )
    return Clamp(a.read, abs(a.times), shift, low, high)


def _sign(clamp: Clamp) -> Fraction:
    return Fraction(1 if clamp.times > 0 else -1)


def _distance(term: Term) -> Poly:
    """What the absolute value is taken of."""
    alone = len(term.factors) == 1 and not term.bound
    if not alone or term.factors[0].op != "abs":
        raise NoForm
    (inside,) = arguments(term.factors[0])
    if any(map(is_bad, inside)):
        raise NoForm
    return inside


def _not_negative(normal: Normal, poly: Poly) -> bool:
    value = _constant(poly)
    if value is not None:
        return value >= 0
    node = poly_node(poly, normal.dims) if is_free(poly) else None
    return node is not None and Bounds(normal.model).of(node).low >= 0
