"""Maxima, minima and sums of exponentials that only show in the normal form.

There a maximum is half of sum plus distance and a log of a sum of exponentials is made
of softplus. Taken apart at its outermost such factor, a value is a sum, in the
semiring, of two simpler ones: `r + c * |q|` is the larger of `r + c * q` and
`r - c * q` for c > 0 (the smaller for c < 0), `r + softplus(q)` is the log of
`exp(r) + exp(r + q)`.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import Literal

from seqdsl.analysis.applied import arguments
from seqdsl.analysis.normal import Normal
from seqdsl.analysis.terms import Factor, Poly, Term, add, scale

LIMIT = 32
"""A value that is made of more is given up."""


def unfolded(
    normal: Normal, poly: Poly, semiring: Literal["log", "max_plus", "min_plus"]
) -> list[Poly] | None:
    """The values whose sum in the semiring is `poly`; None where there are none."""
    done: list[Poly] = []
    todo = [poly]
    while todo:
        current = todo.pop()
        bad = normal.bad(current)
        if not bad:
            done.append(current)
            continue
        if not all(_folds(t, semiring) for t in bad):
            return None
        todo.extend(_split(current, _outermost(bad)))
        if len(done) + len(todo) > LIMIT:
            return None
    return done


def _folds(term: Term, semiring: str) -> bool:
    if len(term.factors) != 1 or term.bound:
        return False
    match semiring, term.factors[0].op:
        case "log", "softplus":
            return term.scale == 1
        case "max_plus", "abs":
            return term.scale > 0
        case "min_plus", "abs":
            return term.scale < 0
        case _:
            return False


def _outermost(terms: Poly) -> Term:
    """A term that is inside no other: when it is gone, what is inside may cancel."""
    inside = {key for t in terms for key in _keys(arguments(t.factors[0]))}
    return next((t for t in terms if t.factors[0].key not in inside), terms[0])


def _keys(polys: Iterable[Poly]) -> set[int]:
    factors: list[Factor] = [f for p in polys for t in p for f in t.factors]
    inner = set[int]().union(*(_keys(f.args) for f in factors))
    return inner | {f.key for f in factors}


def _split(poly: Poly, term: Term) -> tuple[Poly, Poly]:
    rest = add(poly, (Term(-term.scale, term.factors),))
    (argument,) = arguments(term.factors[0])
    if term.factors[0].op == "softplus":
        return rest, add(rest, argument)
    part = scale(argument, abs(term.scale))
    return add(rest, part), add(rest, scale(part, Fraction(-1)))
