"""From the normal form of an update back to one expression."""

from __future__ import annotations

from collections.abc import Mapping

from seqdsl.analysis.monoids import apply
from seqdsl.analysis.verdict import Affine, Semiring, Term, Verdict
from seqdsl.differentiate.broadcast import ZERO, add, mul, pointwise, select, spread
from seqdsl.ir import build
from seqdsl.ir import nodes as ir


def compose(update: Affine, semiring: Semiring) -> ir.Node:
    """The update as one expression, which may lack dims along which it is constant."""
    result: ir.Node | None = update.offset
    for term in update.terms:
        value = _real(term) if semiring == "real" else _other(term, semiring)
        if result is None:
            result = value
        elif semiring == "real":
            result = add(result, value)
        else:
            result = pointwise(_PLUS[semiring], result, value)
    return ZERO if result is None else result


def compose_monoid(
    verdict: Verdict, reads: Mapping[str, ir.Node]
) -> dict[str, ir.Node]:
    """The updates of all states of a monoid, given the reads of them."""
    assert verdict.monoid is not None
    return apply(verdict.monoid, verdict.entries, verdict.leaf, reads)


_PLUS = {
    "log": "logaddexp",
    "max_plus": "max",
    "min_plus": "min",
    "max_min": "max",
    "boolean": "or",
}
_TIMES = {
    "log": "add",
    "max_plus": "add",
    "min_plus": "add",
    "max_min": "min",
    "boolean": "and",
}
_SUM = {"log": "logsumexp", "min_plus": "min", "boolean": "any"}


def _real(term: Term) -> ir.Node:
    if term.kind == "low_rank":
        return _low_rank(term)
    value = mul(*term.factors, term.read)
    for mask in term.masks:
        value = select(mask, value, ZERO)
    value = spread(value, term.over)
    return build.reduce("sum", value, term.over) if term.over else value


def _low_rank(term: Term) -> ir.Node:
    """`sum(left * sum(right * state))`, the read under the state's own dims."""
    assert term.left is not None and term.right is not None
    read = term.read.arg if isinstance(term.read, ir.Rename) else term.read
    inner = spread(mul(term.right, read), term.contracted)
    value = mul(term.left, build.reduce("sum", inner, term.contracted))
    return build.reduce("sum", value, term.inner) if term.inner else value


def _other(term: Term, semiring: Semiring) -> ir.Node:
    value = term.read
    for factor in term.factors:
        value = pointwise(_TIMES[semiring], value, factor)
    if not term.over:
        return value
    return build.reduce(_SUM.get(semiring, "max"), value, term.over)
