"""Recurrences that move by a declared monoid."""

from __future__ import annotations

from collections.abc import Iterable

from seqdsl.analysis.graph import Edge, order_of, within
from seqdsl.analysis.laws import laws_of
from seqdsl.analysis.normal import Normal
from seqdsl.analysis.verdict import Recurrence, Verdict
from seqdsl.ir import nodes as ir


def declared_verdict(
    model: ir.Model, monoid: ir.Monoid, edges: tuple[Edge, ...]
) -> Verdict | None:
    """The verdict of all states of `monoid` together; None where a step reads them.

    Raises `SpecError` where a law does not hold.
    """
    laws = laws_of(model, monoid)
    members = _members(monoid, edges)
    inside = within(edges, members)
    normal = Normal(model, monoid.axis, members, inside)
    if any(map(normal.active, monoid.leaf)):
        return None
    recurrence = Recurrence(
        states=monoid.states,
        axis=monoid.axis,
        direction="backward" if monoid.offset > 0 else "forward",
        members=tuple(n for n in order_of(model) if n in members),
    )
    return Verdict(
        recurrence,
        "scannable",
        structure="monoid",
        monoid=monoid,
        invariant=not any(monoid.axis in n.type.axes for n in monoid.leaf),
        strategies=("loop", "scan"),
        leaf=monoid.leaf,
        laws=laws,
    )


def _members(monoid: ir.Monoid, edges: Iterable[Edge]) -> frozenset[str]:
    """The states, and what both depends on them and goes into them."""
    edges = tuple(edges)
    above = _closure(monoid.states, ((e.reader, e.source) for e in edges))
    below = _closure(monoid.states, ((e.source, e.reader) for e in edges))
    return frozenset(monoid.states) | (above & below)


def _closure(start: Iterable[str], steps: Iterable[tuple[str, str]]) -> frozenset[str]:
    after: dict[str, list[str]] = {}
    for a, b in steps:
        after.setdefault(a, []).append(b)
    found: set[str] = set()
    todo = list(start)
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo.extend(after.get(name, ()))
    return frozenset(found)
