"""Matrix states as decays, products of vectors and queries: the chunkwise form.

Yang et al., Parallelizing linear transformers with the delta rule over sequence length,
NeurIPS 2024, and Gated linear attention transformers with hardware-efficient training,
ICML 2024; here for any number of states that are affine in each other, read off the
normal form of their updates.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from seqdsl.analysis.expand import expanded
from seqdsl.analysis.normal import Normal
from seqdsl.analysis.rebuild import poly_node
from seqdsl.analysis.structure import Part, coefficient, parts_of
from seqdsl.analysis.terms import Poly, Term, TooLong
from seqdsl.analysis.verdict import Recurrence, Verdict
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import TIME
from seqdsl.schedule.forms import Decay, Pieces, Products
from seqdsl.schedule.reads import Readers
from seqdsl.schedule.writes import Piece, erase, groups, node_of, write


@dataclass(frozen=True)
class Turns:
    """Equations that must be computed for a step that is several turns of a repeat.

    `inner` stand in the repeat over `axis`, `outer` gather all of its turns.
    """

    axis: str
    inner: tuple[ir.Equation, ...]
    outer: tuple[ir.Equation, ...]


F_co = TypeVar("F_co", bound=Products | Pieces, covariant=True)


@dataclass(frozen=True)
class Chunked(Generic[F_co]):
    """A recurrence in chunkwise form, and what becomes of those who read its states.

    Expressions outside of it that are in `replaced` are to be computed as given there.
    Then no value of a step is needed of the states, nor of `dropped`, which pass them on.
    `after` are other members of the recurrence that are read outside: their equations are
    to be computed after the form, in this order.
    """

    form: F_co
    replaced: Mapping[ir.Node, ir.Node]
    after: tuple[str, ...]
    dropped: tuple[str, ...]
    turns: Turns | None = None

    def products(self) -> tuple[Products, ...]:
        """Forms of whose states only reads are known."""
        form = self.form
        return (form,) if isinstance(form, Products) else form.products()


AnyChunked = Chunked[Products] | Chunked[Pieces]


def products(
    model: ir.Model,
    verdict: Verdict,
    chunk: int,
    narrow: bool = False,
    held: Collection[str] = (),
) -> Chunked[Products] | None:
    """The chunkwise form of a recurrence, None where it has none.

    `model` is the one that the verdict speaks of (`Analyzed.model_of`). There is none for
    a state that is read whole or of more steps ago, whose initial value changes along
    time, or which is no float or complex number; nor for one that is no larger than what
    is written to it, since a scan makes no more of it than there is anyway; a `narrow` one
    may be. States `held` are as if given: how they read the recurrence does not count.
    """
    recurrence = verdict.recurrence
    if verdict.verdict != "scannable" or recurrence.axis != TIME:
        return None
    if verdict.structure == "dense" or verdict.semiring != "real":
        return None
    if not _declared(model, recurrence):
        return None
    normal = Normal(model, TIME, recurrence.members, recurrence.edges)
    try:
        return _products(normal, recurrence, chunk, narrow, held)
    except TooLong:
        return None


def _declared(model: ir.Model, recurrence: Recurrence) -> bool:
    """Whether the states are matrices of one shape that start at one value."""
    states = [model.state.get(s) for s in recurrence.states]
    exprs = [model.equation[s].expr for s in recurrence.states if s in model.equation]
    if any(s is None or TIME in s.initial.type.axes for s in states):
        return False
    numbers = {e.type.dtype for e in exprs}
    shapes = {frozenset(e.type.dims) for e in exprs}
    scopes = {model.equation[m].scope for m in recurrence.states}
    return len(numbers) == len(shapes) == len(scopes) == 1 and numbers <= {
        "float",
        "complex",
    }


def _products(
    normal: Normal,
    recurrence: Recurrence,
    chunk: int,
    narrow: bool,
    held: Collection[str],
) -> Chunked[Products] | None:
    model = normal.model
    shapes = {s: model.equation[s].expr.type.dims for s in recurrence.states}
    polys = {s: normal.linear(s) for s in recurrence.states}
    if any(normal.bad(normal.value(s)) for s in recurrence.states):
        return None
    parts = [p for s in shapes for p in parts_of(normal, s, shapes[s], polys[s])]
    if any(p.kind == "dense" or p.lag != 1 for p in parts):
        return None
    erases = any(p.kind == "low_rank" for p in parts)
    flat = not erases and all(len(dims) < 2 for dims in shapes.values())
    if flat and not narrow:
        return None  # a vector has no columns beside its rows: readers need no look
    rows = _rows(normal, recurrence, shapes, polys, parts, held)
    if rows is None:
        return None
    readers = Readers(model, recurrence, normal.dims, rows, frozenset(held))
    if not readers.run():
        return None
    dims = shapes[recurrence.states[0]]
    kept = dict(coefficients(normal, parts))
    erased = [erase(p) for p in parts if p.kind == "low_rank"]
    own = readers.tied | tied(rows, erased, kept.values())
    written = _written(normal, polys, rows, frozenset(dims) - rows - own)
    copies = own | tied(rows, written, ())
    if not erased and rows | copies >= set(dims) and not narrow:
        return None
    form = Products(
        states=recurrence.states,
        copies=tuple(d for d in dims if d in copies),
        rows=tuple(d for d in dims if d in rows),
        columns=tuple(d for d in dims if d not in rows and d not in copies),
        decays=tuple(_decay(normal, *pair, poly) for pair, poly in kept.items()),
        writes=tuple(node_of(g, normal.dims) for g in groups(erased + written, rows)),
        reads=tuple(readers.reads),
        chunk=chunk,
        dims=dict(normal.dims.added),
    )
    return Chunked(form, readers.replaced, tuple(readers.after), readers.dropped())


# ---- Which dims are rows


def _rows(
    normal: Normal,
    recurrence: Recurrence,
    shapes: Mapping[str, Sequence[str]],
    polys: Mapping[str, Poly],
    parts: Sequence[Part],
    held: Collection[str],
) -> frozenset[str] | None:
    """The dims that erases and reads sum; as few as writes can tell from columns."""
    erased = {p.contracted for p in parts if p.kind == "low_rank"}
    if len(erased) > 1:
        return None
    if erased:
        return next(iter(erased))
    readers = Readers(normal.model, recurrence, normal.dims, held=frozenset(held))
    if not readers.run() or not readers.summed:
        return None
    rows = readers.summed[0].intersection(*readers.summed)
    for state, poly in polys.items():
        for term in poly:
            for factor in term.factors if not term.active else ():
                own = rows & set(factor.names)
                beyond = set(factor.names) & set(shapes[state]) - rows
                if beyond and own < rows:
                    rows -= own
    return rows or None


# ---- Decays and writes


def _written(
    normal: Normal,
    polys: Mapping[str, Poly],
    rows: frozenset[str],
    columns: frozenset[str],
) -> list[Piece]:
    """The offsets, written out where that alone tells rows from columns."""
    offsets = [(s, t) for s, poly in polys.items() for t in poly if not t.active]
    plain = [write(state, rows, columns, term) for state, term in offsets]
    if columns - tied(rows, plain, ()) or not columns:
        return plain
    whole = [(s, t) for s, term in offsets for t in expanded(normal, (term,))]
    longer = [write(state, rows, columns, term) for state, term in whole]
    return longer if columns - tied(rows, longer, ()) else plain


def coefficients(
    normal: Normal, parts: Sequence[Part]
) -> Iterator[tuple[tuple[str, str], Poly]]:
    """Coefficients by target and source, those that cancel left out."""
    sums: dict[tuple[str, str], list[Term]] = {}
    for part in parts:
        if part.kind == "diagonal":
            key = (part.target, part.source)
            sums.setdefault(key, []).append(coefficient(part.term))
    for key, terms in sums.items():
        if expanded(normal, tuple(terms)):
            yield key, tuple(terms)


def _decay(normal: Normal, target: str, source: str, poly: Poly) -> Decay:
    node = poly_node(poly, normal.dims)
    assert node is not None
    return Decay(target=target, source=source, coefficient=node)


def tied(
    rows: frozenset[str], pieces: Sequence[Piece], decays: Iterable[Poly]
) -> set[str]:
    """Index names on which a decay or a side along the rows depends."""
    found: set[str] = set()
    for piece in pieces:
        found |= piece.left.free
        if piece.source is not None:
            found |= piece.other.free
    for poly in decays:
        for term in poly:
            found |= term.free
    return found - rows
