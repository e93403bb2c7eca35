"""States at the ends of a sequence as inputs and outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from seqdsl.differentiate.broadcast import typed
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.names import fresh, names_of
from seqdsl.ir.types import BATCH, TIME, Type


@dataclass(frozen=True)
class Opened:
    """A model whose states start from inputs and end as outputs.

    `first` and `last` give for each state the name of that input and of that output.
    """

    model: ir.Model
    first: Mapping[str, str]
    last: Mapping[str, str]


def open_states(model: ir.Model) -> Opened:
    """`model` with the values of its states before and after the sequence made explicit.

    A state `h` starts from the input `h_first` and ends as the output `h_last`, both
    `[batch, dims]`. States inside a `repeat`, and those with a row for every step, keep the
    initial values of the spec.
    """
    copies = frozenset(model.copies)
    taken = names_of(model) | {o.name for o in model.outputs}
    carried = [
        s
        for s in model.states
        if s.carried == frozenset({TIME}) and not s.type.axes & copies
    ]
    first = {s.name: fresh(f"{s.name}_first", taken) for s in carried}
    last = {s.name: fresh(f"{s.name}_last", taken) for s in carried}
    inputs = [
        ir.Input(name=first[s.name], type=_at_an_end(s), span=s.span) for s in carried
    ]
    outputs = [
        ir.Output(
            name=last[s.name],
            expr=build.at(build.ref(s.name, s.type), TIME, None, s.span),
            span=s.span,
        )
        for s in carried
    ]
    states = (
        replace(s, initial=build.ref(first[s.name], _at_an_end(s), s.initial.span))
        if s.name in first
        else s
        for s in model.states
    )
    opened = replace(
        model,
        inputs=(*model.inputs, *inputs),
        states=tuple(states),
        outputs=(*model.outputs, *outputs),
    )
    return Opened(opened, first, last)


def per_segment(model: ir.Model) -> ir.Model:
    """`model` with an input or output per segment where it has one per sequence.

    An input `c` per batch becomes `c_steps` per step, of which the first step of each
    segment is read; an output per batch becomes one per step, which does not change
    along a segment. What is the same for a whole row is thus given to each of its
    segments, and its gradient is the sum over the row; what is wanted of a row's last
    segment stands at the last step, and its gradient belongs there.
    """
    taken = names_of(model) | {o.name for o in model.outputs}
    inputs: list[ir.Input] = []
    firsts: list[ir.Equation] = []
    for given in model.inputs:
        if given.type.axes == frozenset({BATCH}):
            name, type_ = fresh(f"{given.name}_steps", taken), per_step(given.type)
            first = build.at(build.ref(name, type_), TIME, build.const(0), given.span)
            firsts.append(
                ir.Equation(name=given.name, expr=first, written=False, span=given.span)
            )
            given = replace(given, name=name, type=type_)
        inputs.append(given)
    outputs = (
        replace(o, expr=typed(o.expr, per_step(o.expr.type))) for o in model.outputs
    )
    return replace(
        model,
        inputs=tuple(inputs),
        equations=(*firsts, *model.equations),
        outputs=tuple(outputs),
    )


def per_step(type_: Type) -> Type:
    """A value per sequence as one that every step has; others as they are."""
    each = type_.axes == frozenset({BATCH})
    return replace(type_, axes=type_.axes | {TIME}) if each else type_


def _at_an_end(state: ir.State) -> Type:
    return Type(state.type.dtype, state.type.dims, frozenset({BATCH}))
