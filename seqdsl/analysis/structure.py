"""Reads the structure of a transition off the named indices of its terms."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from seqdsl.analysis import verdict
from seqdsl.analysis.expand import expanded
from seqdsl.analysis.graph import name_of
from seqdsl.analysis.normal import Normal
from seqdsl.analysis.rebuild import bound_names, named, number, poly_node, product
from seqdsl.analysis.sides import ONE, at_least, product_of, rank_of, sides_of, sum_of
from seqdsl.analysis.terms import Factor, Poly, Term
from seqdsl.analysis.verdict import Structure
from seqdsl.differentiate.broadcast import summed
from seqdsl.differentiate.simple import scaled
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit, Size
from seqdsl.ir.walk import children, subtree


@dataclass(frozen=True)
class Part:
    """One linear term of one state's update, classified.

    `rows` and `columns` are the factors of a low-rank term on either side, and
    `contracted` the state's dims that are summed; it is a sum of `rank` products, over
    the index names `inner`.
    """

    target: str
    source: str
    lag: int
    kind: str
    term: Term
    rows: tuple[Factor, ...] = ()
    columns: tuple[Factor, ...] = ()
    contracted: frozenset[str] = frozenset()
    inner: frozenset[str] = frozenset()
    rank: Size = ONE


def parts_of(
    normal: Normal, target: str, dims: Sequence[str], poly: Poly
) -> list[Part]:
    """The linear terms of an update in normal form."""
    return [_part(normal, target, dims, t) for t in poly if t.active]


def _part(normal: Normal, target: str, dims: Sequence[str], term: Term) -> Part:
    (factor,) = term.active
    read = _read_of(factor.node)
    lag = abs(read.offset) if isinstance(read, ir.Shift) else 0
    source = read.arg if isinstance(read, ir.Shift) else read
    part = Part(target, name_of(source), lag, "dense", term)
    if factor.node is not read:
        return part
    own = read.type.dims
    summed = {d: n for d, n in zip(own, factor.names, strict=True) if n in term.bound}
    kept = [(d, n) for d, n in zip(own, factor.names, strict=True) if d not in summed]
    if any(d != n for d, n in kept):
        return part
    if not summed:
        diagonal = set(own) == set(dims)
        return replace(part, kind="diagonal") if diagonal else part
    return _contraction(normal, part, summed)


def _read_of(node: ir.Node) -> ir.Shift | ir.Ref:
    """The read of the state inside a linear re-indexing of it."""
    shifts = (n for n in subtree(node) if isinstance(n, ir.Shift))
    refs = (n for n in subtree(node) if isinstance(n, ir.Ref))
    return next(shifts, None) or next(refs)


def _contraction(normal: Normal, part: Part, summed: dict[str, str]) -> Part:
    """Low rank where no factor ties a summed index to the same dim of the result."""
    sides = sides_of(part.term, summed)
    if sides is None:
        return part
    rank = rank_of(part.term.passive, sides.inner, normal.dims)
    full = product_of([normal.dims.extent(d) for d in summed])
    if at_least(rank, full):
        return part
    return replace(
        part,
        kind="low_rank",
        rows=sides.rows,
        columns=sides.columns,
        contracted=frozenset(summed),
        inner=sides.inner,
        rank=rank,
    )


# ---- The whole transition


@dataclass(frozen=True)
class Found:
    """The structure of a transition, None where nothing of the state is left."""

    structure: Structure | None
    rank: Size | None
    invariant: bool


def structure_of(
    normal: Normal, shapes: dict[str, tuple[str, ...]], polys: dict[str, Poly]
) -> Found:
    """The structure of the joint transition of several states."""
    parts = [
        p for s, poly in polys.items() for p in parts_of(normal, s, shapes[s], poly)
    ]
    diagonal = _diagonals(normal, parts)
    others = [p for p in parts if p.kind != "diagonal"]
    low = [p for p in others if p.kind == "low_rank"]
    terms = [p.term for p in others] + [t for _, poly in diagonal for t in poly]
    invariant = not any(_varies(normal, t) for t in terms)
    if not terms:
        return Found(None, None, True)
    if len(low) < len(others):
        return Found("dense", None, invariant)
    if not diagonal:
        return Found(*_low("", low), invariant)
    bases = [_base(shapes[s], poly, polys[s]) for (s, _, _), poly in diagonal]
    base = _ORDER[max(bases)]
    alone = len(shapes) == 1 and all(p.lag == 1 for p in parts)
    if low:
        scalar = "diagonal" if base == "diagonal" else "scalar"
        return Found(*_low(f"{scalar}_plus_", low), invariant)
    return Found(base if alone else "dense", None, invariant)


_ORDER: tuple[Literal["identity", "scalar", "diagonal"], ...] = (
    "identity",
    "scalar",
    "diagonal",
)


def _low(prefix: str, parts: list[Part]) -> tuple[Structure, Size | None]:
    """Low rank with its rank, if all of it is on the same side of the state."""
    if len({p.contracted for p in parts}) > 1:
        return "dense", None
    single = [p for p in parts if not p.inner]
    rows = {(p.target, _side(p.rows, p.contracted)) for p in single}
    columns = {(p.source, p.lag, _columns(p)) for p in single}
    ranks = [p.rank for p in parts if p.inner]
    if single:
        ranks.append(Lit(min(len(rows), len(columns))))
    names: dict[str, Structure] = {
        "": "low_rank",
        "scalar_plus_": "scalar_plus_low_rank",
        "diagonal_plus_": "diagonal_plus_low_rank",
    }
    return names[prefix], sum_of(ranks)


def _side(factors: Iterable[Factor], dims: Iterable[str]) -> frozenset[Factor]:
    """Those factors that make the vector, without what only scales it."""
    return frozenset(f for f in factors if set(dims) & set(f.names))


def _columns(part: Part) -> frozenset[tuple[Factor, ...]]:
    (state,) = part.term.active
    pairs = zip(state.node.type.dims, state.names, strict=True)
    table = {n: d for d, n in pairs if d in part.contracted}
    vector = _side((f.renamed(table) for f in part.columns), part.contracted)
    return frozenset((f,) for f in vector)


def _varies(normal: Normal, term: Term) -> bool:
    nodes = [f.node for f in term.passive]
    nodes += [f.node for f in term.active if not isinstance(f.node, ir.Shift)]
    # A re-indexed read varies because the state does; look at what is beside it.
    return any(_changes(normal, n) for n in nodes)


def _changes(normal: Normal, node: ir.Node) -> bool:
    if normal.is_read(node):
        return False
    below = children(node)
    if not normal.active(node) or not below:
        return normal.axis in node.type.axes
    return any(_changes(normal, c) for c in below)


def _diagonals(
    normal: Normal, parts: list[Part]
) -> list[tuple[tuple[str, str, int], Poly]]:
    """Coefficients of diagonal terms by target, source and lag, zeros left out."""
    sums: dict[tuple[str, str, int], list[Term]] = {}
    for part in parts:
        if part.kind == "diagonal":
            key = (part.target, part.source, part.lag)
            sums.setdefault(key, []).append(coefficient(part.term))
    written = {k: expanded(normal, tuple(v)) for k, v in sums.items()}
    return [(k, v) for k, v in written.items() if v]


def coefficient(term: Term) -> Term:
    """A term without its read of the state."""
    return Term(term.scale, term.passive, term.bound)


def _base(dims: tuple[str, ...], poly: Poly, update: Poly) -> int:
    """How a coefficient varies over the state's dims, as a place in `_ORDER`."""
    if poly == (Term(Fraction(1), ()),):
        return 0
    along = {n for t in poly for n in t.free} & set(dims)
    missing = set(dims) - along
    if not along:
        return 1
    if not missing:
        return 2
    return 1 if along <= _shared(dims, update) or len(missing) > 1 else 2


