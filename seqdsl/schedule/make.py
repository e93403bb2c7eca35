"""Model → Plan: inline what a time loop needs, order, hoist."""

from __future__ import annotations

from dataclasses import replace

from seqdsl.diagnostics import SpecError
from seqdsl.ir import nodes as ir
from seqdsl.rewrite.inline import inline_calls
from seqdsl.rewrite.name_convs import name_convs
from seqdsl.schedule.choose import LOOP, Wish
from seqdsl.schedule.dependence import dependences
from seqdsl.schedule.fission import fission
from seqdsl.schedule.hoist import hoist
from seqdsl.schedule.in_parallel import in_parallel
from seqdsl.schedule.loops import Problem, order
from seqdsl.schedule.plan import Call, Plan, Step, TimeLoop, walk


def plan(model: ir.Model, wish: Wish = LOOP) -> Plan:
    """The loops in which the equations of `model` run, for whole sequences.

    `wish` says which of them run in a parallel form instead.

    Calls that would stand in a loop along time are inlined, so that their state-free
    parts can leave it. Raises `SpecError` (E0310) for a circle that no loop carries.
    """
    model, steps = _ordered(name_convs(model))
    while inside := _called_in_time(steps):
        model, steps = _ordered(name_convs(inline_calls(model, inside)))
    taken = frozenset(
        [
            *model.input,
            *model.param,
            *model.equation,
            *model.call,
            *(o.name for o in model.options),
            *model.dims,
            *model.repeat,
        ]
    )
    chosen = in_parallel(Plan(model=model, steps=steps), wish)
    return replace(chosen, steps=hoist(chosen.steps, taken))


def _ordered(model: ir.Model) -> tuple[ir.Model, tuple[Step, ...]]:
    """`model` and its steps, after loops along depth are taken apart where they must be."""
    current, first = model, None
    while True:
        refused: list[Problem] = []
        try:
            return current, order(current, dependences(current), refused=refused)
        except SpecError as error:
            first = first or error
            parts = (fission(current, p.names, p.edges, len(p.depth)) for p in refused)
            found = next((m for m in parts if m is not None), None)
            if found is None:
                raise first from None
            current = found


def plan_step(model: ir.Model) -> Plan:
    """The same for one step of a stream; `model` is that of `plan(…)`.

    Everything that reads an earlier step reads it from the state, so only loops along
    depth remain.
    """
    return Plan(model=model, steps=order(model, dependences(model), in_time=True))


def _called_in_time(steps: tuple[Step, ...]) -> frozenset[str]:
    """Calls that stand inside a loop along time."""
    names: set[str] = set()
    for step in walk(steps):
        if isinstance(step, TimeLoop):
            names.update(s.call.name for s in walk(step.body) if isinstance(s, Call))
    return frozenset(names)
