"""Verdicts for recurrences that are affine, but not over the real numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from seqdsl.analysis import verdict as out
from seqdsl.analysis.automata import automaton_verdict
from seqdsl.analysis.clamps import Clamp, clamp_of
from seqdsl.analysis.expand import expanded
from seqdsl.analysis.graph import name_of
from seqdsl.analysis.lattice import Meet, join_of
from seqdsl.analysis.modular import modular_verdict
from seqdsl.analysis.normal import Normal
from seqdsl.analysis.rebuild import poly_node
from seqdsl.analysis.terms import Factor, Poly, TooLong
from seqdsl.analysis.tropical import PLUS, Element, Name, NoForm, Tropical, split
from seqdsl.analysis.verdict import Recurrence, Semiring, Structure, Verdict
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import TIME
from seqdsl.ir.walk import subtree


@dataclass(frozen=True)
class Piece:
    """A summand of an update: a read with a weight, either of which may be missing."""

    read: ir.Node | None
    names: tuple[str, ...]
    weight: ir.Node | None
    over: tuple[str, ...]


def semiring_verdict(normal: Normal, recurrence: Recurrence) -> Verdict | None:
    """The verdict if all updates are affine in one semiring, or of a monoid; else None."""
    exprs = {s: normal.model.equation[s].expr for s in recurrence.states}
    dtypes = {e.type.dtype for e in exprs.values()}
    if dtypes == {"bool"}:
        found = _lattice(normal, recurrence, exprs, bools=True)
        return found or automaton_verdict(normal, recurrence, exprs)
    if not dtypes <= {"int", "float"}:
        return None
    if not _may_be(normal):
        found = automaton_verdict(normal, recurrence, exprs)
        return found or modular_verdict(normal, recurrence, exprs)
    names: tuple[Name, ...] = ("log", "max_plus", "min_plus")
    for name in names:
        found = _tropical(normal, recurrence, exprs, name)
        if found is not None:
            return found
    return (
        _lattice(normal, recurrence, exprs, bools=False)
        or _clamps(normal, recurrence, exprs)
        or automaton_verdict(normal, recurrence, exprs)
        or modular_verdict(normal, recurrence, exprs)
    )


def _is_sign(normal: Normal, node: ir.Map | ir.Reduce) -> bool:
    if node.op == "where" and isinstance(node, ir.Map):
        return normal.active(node.args[0])
    return node.op in _SIGNS


_SIGNS = frozenset(
    ("max", "min", "relu", "abs", "logaddexp", "softplus", "log", "log1p")
    + ("logsigmoid", "logsumexp")
)
"""Without one of these nothing is a sum in another semiring."""


def _may_be(normal: Normal) -> bool:
    exprs = (
        normal.model.equation[m].expr
        for m in normal.members
        if m in normal.model.equation
    )
    return any(
        isinstance(n, ir.Map | ir.Reduce) and normal.active(n) and _is_sign(normal, n)
        for e in exprs
        for n in subtree(e)
    )


def _tropical(
    normal: Normal, recurrence: Recurrence, exprs: dict[str, ir.Node], name: Name
) -> Verdict | None:
    tropical = Tropical(normal, name)
    try:
        pieces = {
            s: [_piece(normal, e) for e in tropical.form(expr)]
            for s, expr in exprs.items()
        }
    except (NoForm, TooLong, build.Issue):
        return None
    return _verdict(normal, recurrence, name, pieces)


def _piece(normal: Normal, element: Element) -> Piece:
    read, rest = split(normal, element)
    table = _bound_dims(normal, element, read.active if read else (), rest)
    renamed = tuple(t.renamed(table) for t in rest)
    written = expanded(normal, renamed)
    weight = poly_node(min(renamed, written, key=len), normal.dims)
    if read is None:
        return Piece(None, (), weight or build.const(0.0), tuple(table.values()))
    node = read.active[0].node
    names = tuple(table.get(n, n) for n in read.active[0].names)
    return Piece(node, names, weight, tuple(table.values()))


def _bound_dims(
    normal: Normal, element: Element, reads: tuple[Factor, ...], rest: Poly
) -> dict[str, str]:
    """New dims for the indices that are added up in the semiring."""
    table: dict[str, str] = {}
    for factor in (*reads, *(f for t in rest for f in t.factors)):
        for dim, name in zip(factor.node.type.dims, factor.names, strict=True):
            if name in element.over and name not in table:
                table[name] = normal.dims.fresh(dim)
    return table


def _lattice(
    normal: Normal, recurrence: Recurrence, exprs: dict[str, ir.Node], bools: bool
) -> Verdict | None:
    try:
        pieces = {
            s: [_meet_piece(m, bools) for m in join_of(normal, expr, bools)]
            for s, expr in exprs.items()
        }
    except (NoForm, TooLong, build.Issue):
        return None
    return _verdict(normal, recurrence, "boolean" if bools else "max_min", pieces)


def _meet_piece(meet: Meet, bools: bool) -> Piece:
    weight: ir.Node | None = None
    for node in meet.free:
        both = "and" if bools else "min"
        weight = node if weight is None else build.map_(both, weight, node)
    over = tuple(sorted(meet.over))
    if not meet.reads:
        return Piece(None, (), weight, over)
    (read, *more) = meet.reads
    if more:
        raise NoForm
    return Piece(read, read.type.dims, weight, over)


def _shift_of(read: ir.Node) -> ir.Shift:
    """The read itself, inside what moves its entries."""
    return next(n for n in subtree(read) if isinstance(n, ir.Shift))


# ---- Structure


def _verdict(
    normal: Normal,
    recurrence: Recurrence,
    semiring: Semiring,
    pieces: dict[str, list[Piece]],
) -> Verdict:
    reads = [p for own in pieces.values() for p in own if p.read is not None]
    weights = [p.weight for p in reads if p.weight is not None]
    structure = _structure(normal, pieces, semiring)
    if not reads:
        return Verdict(recurrence, "none")
    return Verdict(
        recurrence,
        "scannable",
        structure=structure,
        semiring=semiring,
        invariant=not any(recurrence.axis in w.type.axes for w in weights),
        strategies=("loop", "scan"),
        updates=tuple(_affine(s, own, semiring) for s, own in pieces.items()),
        dims=dict(normal.dims.added),
    )


def _structure(
    normal: Normal, pieces: dict[str, list[Piece]], semiring: Semiring
) -> Structure:
    order: tuple[Structure, ...] = ("identity", "scalar", "diagonal", "dense")
    found = 0
    for state, own in pieces.items():
        dims = normal.model.equation[state].expr.type.dims
        for piece in own:
            if piece.read is not None:
                alone = len(pieces) == 1 and abs(_shift_of(piece.read).offset) == 1
                found = max(found, _rank_of(piece, dims) if alone else 3)
    reads = [p for own in pieces.values() for p in own if p.read is not None]
    if semiring == "log" and len(reads) > 1:
        found = max(found, 1)  # the state is added to itself: log(2) times it
    return order[found]


def _rank_of(piece: Piece, dims: tuple[str, ...]) -> int:
    assert piece.read is not None
    if not _is_entrywise(piece):
        return 3
    if set(piece.names) != set(dims):
        return 3
    if piece.weight is None:
        return 0
    return 2 if piece.weight.type.dims else 1


def _affine(state: str, pieces: list[Piece], semiring: Semiring) -> out.Affine:
    offset: ir.Node | None = None
    for piece in pieces:
        if piece.read is None:
            value = _summed(piece, semiring)
            plus = _plus(semiring)
            offset = value if offset is None else build.map_(plus, offset, value)
    return out.Affine(state, tuple(_terms(pieces)), None, offset)


def _plus(semiring: Semiring) -> str:
    match semiring:
        case "log" | "max_plus" | "min_plus":
            return PLUS[semiring]
        case "boolean":
            return "or"
        case _:
            return "max"


def _summed(piece: Piece, semiring: Semiring) -> ir.Node:
    assert piece.weight is not None
    if not piece.over:
        return piece.weight
    op = {"log": "logsumexp", "min_plus": "min", "boolean": "any"}.get(semiring, "max")
    return build.reduce(op, piece.weight, piece.over)


def _terms(pieces: Iterable[Piece]) -> Iterator[out.Term]:
    for piece in pieces:
        if piece.read is None:
            continue
        pairs = list(zip(piece.read.type.dims, piece.names, strict=True))
        yield out.Term(
            state=name_of(_shift_of(piece.read).arg),
            lag=abs(_shift_of(piece.read).offset),
            read=build.rename(piece.read, pairs),
            factors=() if piece.weight is None else (piece.weight,),
            over=piece.over,
            kind="diagonal" if _is_entrywise(piece) else "dense",
        )


def _is_entrywise(piece: Piece) -> bool:
    """Whether each entry reads itself: nothing is summed, moved or transposed."""
    read = piece.read
    own = isinstance(read, ir.Shift) and piece.names == read.type.dims
    return own and not piece.over


# ---- Clamps


def _clamps(
    normal: Normal, recurrence: Recurrence, exprs: dict[str, ir.Node]
) -> Verdict | None:
    if len(exprs) != 1 or recurrence.axis != TIME:
        return None
    ((state, expr),) = exprs.items()
    try:
        clamp = clamp_of(normal, expr)
    except (NoForm, TooLong, build.Issue):
        return None
    return _clamp_verdict(recurrence, state, expr, clamp)


def _clamp_verdict(
    recurrence: Recurrence, state: str, expr: ir.Node, clamp: Clamp
) -> Verdict | None:
    read = clamp.read
    plain = isinstance(read, ir.Shift) and abs(read.offset) == 1
    if clamp.times != 1 or not plain or set(read.type.dims) != set(expr.type.dims):
        return None
    leaf = (clamp.shift, clamp.low, clamp.high)
    return Verdict(
        recurrence,
        "scannable",
        structure="monoid",
        monoid="clamp",
        invariant=not any(recurrence.axis in n.type.axes for n in leaf),
        strategies=("loop", "scan"),
        leaf=leaf,
    )
