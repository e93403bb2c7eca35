"""Matrix states that a step takes through a whole `repeat`, as products of erases do.

Every turn of the repeat is a decay and a few products of vectors, like a step without
one. What of a turn does not read the state is computed for all turns before; then a step
is a chain of as many writes as there are turns, each of which sees what those before it
did. Siems et al., DeltaProduct: improving state-tracking in linear RNNs via Householder
products, 2025.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from seqdsl.analysis.graph import behind, edges_of, name_of
from seqdsl.analysis.normal import Normal
from seqdsl.analysis.rebuild import poly_node
from seqdsl.analysis.structure import Part, coefficient, parts_of
from seqdsl.analysis.terms import Poly
from seqdsl.analysis.verdict import Recurrence, Verdict
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import TIME
from seqdsl.schedule.forms import Decay, Products, Write
from seqdsl.schedule.products import Chunked, Turns, coefficients, tied
from seqdsl.schedule.reads import Readers
from seqdsl.schedule.writes import erase, groups, node_of, write


def in_turns(model: ir.Model, verdict: Verdict, chunk: int) -> Chunked[Products] | None:
    """The chunkwise form of a recurrence through a repeat, None where it has none.

    `model` is the one that the verdict speaks of. All that the state goes through must be
    one state of the repeat that starts from it and is read when the repeat has ended.
    """
    recurrence = verdict.recurrence
    found = _through(model, recurrence)
    if found is None or verdict.rank_size is None:
        return None
    state, last = recurrence.states[0], name_of(found.arg)
    normal = Normal(model, TIME, recurrence.members, recurrence.edges)
    normal.axes.add(found.axis)
    parts = _parts(normal, last)
    first = _begun(normal, state, last)
    if parts is None or first is None:
        return None
    return _form(normal, verdict, found, parts, first, chunk)


def _through(model: ir.Model, recurrence: Recurrence) -> ir.At | None:
    """The last turn of a repeat that is all of a step, and which nothing else reads."""
    state = recurrence.states[0]
    if len(recurrence.states) > 1 or state not in model.state:
        return None
    found = behind(model, model.equation[state].expr)
    if not isinstance(found, ir.At) or found.index is not None:
        return None
    repeat = model.repeat.get(found.axis)
    if repeat is None or repeat.condition is not None:
        return None
    if isinstance(repeat.count, ir.Base) or not isinstance(found.arg, ir.Ref):
        return None
    own = model.equation[found.arg.name].expr.type
    same = own.dims == model.equation[state].expr.type.dims and own.dtype == "float"
    inside = set(recurrence.members)
    private = inside - {state}
    outside = (e for e in edges_of(model) if e.source in private)
    alone = all(e.reader in inside for e in outside)
    return found if same and alone and TIME not in _axes(model, state) else None


def _axes(model: ir.Model, state: str) -> frozenset[str]:
    return model.state[state].initial.type.axes


def _parts(normal: Normal, turn: str) -> list[Part] | None:
    """What a turn does with the one before: decays and products of vectors."""
    if normal.bad(normal.value(turn)):
        return None
    dims = normal.model.equation[turn].expr.type.dims
    parts = parts_of(normal, turn, dims, normal.linear(turn))
    good = all(p.source == turn and p.lag == 1 and p.kind != "dense" for p in parts)
    low = {p.contracted for p in parts if p.kind == "low_rank"}
    return parts if good and len(low) == 1 else None


def _begun(normal: Normal, state: str, turn: str) -> Poly | None:
    """By what the state is multiplied before the first turn."""
    poly = normal.poly(normal.model.state[turn].initial)
    dims = normal.model.equation[turn].expr.type.dims
    if normal.bad(poly) or any(not t.active for t in poly):
        return None
    parts = parts_of(normal, turn, dims, poly)
    good = all(p.source == state and p.lag == 1 and p.kind == "diagonal" for p in parts)
    return tuple(coefficient(p.term) for p in parts) if good and parts else None


def _form(
    normal: Normal,
    verdict: Verdict,
    through: ir.At,
    parts: list[Part],
    first: Poly,
    chunk: int,
) -> Chunked[Products] | None:
    """The form, once it is known which dims are rows and which are copies."""
    model, state = normal.model, verdict.recurrence.states[0]
    rows = next(p.contracted for p in parts if p.kind == "low_rank")
    readers = Readers(model, verdict.recurrence, normal.dims, rows)
    if not readers.run() or readers.after:
        return None
    turn, dims = through.arg, model.equation[state].expr.type.dims
    assert isinstance(turn, ir.Ref)
    kept = dict(coefficients(normal, parts)).get((turn.name, turn.name), ())
    erased = [erase(p) for p in parts if p.kind == "low_rank"]
    other = readers.tied | tied(rows, erased, (kept, first))
    columns = frozenset(dims) - rows - other
    terms = [t for t in normal.linear(turn.name) if not t.active]
    pieces = [*erased, *(write(turn.name, rows, columns, t) for t in terms)]
    copies = other | tied(rows, pieces, ())
    count = model.repeat[through.axis].count
    assert not isinstance(count, ir.Base)
    lifted = _Lifted(model, through, normal.dims.fresh(through.axis, count))
    writes = [node_of(g, normal.dims) for g in groups(pieces, rows)]
    if any(w.inner for w in writes):
        return None
    form = Products(
        states=(state,),
        copies=tuple(d for d in dims if d in copies),
        rows=tuple(d for d in dims if d in rows),
        columns=tuple(d for d in dims if d not in rows and d not in copies),
        decays=(_decay(normal, state, first),),
        writes=tuple(lifted.write(w, turn.name, state) for w in writes),
        reads=tuple(readers.reads),
        chunk=chunk,
        dims=dict(normal.dims.added),
        turn=lifted.dim,
        kept=lifted.node("kept", poly_node(kept, normal.dims) or build.const(0.0)),
    )
    turns = Turns(through.axis, tuple(lifted.inner), tuple(lifted.outer))
    return Chunked(form, readers.replaced, (), readers.dropped(), turns)


def _decay(normal: Normal, state: str, poly: Poly) -> Decay:
    node = poly_node(poly, normal.dims)
    assert node is not None
    return Decay(target=state, source=state, coefficient=node)


@dataclass
class _Lifted:
    """Values of a turn as values of all turns, along the dim `dim`."""

    model: ir.Model
    through: ir.At
    dim: str
    inner: list[ir.Equation] = field(default_factory=list[ir.Equation])
    outer: list[ir.Equation] = field(default_factory=list[ir.Equation])

    def write(self, found: Write, turn: str, state: str) -> Write:
        """One write in every turn, to the state instead of the turn before."""
        (left,), right = found.left.values(), dict(found.right)
        reads = {state: self.node("right", right[turn])} if turn in right else {}
        value = None if found.value is None else self.node("value", found.value)
        made = self.node("left", left)
        return Write(left={state: made}, right=reads, value=value, inner=(self.dim,))

    def node(self, what: str, node: ir.Node) -> ir.Node:
        """`node` at all turns; as it is where all turns have the same."""
        axis = self.through.axis
        if axis not in node.type.axes:
            return node
        scope = self.model.equation[self._turn].scope
        each = self._equation(what, node, scope)
        self.inner.append(each)
        ref = build.ref(each.name, node.type)
        every = self._equation(f"{what}s", build.stack(ref, axis, self.dim), scope[:-1])
        self.outer.append(every)
        return build.ref(every.name, every.expr.type)

    @property
    def _turn(self) -> str:
        assert isinstance(self.through.arg, ir.Ref)
        return self.through.arg.name

    def _equation(
        self, what: str, node: ir.Node, scope: tuple[str, ...]
    ) -> ir.Equation:
        name, number = f"{self._turn}_{what}", 1
        while name in self._taken():
            number += 1
            name = f"{self._turn}_{what}_{number}"
        return ir.Equation(name=name, expr=node, scope=scope, written=False)

    def _taken(self) -> Mapping[str, object]:
        model = self.model
        own = {e.name: e for e in (*self.inner, *self.outer)}
        named = (model.equation, model.call, model.input, model.param)
        others: dict[str, object] = {n: v for table in named for n, v in table.items()}
        return {**others, **model.dims, **model.repeat, **own}
