"""The two sides of a low-rank term: what reads the state and what writes to it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from seqdsl.analysis.terms import Factor, Term
from seqdsl.differentiate.broadcast import Dims
from seqdsl.ir.sizes import Lit, Size, apply

ONE: Size = Lit(1)


@dataclass(frozen=True)
class Sides:
    """`sum[inner](rows * sum[summed](columns * state))`; `inner` are index names."""

    rows: tuple[Factor, ...]
    columns: tuple[Factor, ...]
    inner: frozenset[str]


def sides_of(term: Term, summed: dict[str, str]) -> Sides | None:
    """The sides of a term that sums the state's dims `summed` (dim to index name).

    None where one factor has both a summed index and the same dim of the result: that
    is a matrix of any rank.
    """
    own, gone = set(summed), set(summed.values())
    rows = [f for f in term.passive if own & set(f.names)]
    reached = gone | set[str]().union(*(f.names for f in rows if gone & set(f.names)))
    if any(gone & set(f.names) for f in rows):
        return None
    columns = [f for f in term.passive if gone & set(f.names)]
    others = [f for f in term.passive if f not in rows and f not in columns]
    growing = True
    while growing:
        reached |= {n for f in columns for n in f.names if n in term.bound}
        tied = [f for f in others if reached & set(f.names)]
        others = [f for f in others if f not in tied]
        columns.extend(tied)
        growing = bool(tied)
    rows.extend(others)
    inner = reached & {n for f in rows for n in f.names} & term.bound
    return Sides(tuple(rows), tuple(columns), frozenset(inner))


def rank_of(factors: Iterable[Factor], inner: frozenset[str], dims: Dims) -> Size:
    """How many products of vectors a sum over `inner` adds up."""
    found: dict[str, Size] = {}
    for factor in factors:
        for dim, name in zip(factor.node.type.dims, factor.names, strict=True):
            if name in inner:
                found[name] = dims.extent(dim)
    return product_of(list(found.values()))


def product_of(sizes: Sequence[Size]) -> Size:
    """The product of some sizes."""
    result = ONE
    for size in sizes:
        result = size if result == ONE else apply("*", result, size)
    return result


def sum_of(sizes: Sequence[Size]) -> Size:
    """The sum of some sizes."""
    result: Size = Lit(0)
    for size in sizes:
        result = size if result == Lit(0) else apply("+", result, size)
    return result


def known_rank(rank: Size | None) -> int | None:
    """A rank as a number, where it does not depend on the layer's options."""
    match rank:
        case Lit(int(value)):
            return value
        case _:
            return None


def at_least(rank: Size, full: Size) -> bool:
    """Whether a sum of `rank` products of vectors is known to be any matrix at all."""
    if rank == full:
        return rank != ONE
    match rank, full:
        case Lit(int(r)), Lit(int(f)):
            return 1 < r >= f
        case _:
            return False
