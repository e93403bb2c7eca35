"""What makes a recurrence sequential whatever its updates are."""

from __future__ import annotations

from collections.abc import Iterable

from seqdsl.analysis.graph import Edge
from seqdsl.analysis.verdict import Recurrence
from seqdsl.diagnostics import Diagnostic
from seqdsl.ir import nodes as ir
from seqdsl.source import Span


def impossible(
    model: ir.Model, recurrence: Recurrence, inside: tuple[Edge, ...]
) -> Diagnostic | None:
    """A reason that has nothing to do with what the updates compute, if there is one."""
    axis, states = recurrence.axis, recurrence.states
    calls = [n for n in (*states, *recurrence.members) if n in model.call]
    signs = {e.offset > 0 for e in inside if e.kind == "shift" and e.axis == axis}
    if len(signs) > 1:
        text = f"{names_of(states)} read both earlier and later steps of `{axis}`"
        return Diagnostic("E0310", text, span_of(model, states))
    if any(s in model.call for s in states):
        layer = model.instance[model.call[calls[0]].instance].model.name
        text = f"the recurrence goes through the layer `{layer}`"
        return Diagnostic("E0308", text, model.call[calls[0]].span)
    around = {a for m in recurrence.members for a in _scope(model, m)}
    for repeat in model.repeats:
        # A step not taken keeps the value of the step before it along that axis.
        if repeat.condition is not None and repeat.axis in around:
            text = (
                f"how many steps of `{repeat.axis}` are taken is decided while it runs"
            )
            return Diagnostic("E0313", text, repeat.condition.span)
    return None


def _scope(model: ir.Model, name: str) -> tuple[str, ...]:
    found = model.equation.get(name) or model.call.get(name)
    return found.scope if found is not None else ()


MOST = 40
"""Layers of more equations are not opened to see whether they are affine."""


def is_plain(model: ir.Model) -> bool:
    """Whether a layer is a few equations of one step, and so are those that it calls."""
    own = not (model.states or model.repeats or model.copies or model.externs)
    inner = (is_plain(i.model) for i in model.instances)
    return own and len(model.equations) <= MOST and all(inner)


def span_of(model: ir.Model, states: tuple[str, ...]) -> Span | None:
    """Where the first of some states is updated."""
    return model.equation[states[0]].span if states[0] in model.equation else None


def names_of(names: Iterable[str]) -> str:
    """Names in quotes."""
    return ", ".join(f"`{n}`" for n in names)
