"""Loops along depth taken apart where not all of a loop belongs into a recurrence.

What stands in one `repeat` is computed in one loop. Where that is part of a loop along
time, but something in it reads all of time, there is no order. What the recurrence is
made of stays in the loop then, and the rest gets a loop of its own, before or after,
that reads the steps of the other. K. Kennedy and K. S. McKinley, Loop distribution with
arbitrary control flow, Supercomputing 1990.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from seqdsl.ir import nodes as ir
from seqdsl.ir.types import TIME
from seqdsl.schedule.dependence import Edge
from seqdsl.schedule.graph import components
from seqdsl.schedule.parting import parted


def fission(
    model: ir.Model, names: Sequence[str], edges: Sequence[Edge], depth: int
) -> ir.Model | None:
    """`model` with one loop along depth in two, so that `names` may have an order.

    They stand in the same `depth` loops along depth, and `edges` are the reads among
    them. None where no loop can be taken apart.
    """
    inside = set(names)
    own = [e for e in edges if e.source in inside and e.reader in inside]
    core = _first_recurrence(names, own)
    before = {n: [e.source for e in own if e.reader == n] for n in names}
    for axis, ours in _loops(model, names, depth).items():
        pivots = [core] if core else [frozenset((n,)) for n in names if n not in ours]
        for pivot in pivots:
            early = _reached(pivot, before) - pivot
            for part in (ours - pivot - early, ours & early):
                if part and part != ours:
                    found = parted(model, axis, part)
                    if found is not None:
                        return found
    return None


def _first_recurrence(names: Sequence[str], edges: Sequence[Edge]) -> frozenset[str]:
    """The first circle of reads of which some are of other steps of time."""
    after: dict[str, list[str]] = {name: [] for name in names}
    for edge in edges:
        after[edge.source].append(edge.reader)
    timed = [(e.source, e.reader) for e in edges if e.along(TIME) != 0]
    for group in components(list(names), after):
        inside = frozenset(group)
        if any(a in inside and b in inside for a, b in timed):
            return inside
    return frozenset()


def _reached(start: frozenset[str], after: Mapping[str, list[str]]) -> set[str]:
    """What some of `start` are connected to."""
    found, todo = set[str](), [*start]
    while todo:
        for name in after[todo.pop()]:
            if name not in found:
                found.add(name)
                todo.append(name)
    return found


def _loops(
    model: ir.Model, names: Sequence[str], depth: int
) -> Mapping[str, frozenset[str]]:
    """The loops along depth that hold some of `names`, and which."""
    found: dict[str, set[str]] = {}
    for axis, name in _axes(model, names, depth):
        found.setdefault(axis, set()).add(name)
    return {axis: frozenset(ours) for axis, ours in found.items()}


def _axes(
    model: ir.Model, names: Sequence[str], depth: int
) -> Iterator[tuple[str, str]]:
    for name in names:
        named = model.equation.get(name) or model.call[name]
        if len(named.scope) > depth:
            yield named.scope[depth], name
