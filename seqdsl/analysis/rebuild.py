"""From terms back to nodes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction

from seqdsl.analysis.terms import Factor, Poly, Term
from seqdsl.differentiate.broadcast import ONE, ZERO, Dims, add, mul, select, shaped
from seqdsl.differentiate.simple import scaled
from seqdsl.ir import build
from seqdsl.ir import nodes as ir


def number(value: Fraction) -> int | float:
    """A fraction as the number a person would write."""
    return int(value) if value.denominator == 1 else float(value)


def named(factor: Factor, table: Mapping[str, str]) -> ir.Node:
    """A factor's value with its index names as dims; `table` names the summed ones."""
    names = [table.get(n, n) for n in factor.names]
    pairs = list(zip(factor.node.type.dims, names, strict=True))
    return build.rename(factor.node, pairs)


def bound_names(term: Term, dims: Dims) -> dict[str, str]:
    """New dims for the summed indices of a term."""
    table: dict[str, str] = {}
    for factor in term.factors:
        for dim, name in zip(factor.node.type.dims, factor.names, strict=True):
            if name in term.bound and name not in table:
                table[name] = dims.fresh(dim)
    return table


def product(factors: Iterable[Factor], table: Mapping[str, str]) -> ir.Node:
    """The product of factors, 0 where a mask says so."""
    kept = list(factors)
    values = [named(f, table) for f in kept if f.kind != "mask"]
    result = mul(*values) if values else ONE
    for factor in kept:
        if factor.kind == "mask":
            result = select(named(factor, table), result, ZERO)
    return result


def term_node(term: Term, dims: Dims) -> ir.Node:
    """A term as one node, which may lack dims along which it is constant."""
    table = bound_names(term, dims)
    masks = [f for f in term.factors if f.kind == "mask"]
    if term.bound and not masks:
        values = [named(f, table) for f in term.factors]
        result: ir.Node = build.contract(values, sorted(table.values()))
    else:
        result = product(term.factors, table)
        if term.bound:
            result = build.reduce("sum", result, sorted(table.values()))
    return scaled(number(term.scale), result)


def poly_node(poly: Poly, dims: Dims) -> ir.Node | None:
    """A sum of terms as one node; None for an empty sum."""
    result: ir.Node | None = None
    for term in poly:
        result = add(result, term_node(term, dims))
    return result


def whole(term: Term, shape: Sequence[str], dims: Dims) -> ir.Node:
    """A term as one node with the dims `shape`, in that order."""
    return shaped(term_node(term, dims), shape)
