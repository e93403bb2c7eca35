"""Who reads whom, and at which distance along every axis."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from seqdsl.analysis.visibility import Reach, reach_of_copies, reach_within
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import TIME
from seqdsl.ir.walk import children, references
from seqdsl.schedule.copy_groups import reach_of_readers

Distance = int | Literal["past", "ahead", "any"]
"""Steps from the reader to what it reads; "past" is 0 or any number below, "ahead" above."""

SAME: tuple[Distance, ...] = (0, "past", "ahead")
"""Distances of reads that may be of the reader's own step."""


@dataclass(frozen=True)
class Edge:
    """`reader` needs `source` at `distance` along each axis named (elsewhere 0)."""

    source: str
    reader: str
    distance: tuple[tuple[str, Distance], ...] = ()

    def along(self, axis: str) -> Distance:
        """The distance along `axis`."""
        return dict(self.distance).get(axis, 0)


@dataclass(frozen=True)
class Graph:
    """Equations and calls of a model by name, the scope of each, and their edges."""

    scope: Mapping[str, tuple[str, ...]]
    edges: tuple[Edge, ...]


def dependences(model: ir.Model) -> Graph:
    """The dependence graph of `model` over its equations and calls.

    A call reads its arguments at their own distance; what the sub-layer does along time
    is not seen here, and need not be: a call that ends up in a loop along time is
    inlined and everything is ordered again.
    """
    scope = {e.name: e.scope for e in model.equations}
    scope |= {c.name: c.scope for c in model.calls}
    edges: list[Edge] = []
    reaches = reach_of_readers(model)
    for equation in model.equations:
        own = reaches[equation.name]
        edges.extend(_reads(model, equation.name, equation.expr, own))
    for call in model.calls:
        for _, arg in call.args:
            edges.extend(_reads(model, call.name, arg, reaches[call.name]))
    edges.extend(_halting(model, reach_of_copies(model)))
    known = [e for e in edges if e.source in scope]
    return Graph(scope, tuple(dict.fromkeys(known)))


def edges_to(model: ir.Model, reader: str, expr: ir.Node) -> tuple[Edge, ...]:
    """What `expr` reads, as edges to `reader`."""
    reaches = reach_of_readers(model).get(reader) or reach_of_copies(model)
    return tuple(_reads(model, reader, expr, reaches))


def _halting(model: ir.Model, reaches: Mapping[str, Reach]) -> Iterator[Edge]:
    """A condition is read by every state that it can stop, and so is a count."""
    for repeat in model.repeats:
        inside = [e for e in model.equations if repeat.axis in e.scope]
        halted = [e for e in inside if e.name in model.state]
        if isinstance(repeat.count, ir.Base):
            for equation in inside:
                yield from _reads(model, equation.name, repeat.count, reaches)
        if repeat.condition is not None:
            for equation in halted:
                yield from _reads(model, equation.name, repeat.condition, reaches)


def _reads(
    model: ir.Model, reader: str, expr: ir.Node, reaches: Mapping[str, Reach]
) -> Iterator[Edge]:
    for name, distance in _distances(model, expr, {}, reaches):
        yield Edge(name, reader, tuple(sorted(distance.items())))


def _distances(
    model: ir.Model,
    node: ir.Node,
    around: Mapping[str, Distance],
    reaches: Mapping[str, Reach | None],
) -> Iterator[tuple[str, Mapping[str, Distance]]]:
    """Names read by `node` with their distances, `around` being those of its users."""
    match node:
        case ir.Ref(name=name):
            yield name, around
            return
        case ir.Result(call=call):
            yield call, around
            return
        case ir.Shift(arg=arg, axis=axis, offset=offset):
            around = {**around, axis: add(around.get(axis, 0), offset)}
            yield from _initial(model, arg, around, axis, reaches)
        case ir.At(arg=arg, axis=axis):
            around = {**around, axis: "any"}
            yield from _initial(model, arg, around, axis, reaches)
        case ir.Stack(axis=axis):
            around = {**around, axis: "any"}
        case ir.Copy(copy=copy):
            around = {**around, TIME: _copied(reaches.get(copy))}
        case ir.Contract(over=over) | ir.Reduce(over=over) | ir.Along(over=over) if (
            TIME in over
        ):
            around = {**around, TIME: "any"}
            within = reach_within(model, node)
            reaches = {**reaches, **within} if within else reaches
        case ir.Contract() | ir.Reduce() | ir.Along():
            within = reach_within(model, node)
            reaches = {**reaches, **within} if within else reaches
        case ir.Conv(axes=axes, ahead=ahead) if TIME in axes:
            way: Distance = "ahead" if ahead else "past"
            around = {**around, TIME: add(around.get(TIME, 0), way)}
        case _:
            pass
    for child in children(node):
        yield from _distances(model, child, around, reaches)


def _copied(reach: Reach | None) -> Distance:
    match reach:
        case Reach(least=least) if least >= 1:
            return -1
        case Reach():
            return "past"
        case None:
            return "any"


def _initial(
    model: ir.Model,
    arg: ir.Ref | ir.Result,
    around: Mapping[str, Distance],
    axis: str,
    reaches: Mapping[str, Reach | None],
) -> Iterator[tuple[str, Mapping[str, Distance]]]:
    """What the initial value of a shifted state reads: nothing is carried along `axis`."""
    if isinstance(arg, ir.Ref) and arg.name in model.state:
        rest: dict[str, Distance] = {a: d for a, d in around.items() if a != axis}
        yield from _distances(model, model.state[arg.name].initial, rest, reaches)


def add(a: Distance, b: Distance) -> Distance:
    """The distance of a read of a read."""
    if isinstance(a, int) and isinstance(b, int):
        return a + b
    if _along(a, "past", -1) and _along(b, "past", -1):
        return "past"
    if _along(a, "ahead", 1) and _along(b, "ahead", 1):
        return "ahead"
    return "any"


def _along(distance: Distance, way: Distance, sign: int) -> bool:
    """Whether `distance` is 0 or goes the one way."""
    return distance == way or (isinstance(distance, int) and sign * distance >= 0)


def carried(edges: Iterable[Edge], axis: str, inside: Sequence[str]) -> tuple[str, ...]:
    """Names among `inside` that others of them read at another step of `axis`."""
    names = [
        e.source
        for e in edges
        if e.source in inside and e.reader in inside and e.along(axis) not in SAME
    ]
    return tuple(dict.fromkeys(names))


def readers(edges: Iterable[Edge]) -> dict[str, list[str]]:
    """Direct readers of every name."""
    result: dict[str, list[str]] = {}
    for edge in edges:
        result.setdefault(edge.source, []).append(edge.reader)
    return result


def names_in(node: ir.Node) -> frozenset[str]:
    """Names of the values and calls that `node` reads."""
    return frozenset(
        r.name if isinstance(r, ir.Ref) else r.call for r in references(node)
    )
