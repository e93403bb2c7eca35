"""Which value reads which, at which step, and where that is circular."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from seqdsl.analysis.verdict import Direction, Recurrence
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import TIME
from seqdsl.ir.walk import children


@dataclass(frozen=True)
class Edge:
    """`reader` reads `source` at its own step, `shift`ed along `axis`, or at many.

    `many` stands for reads at all steps of `axis` or at one that is not `reader`'s
    neighbor: a copy of time, an average over time, the last step of a repeat.
    """

    source: str
    reader: str
    kind: Literal["same", "shift", "many"]
    axis: str = ""
    offset: int = 0


def edges_of(model: ir.Model) -> tuple[Edge, ...]:
    """All reads of equations, calls and outputs (whose reader is empty) of `model`."""
    found = list(edges_in(model.equations))
    for call in model.calls:
        for _, arg in call.args:
            found.extend(_reads(call.name, arg, None))
    for output in model.outputs:
        found.extend(_reads("", output.expr, None))
    for state in model.states:
        found.extend(_reads(state.name, state.initial, None))
    for repeat in model.repeats:
        inside = [s.name for s in model.states if repeat.axis in s.type.axes]
        if repeat.condition is not None:
            for name in inside:
                found.extend(_reads(name, repeat.condition, None))
    return tuple(dict.fromkeys(found))


def edges_in(equations: Iterable[ir.Equation]) -> Iterator[Edge]:
    """All reads of some equations."""
    for equation in equations:
        yield from _reads(equation.name, equation.expr, None)


def _reads(reader: str, node: ir.Node, many: str | None) -> Iterator[Edge]:
    """Edges of an expression; `many` is an axis all of whose steps are read here."""
    match node:
        case ir.Ref() | ir.Result():
            name = name_of(node)
            kind = "same" if many is None else "many"
            yield Edge(name, reader, kind, many or "")
        case ir.Shift(arg=arg, axis=axis, offset=offset) if many is None:
            yield Edge(name_of(arg), reader, "shift", axis, offset)
        case ir.Copy(arg=arg):
            yield from _reads(reader, arg, many or TIME)
        case ir.At(arg=arg, axis=axis, index=index):
            yield from _reads(reader, arg, many or axis)
            if index is not None:
                yield from _reads(reader, index, many)
        case ir.Stack(arg=arg, axis=axis):
            yield from _reads(reader, arg, many or axis)
        case ir.Reduce(over=over) if TIME in over:
            for child in children(node):
                yield from _reads(reader, child, many or TIME)
        case _:
            for child in children(node):
                yield from _reads(reader, child, many)


def behind(model: ir.Model, node: ir.Node, states: bool = True) -> ir.Node:
    """What a name stands for in the same step; of states their updates, or themselves."""
    while isinstance(node, ir.Ref) and node.name in model.equation:
        if node.name in model.state and not states:
            return node
        node = model.equation[node.name].expr
    return node


def name_of(node: ir.Ref | ir.Result) -> str:
    """The equation or call that a leaf names."""
    return node.name if isinstance(node, ir.Ref) else node.call


def components(edges: Iterable[Edge]) -> list[frozenset[str]]:
    """Strongly connected sets of names that lie on a circle."""
    edges = list(edges)
    after: dict[str, list[str]] = {}
    for edge in edges:
        after.setdefault(edge.reader, []).append(edge.source)
    loops = {e.reader for e in edges if e.reader == e.source}
    found = _tarjan(after)
    return [c for c in found if len(c) > 1 or c & loops]


def _tarjan(after: Mapping[str, list[str]]) -> list[frozenset[str]]:
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    on_stack: set[str] = set()
    found: list[frozenset[str]] = []
    for root in after:
        if root in index:
            continue
        work = [(root, iter(after.get(root, ())))]
        while work:
            name, rest = work[-1]
            if name not in index:
                index[name] = low[name] = len(index)
                stack.append(name)
                on_stack.add(name)
            following = next(rest, None)
            if following is None:
                work.pop()
                if work:
                    above = work[-1][0]
                    low[above] = min(low[above], low[name])
                if low[name] == index[name]:
                    found.append(_popped(name, stack, on_stack))
            elif following not in index:
                work.append((following, iter(after.get(following, ()))))
            elif following in on_stack:
                low[name] = min(low[name], index[following])
    return found


def _popped(name: str, stack: list[str], on_stack: set[str]) -> frozenset[str]:
    members: set[str] = set()
    while name not in members:
        members.add(stack.pop())
    on_stack -= members
    return frozenset(members)


def circles(
    model: ir.Model, edges: tuple[Edge, ...], axis: str
) -> Iterator[tuple[Recurrence, tuple[Edge, ...]]]:
    """Recurrences along `axis`, each with the edges inside it.

    A read at another step of a second axis counts as an input where that axis can be
    walked outside of this one: unless the circle closes through many steps of it.
    """
    order = {name: place for place, name in enumerate(order_of(model))}
    for _, inside in closed(edges):
        kept = [e for e in inside if not _outer(e, inside, axis)]
        for members, smaller in closed(kept):
            if any(e.axis == axis for e in smaller):
                yield _recurrence(order, members, smaller, axis), smaller


def closed(
    edges: Iterable[Edge],
) -> Iterator[tuple[frozenset[str], tuple[Edge, ...]]]:
    """Strongly connected sets of names that lie on a circle, each with the edges inside."""
    edges = list(edges)
    found = components(edges)
    home = {name: i for i, members in enumerate(found) for name in members}
    inside: list[list[Edge]] = [[] for _ in found]
    for edge in edges:
        place = home.get(edge.source)
        if place is not None and place == home.get(edge.reader):
            inside[place].append(edge)
    yield from zip(found, map(tuple, inside), strict=True)


def within(edges: Iterable[Edge], names: frozenset[str]) -> tuple[Edge, ...]:
    """The edges between `names`."""
    return tuple(e for e in edges if e.source in names and e.reader in names)


def _outer(edge: Edge, inside: Iterable[Edge], axis: str) -> bool:
    """Whether `edge` is a read of an earlier step of an axis that can stand outside."""
    if edge.kind != "shift" or edge.axis == axis:
        return False
    others = [e for e in inside if e.axis == edge.axis]
    many = any(e.kind == "many" for e in others)
    return not many and len({e.offset > 0 for e in others}) == 1


def order_of(model: ir.Model) -> list[str]:
    """Names as the writer meets them: states, then what is computed, then calls."""
    names = [s.name for s in model.states] + [e.name for e in model.equations]
    return list(dict.fromkeys((*names, *(c.name for c in model.calls))))


def _recurrence(
    order: Mapping[str, int],
    members: frozenset[str],
    inside: tuple[Edge, ...],
    axis: str,
) -> Recurrence:
    read = {e.source for e in inside if e.axis == axis}
    backward = any(e.offset > 0 for e in inside if e.axis == axis)
    direction: Direction = "backward" if backward else "forward"
    return Recurrence(
        states=tuple(sorted(read, key=order.__getitem__)),
        axis=axis,
        direction=direction,
        members=tuple(sorted(members, key=order.__getitem__)),
        edges=inside,
    )
