"""Nonlinear functions of normal forms, as factors of their own."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

from seqdsl.analysis.terms import Factor, Poly, Term, collect
from seqdsl.ir import nodes as ir

if TYPE_CHECKING:
    from seqdsl.analysis.normal import Normal


def arguments(factor: Factor) -> tuple[Poly, ...]:
    """What a nonlinear factor was applied to, under the factor's current names."""
    table = dict(zip(factor.own, factor.names, strict=True))
    return tuple(collect(t.renamed(table) for t in p) for p in factor.args)


def applied(normal: Normal, op: str, node: ir.Node, argument: Poly) -> Poly:
    """`op(argument)` as a factor indexed by all that the argument is indexed by."""
    names = sorted({n for t in argument for n in t.free})
    key = normal.interner.key((op, tuple(names), frozenset(argument)))
    shape = replace(node.type, dims=tuple(names))
    shown = replace(node, type=shape)
    factor = Factor(
        "nonlinear", key, tuple(names), shown, op, tuple(names), (argument,)
    )
    return (Term(Fraction(1), (factor,)),)


def flipped(p: Poly) -> bool:
    """Whether `-p` is the one of `p` and `-p` that is written down."""
    first = min(p, key=lambda t: tuple((f.key, f.names) for f in t.factors))
    return first.scale < 0
