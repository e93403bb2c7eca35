"""Logs of sums of exponentials, in one form however they are written.

Exact over the real numbers: log(exp(a) + exp(b)) is a + softplus(b - a), softplus(p) is
p + softplus(-p), and log(sigmoid(p)) is -softplus(-p).
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING

from seqdsl.analysis.applied import applied, arguments, flipped
from seqdsl.analysis.positive import positive
from seqdsl.analysis.rebuild import poly_node
from seqdsl.analysis.terms import (
    Factor,
    Poly,
    Term,
    add,
    constant,
    is_free,
    scale,
)
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit

if TYPE_CHECKING:
    from seqdsl.analysis.normal import Normal


def softplus(normal: Normal, node: ir.Map, p: Poly) -> Poly:
    """softplus(p), of which p and -p differ by p."""
    if not p:
        return normal.free(build.map_("log", build.const(2.0)))
    if is_free(p):
        value = poly_node(p, normal.dims)
        assert value is not None
        return normal.free(build.map_("softplus", value))
    distance = _distance(p)
    if distance is not None:
        # A sum taken relative to the maximum: softplus(-|q|) is softplus(q) - max(q, 0).
        half = scale(add(p, scale(distance, Fraction(-1))), Fraction(1, 2))
        return add(softplus(normal, node, distance), half)
    if not flipped(p):
        return applied(normal, "softplus", node, p)
    return add(p, applied(normal, "softplus", node, scale(p, Fraction(-1))))


def _distance(p: Poly) -> Poly | None:
    """The q for which `p` is |q| or -|q|."""
    match p:
        case (Term(scale=sign, factors=(Factor(op="abs") as factor,), bound=bound),):
            return arguments(factor)[0] if abs(sign) == 1 and not bound else None
        case _:
            return None


def logarithm(normal: Normal, node: ir.Map, p: Poly) -> Poly:
    """log(p); complex logarithms have branches and undo nothing."""
    if node.type.dtype == "complex":
        return applied(normal, "log", node, p) if p else normal.opaque(node)
    inverse = _of_sigmoid(p)
    if inverse is not None:
        return scale(softplus(normal, node, inverse), Fraction(-1))
    exponents = [_exponent(normal, node, t) for t in _in_order(p)]
    kept = [e for e in exponents if e is not None]
    if len(kept) < len(p) or all(map(is_free, kept)):
        return applied(normal, "log", node, p) if p else normal.opaque(node)
    return log_of_sum(normal, node, kept)


def log_of(value: ir.Node) -> ir.Node:
    """log of a free value, a number for a number."""
    match value:
        case ir.Const(value=Lit(int(number) | float(number))) if number > 0:
            return build.const(math.log(number))
        case _:
            return build.map_("log", value)


def log_of_sum(normal: Normal, node: ir.Map, exponents: list[Poly]) -> Poly:
    """log(exp(a) + exp(b) + …) as a + softplus(b - a), and so on."""
    total, *others = exponents
    for other in others:
        gap = add(other, scale(total, Fraction(-1)))
        total = add(total, softplus(normal, node, gap))
    return total


def _of_sigmoid(p: Poly) -> Poly | None:
    """The q for which `p` is 1 / (1 + exp(q)): `p` is sigmoid(-q) or 1 - sigmoid(q)."""
    (one,) = constant(Fraction(1))
    rest = [t for t in p if t != one]
    if len(rest) != 1 or len(rest[0].factors) != 1 or rest[0].bound:
        return None
    (factor,) = rest[0].factors
    sign = -1 if len(p) == 2 else 1
    if factor.op != "sigmoid" or rest[0].scale != sign:
        return None
    return scale(arguments(factor)[0], Fraction(-sign))


def _in_order(p: Poly) -> list[Term]:
    return sorted(p, key=lambda t: tuple((f.key, f.names) for f in t.factors))


def _exponent(normal: Normal, node: ir.Map, term: Term) -> Poly | None:
    """The log of a term that is positive: a number times an exponential.

    It may be divided by sums of such: log(p / q) is log(p) - log(q) where it exists.
    """
    exps = [f for f in term.factors if f.op == "exp"]
    below = [f for f in term.factors if f.op == "reciprocal"]
    rest = tuple(f for f in term.factors if f.op not in ("exp", "reciprocal"))
    known = all(f.kind == "free" and positive(normal.model, f.node) for f in rest)
    if term.scale <= 0 or term.bound or len(exps) > 1 or not known:
        return None
    exponent = arguments(exps[0])[0] if exps else ()
    for factor in below:
        (divisor,) = arguments(factor)
        if not all(_exponent(normal, node, t) is not None for t in divisor):
            return None
        minus = scale(logarithm(normal, node, divisor), Fraction(-1))
        exponent = add(exponent, minus)
    if term.scale != 1:
        number = build.const(float(term.scale))
        exponent = add(exponent, normal.free(log_of(number)))
    if not rest:
        return exponent
    value = poly_node((Term(Fraction(1), rest),), normal.dims)
    assert value is not None
    return add(exponent, normal.free(log_of(value)))