def _shared(dims: tuple[str, ...], update: Poly) -> set[str]:
    """State dims that count independent copies, as `heads`: all factors have them."""
    shared = set(dims)
    for term in update:
        for factor in term.factors:
            if set(factor.names) & set(dims):
                shared &= set(factor.names)
    return shared


# ---- For the scheduler


def affine_of(
    normal: Normal,
    state: str,
    dims: tuple[str, ...],
    poly: Poly,
    offset: ir.Node | None,
) -> verdict.Affine:
    """An update in normal form as data for the scheduler."""
    parts = parts_of(normal, state, dims, poly)
    own = tuple(
        coefficient(p.term)
        for p in parts
        if p.kind == "diagonal" and p.source == state and p.lag == 1
    )
    return verdict.Affine(
        state=state,
        terms=tuple(_term(normal, p) for p in parts),
        diagonal=poly_node(own, normal.dims),
        offset=offset,
    )


def _term(normal: Normal, part: Part) -> verdict.Term:
    term = part.term
    (state,) = term.active
    table = bound_names(term, normal.dims)
    scale = number(term.scale)
    values = [named(f, table) for f in term.passive if f.kind != "mask"]
    if scale != 1:
        values.insert(0, build.const(scale))
    result = verdict.Term(
        state=part.source,
        lag=part.lag,
        read=named(state, table),
        factors=tuple(values),
        masks=tuple(named(f, table) for f in term.passive if f.kind == "mask"),
        over=tuple(table.values()),
    )
    if part.kind == "diagonal":
        return replace(result, kind="diagonal")
    if part.kind != "low_rank":
        return result
    pairs = zip(state.node.type.dims, state.names, strict=True)
    back = {n: d for d, n in pairs if d in part.contracted}
    inner = tuple(table[n] for n in sorted(part.inner))
    loose = [n for n in table.values() if n not in inner]
    left = _over(product(part.rows, table), loose)
    return replace(
        result,
        kind="low_rank",
        left=scaled(scale, left),
        right=_over(product(part.columns, {**table, **back}), loose),
        contracted=tuple(d for d in state.node.type.dims if d in part.contracted),
        inner=inner,
    )


def _over(node: ir.Node, names: Iterable[str]) -> ir.Node:
    """The sum over those of `names` that `node` has: scalar products inside a side."""
    return summed(node, [n for n in names if n in node.type.dims])
