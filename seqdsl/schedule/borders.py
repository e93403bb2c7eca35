"""Recurrences of which some states change at borders only: what happens between these.

What is held from one border to the next counts as given, and what is left of a recurrence
then has a parallel form of its own: a scan, or, where only products with a matrix state are
read, chunks in which no state of a step is made. Sun et al., Learning to (learn at test
time), 2024, section 2.4 and its dual form.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from seqdsl.analysis.verdict import PerChunk, Verdict
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import TIME
from seqdsl.ir.walk import subtree
from seqdsl.schedule.chunked import substituted
from seqdsl.schedule.dependence import SAME, Edge, dependences, edges_to
from seqdsl.schedule.forms import DiagonalScan, Pieces, Products, nodes_of, with_nodes
from seqdsl.schedule.products import Chunked, products
from seqdsl.schedule.scans import scan_of

_Part = DiagonalScan | Products
_Table = dict[ir.Node, ir.Node]


def pieces_of(
    model: ir.Model, verdict: Verdict, chunk: int
) -> Pieces | Chunked[Pieces] | None:
    """What goes from border to border, where a recurrence allows that; None elsewhere."""
    found = verdict.per_chunk
    if found is None:
        return None
    scans = [scan_of(model, v) for v in found.verdicts]
    parts = tuple(s for s in scans if isinstance(s, DiagonalScan))
    if len(parts) < len(scans):
        return None
    form = Pieces(
        states=verdict.recurrence.states,
        held=found.held,
        borders=found.borders,
        parts=parts,
        early=_early(model, verdict, found),
    )
    chunks = [products(model, v, chunk, held=found.held) for v in found.verdicts]
    return _in_chunks(model, verdict, form, chunks) if form.early else form


# ---- Whether a piece begins at its border


def _early(model: ir.Model, verdict: Verdict, found: PerChunk) -> bool:
    """Whether what is held is made of the step before, and read at its own step alone."""
    states, held = verdict.recurrence.states, found.held
    walk = _Walk(model, frozenset(verdict.recurrence.members), frozenset(states))
    before = all(
        e.along(TIME) == (-1 if e.source in states else 0)
        for e in walk.edges(held)
        if e.source not in held
    )
    moving = [s for s in states if s not in held]
    now = all(e.along(TIME) == 0 for e in walk.edges(moving) if e.source in held)
    return before and now


@dataclass(frozen=True)
class _Walk:
    """What values of one step are made of: through `members`, up to `states`."""

    model: ir.Model
    members: frozenset[str]
    states: frozenset[str]

    def edges(self, names: Iterable[str]) -> Iterator[Edge]:
        """All reads of members by equations that have part in `names`."""
        todo, seen = list(names), set[str]()
        while todo:
            name = todo.pop()
            if name in seen:
                continue
            seen.add(name)
            for edge in edges_to(self.model, name, self.model.equation[name].expr):
                if edge.source in self.members:
                    yield edge
                    if edge.source not in self.states:
                        todo.append(edge.source)


# ---- Matrix states of which no step is made


def _in_chunks(
    model: ir.Model,
    verdict: Verdict,
    form: Pieces,
    found: Sequence[Chunked[Products] | None],
) -> Pieces | Chunked[Pieces]:
    """`form` with parts in chunkwise form, where a piece needs no more than their reads."""
    chunks, own = list(found), frozenset(verdict.recurrence.members)
    behind = _behind(model, verdict.recurrence.states)
    while any(chunks):
        table = {n: made for c in chunks if c for n, made in c.replaced.items()}
        pairs = zip(chunks, form.parts, strict=True)
        parts = [s if c is None else c.form for c, s in pairs]
        order = _Order(model, own, behind, form.held, table, parts)
        if order.run():
            parts = tuple(with_nodes(p, order.changed) for p in order.done)
            kept = tuple(p for p in parts if isinstance(p, DiagonalScan | Products))
            made = replace(form, parts=kept, between=tuple(order.between.values()))
            gone = [n for c in chunks if c for n in c.dropped if n not in own]
            return Chunked(made, table, (), tuple(dict.fromkeys(gone)))
        chunks = [
            None if c and set(c.form.states) & order.refused else c for c in chunks
        ]
    return form


def _behind(model: ir.Model, names: Iterable[str]) -> frozenset[str]:
    """`names` and all that is computed from them, in one turn of every repeat."""
    readers: dict[str, list[str]] = {}
    for edge in filter(_one_turn, dependences(model).edges):
        readers.setdefault(edge.source, []).append(edge.reader)
    todo, found = list(names), set(names)
    while todo:
        more = [r for r in readers.get(todo.pop(), ()) if r not in found]
        found.update(more)
        todo += more
    return frozenset(found)


def _one_turn(edge: Edge) -> bool:
    """Whether it may be a read within one turn of every repeat; else that is known before."""
    return all(d in SAME for axis, d in edge.distance if axis != TIME)


class _Missing(Exception):
    """What a part needs that is not there, or not yet."""


@dataclass
class _Order:
    """Parts of a piece so that each comes behind what it needs of the others.

    `between` are equations behind the recurrence that parts need too. `refused` are states
    in chunkwise form of which more is needed than their reads, or which need what a piece
    does not have.
    """

    model: ir.Model
    own: frozenset[str]
    behind: frozenset[str]
    held: tuple[str, ...]
    table: _Table
    parts: list[_Part]
    done: list[_Part] = field(default_factory=list[_Part])
    between: dict[str, ir.Equation] = field(default_factory=dict[str, ir.Equation])
    refused: set[str] = field(default_factory=set[str])

    def run(self) -> bool:
        """Put them in order; False where some are `refused`."""
        chunks = [p for p in self.parts if isinstance(p, Products)]
        self.whole = {s for p in chunks for s in p.states}
        self.reads = {r.name: p.states for p in chunks for r in p.reads}
        self.there = set(self.held)
        if len(self.reads) < sum(len(p.reads) for p in chunks):
            self.refused |= self.whole
        held = [self.changed(self.model.equation[h].expr) for h in self.held]
        for edge in self._edges(held):
            self.refused.update(self.reads.get(edge.source, ()))
        waiting: list[_Part] = list(self.parts)
        while waiting and not self.refused:
            ready = next((p for p in waiting if self._ready(p)), None)
            if ready is None:
                self.refused |= self._waiting(waiting)
                return False
            waiting = [p for p in waiting if p is not ready]
            self.done.append(ready)
            self.there.update(_made(ready))
        return not self.refused

    def changed(self, node: ir.Node) -> ir.Node:
        """`node` over reads."""
        return substituted(node, self.table)

    def _waiting(self, waiting: Sequence[_Part]) -> set[str]:
        chunks = [p for p in waiting if isinstance(p, Products)]
        return {s for p in chunks for s in p.states} or self.whole

    def _edges(self, nodes: Iterable[ir.Node]) -> Iterator[Edge]:
        """All that `nodes` are made of, through members of the recurrence."""
        for node in nodes:
            for edge in edges_to(self.model, "", node):
                yield edge
                if edge.source in self.own and edge.source not in self.model.state:
                    expr = self.model.equation[edge.source].expr
                    yield from self._edges([self.changed(expr)])

    def _ready(self, part: _Part) -> bool:
        """Whether all that it needs is there; adds to `between` then."""
        found: dict[str, ir.Equation] = {}
        try:
            for node in nodes_of(part):
                self._need(self.changed(node), found)
        except _Missing:
            return False
        self.between |= found
        return True

    def _need(self, node: ir.Node, found: dict[str, ir.Equation]) -> None:
        for edge in filter(_one_turn, edges_to(self.model, "", node)):
            name, back = edge.source, edge.along(TIME)
            if name in self.whole:
                self.refused.add(name)
                raise _Missing
            if name not in self.behind and name not in self.reads:
                continue
            if name in self.model.state or name in self.reads:
                moving = name in self.model.state and name not in self.held
                if name not in self.there or back not in ((0, -1) if moving else (0,)):
                    raise _Missing
            elif name not in found and name not in self.between:
                self._compute(name, back == 0, found)

    def _compute(self, name: str, now: bool, found: dict[str, ir.Equation]) -> None:
        """Note an equation between the recurrence and what needs it, and what it needs."""
        equation = self.model.equation.get(name)
        scope = self.model.equation[self.held[0]].scope
        if equation is None or not now or equation.scope != scope:
            raise _Missing
        expr = self.changed(equation.expr)
        if name not in self.own and any(map(_once, subtree(expr))):
            raise _Missing
        self._need(expr, found)
        if name not in self.own:
            found[name] = replace(equation, expr=expr)


def _once(node: ir.Node) -> bool:
    """Whether computing it again may give something else."""
    return isinstance(node, ir.Sample | ir.ExternCall)


def _made(part: _Part) -> tuple[str, ...]:
    if isinstance(part, DiagonalScan):
        return (part.state,)
    return tuple(r.name for r in part.reads)
