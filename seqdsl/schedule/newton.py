"""Newton's iteration for recurrences that are not linear, where it applies."""

from __future__ import annotations

from collections.abc import Iterator

from seqdsl.analysis.graph import edges_of, within
from seqdsl.analysis.normal import Normal
from seqdsl.analysis.verdict import Verdict
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import TIME
from seqdsl.ir.walk import children
from seqdsl.schedule.forms import Newton


def newton_of(
    model: ir.Model, verdict: Verdict, *, strict: bool, most: int | None = None
) -> Newton | None:
    """The iteration for a smooth recurrence that reads one step; None for others."""
    recurrence = verdict.recurrence
    members = frozenset(recurrence.members)
    inside = within(edges_of(model), members)
    shifts = [e for e in inside if e.kind != "same"]
    if any(e.axis != TIME or abs(e.offset) != 1 for e in shifts):
        return None
    normal = Normal(model, TIME, recurrence.members, inside)
    active = [
        n
        for name in recurrence.members
        for n in _active(normal, model.equation[name].expr)
    ]
    shapes = [model.equation[s].expr.type.dims for s in recurrence.states]
    copies = tuple(
        d
        for d in shapes[0]
        if all(d in s for s in shapes) and all(_keeps(normal, n, d) for n in active)
    )
    return Newton(states=recurrence.states, copies=copies, strict=strict, most=most)


def _active(normal: Normal, node: ir.Node) -> Iterator[ir.Node]:
    """Every node that depends on the state."""
    if normal.active(node):
        yield node
        if not isinstance(node, ir.Shift):
            for child in children(node):
                yield from _active(normal, child)


def _keeps(normal: Normal, node: ir.Node, dim: str) -> bool:
    """Whether entries of `node` at one index of `dim` read entries at that index alone."""
    if dim not in node.type.dims:
        return False
    below = [c for c in children(node) if normal.active(c)]
    match node:
        case ir.Ref() | ir.Shift() | ir.Map():
            return True
        case ir.Contract(over=over) | ir.Reduce(over=over) | ir.Along(over=over):
            return dim not in over and all(dim in c.type.dims for c in below)
        case _:
            return False
