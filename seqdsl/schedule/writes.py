"""The low-rank part and the offset of affine updates as few products of vectors.

Every product is `left * other`, `other` being a read of a state or a value. Products
with the same `other`, or with the same `left`, are one: so n erases in a row have rank n
although multiplying them out gives n² terms.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from seqdsl.analysis.rebuild import poly_node
from seqdsl.analysis.structure import Part
from seqdsl.analysis.terms import Factor, Poly, Term, collect
from seqdsl.differentiate.broadcast import ZERO, Dims
from seqdsl.ir import nodes as ir
from seqdsl.schedule.forms import Write


@dataclass(frozen=True)
class Piece:
    """`left * other`, added to `target` and summed over `inner`.

    `other` reads `source`, or is a value where that is None. `inner` are pairs of an
    index name and the dim whose size it has.
    """

    target: str
    source: str | None
    left: Term
    other: Term
    inner: tuple[tuple[str, str], ...]


def erase(part: Part) -> Piece:
    """A low-rank term of an update."""
    (state,) = part.term.active
    pairs = zip(state.node.type.dims, state.names, strict=True)
    rows = {n: d for d, n in pairs if d in part.contracted}
    left = Term(part.term.scale, part.rows)
    right = Term(Fraction(1), tuple(f.renamed(rows) for f in part.columns))
    bound = part.term.bound - set(rows)
    return _piece(part.target, part.source, left, right, bound)


def write(
    target: str, rows: frozenset[str], columns: frozenset[str], term: Term
) -> Piece:
    """A term of an offset, split into what goes along rows and what along columns."""
    left = [f for f in term.factors if set(f.names) & rows]
    others = [f for f in term.factors if f not in left]
    value = [f for f in others if set(f.names) & columns]
    loose = [f for f in others if f not in value]
    for side in (left, value):
        # What only one side is summed with belongs to that side.
        growing = True
        while growing:
            held = {n for f in side for n in f.names} & term.bound
            tied = [f for f in loose if held & set(f.names)]
            side.extend(tied)
            loose = [f for f in loose if f not in tied]
            growing = bool(tied)
    left.extend(loose)
    first = Term(term.scale, tuple(left))
    return _piece(target, None, first, Term(Fraction(1), tuple(value)), term.bound)


def _piece(
    target: str, source: str | None, left: Term, other: Term, bound: frozenset[str]
) -> Piece:
    """Shared summed indices under names by first use, the others inside their side."""
    shared = left.indices & other.indices & bound
    ordered = sorted(other.factors, key=lambda f: f.key)
    dims: dict[str, str] = {}
    for factor in ordered:
        for dim, name in zip(factor.node.type.dims, factor.names, strict=True):
            if name in shared:
                dims.setdefault(name, dim)
    table = {n: f"~{i}" for i, n in enumerate(dims)}
    left = _side(left, table, bound - shared)
    other = _side(other, table, bound - shared)
    inner = tuple((table[n], d) for n, d in dims.items())
    return _scaled(Piece(target, source, left, other, inner))


def _side(term: Term, table: Mapping[str, str], bound: frozenset[str]) -> Term:
    factors = tuple(f.renamed(table) for f in term.factors)
    indices = {n for f in factors for n in f.names}
    (made,) = collect([Term(term.scale, factors, bound & indices)])
    return made


def _scaled(piece: Piece) -> Piece:
    """All of the scale in `left`."""
    scale = piece.left.scale * piece.other.scale
    left, other = (
        replace(piece.left, scale=scale),
        replace(piece.other, scale=Fraction(1)),
    )
    return replace(piece, left=left, other=other)


# ---- Groups


@dataclass(frozen=True)
class Group:
    """`sum over targets of left` times `sum over sources of others`."""

    left: Mapping[str, Poly]
    others: Mapping[str | None, Poly]
    inner: tuple[tuple[str, str], ...]

    @property
    def erases(self) -> bool:
        """Whether it reads a state."""
        return any(source is not None for source in self.others)


def groups(pieces: Iterable[Piece], rows: frozenset[str]) -> list[Group]:
    """The pieces as few products: those with the least rank, then the shortest sides."""
    pieces = list(pieces)
    found = [
        _merged(_by_other(pieces), rows),
        _merged(_by_left(pieces, rows), rows),
        _merged(_by_other(pieces), rows, pull=False),
    ]
    return min(found, key=lambda g: (sum(w.erases for w in g), len(g), _passes(g)))


def _passes(groups: Sequence[Group]) -> int:
    """How many products of whole vectors the sides of writes are made by."""
    sides = [p for g in groups for p in (*g.left.values(), *g.others.values())]
    return sum(map(_products, (t for poly in sides for t in poly)))


def _products(term: Term) -> int:
    """Vectors are multiplied with each other, and once with all numbers together."""
    wide = max((len(f.names) for f in term.factors), default=0)
    vectors = sum(len(f.names) == wide for f in term.factors)
    numbers = len(term.factors) > vectors or abs(term.scale) != 1
    return max(0, vectors - 1) + numbers


def _by_other(pieces: Sequence[Piece]) -> list[Group]:
    found: dict[object, Group] = {}
    for piece in pieces:
        key = (piece.source, piece.other, piece.inner)
        known = found.get(key)
        left = dict(known.left) if known is not None else {}
        left[piece.target] = collect((*left.get(piece.target, ()), piece.left))
        found[key] = Group(left, {piece.source: (piece.other,)}, piece.inner)
    kept = [
        replace(g, left={t: p for t, p in g.left.items() if p}) for g in found.values()
    ]
    return [g for g in kept if g.left]


def _by_left(pieces: Sequence[Piece], rows: frozenset[str]) -> list[Group]:
    return [
        _pulled(Group({p.target: (p.left,)}, {p.source: (p.other,)}, p.inner), rows)
        for p in pieces
    ]


def _merged(
    groups: Sequence[Group], rows: frozenset[str], pull: bool = True
) -> list[Group]:
    """Groups whose left sides are the same, up to what does not depend on the row."""
    found: dict[object, Group] = {}
    for group in groups:
        group = _pulled(group, rows, pull)
        key = (frozenset((t, frozenset(p)) for t, p in group.left.items()), group.inner)
        known = found.get(key)
        if known is not None:
            others = dict(known.others)
            for source, poly in group.others.items():
                others[source] = collect((*others.get(source, ()), *poly))
            others = {s: p for s, p in others.items() if p}
            group = replace(known, others=others)
        found[key] = group
    return [g for g in found.values() if g.others]


def _pulled(group: Group, rows: frozenset[str], pull: bool = True) -> Group:
    """A number, and to `pull` common factors that have no row, of left sides moved over."""
    terms = [t for poly in group.left.values() for t in poly]
    shared = Counter(f for f in terms[0].factors if _loose(f, terms[0], rows))
    for term in terms:
        shared &= Counter(term.factors)
    common = list(shared.elements()) if pull else []
    scale = terms[0].scale
    left = {
        target: tuple(
            Term(t.scale / scale, _without(t.factors, common), t.bound) for t in poly
        )
        for target, poly in group.left.items()
    }
    others = {
        source: collect(
            Term(t.scale * scale, (*common, *t.factors), t.bound) for t in poly
        )
        for source, poly in group.others.items()
    }
    return Group(left, others, group.inner)


def _loose(factor: Factor, term: Term, rows: frozenset[str]) -> bool:
    return not set(factor.names) & (rows | term.bound)


def _without(factors: Sequence[Factor], gone: Sequence[Factor]) -> tuple[Factor, ...]:
    kept = list(factors)
    for factor in gone:
        kept.remove(factor)
    return tuple(kept)


def node_of(group: Group, dims: Dims) -> Write:
    """A group as data for the schedule."""
    table = {name: dims.fresh(dim) for name, dim in group.inner}

    def side(poly: Poly) -> ir.Node:
        return poly_node(tuple(t.renamed(table) for t in poly), dims) or ZERO

    value = group.others.get(None)
    return Write(
        left={t: side(p) for t, p in group.left.items()},
        right={s: side(p) for s, p in group.others.items() if s is not None},
        value=None if value is None else side(value),
        inner=tuple(table.values()),
    )
