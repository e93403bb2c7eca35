"""In which loops a layer's equations run: `plan(model)`, the first thing a backend asks.

A plan names no target. Whatever can be computed for the whole sequence at once stands
outside any loop along time; a `TimeLoop` holds only what a recurrence needs, and a
`Parallel` step stands for a loop that is not run as one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from seqdsl.ir import nodes as ir
from seqdsl.schedule.forms import Form, computed

Direction = Literal["forward", "backward"]


@dataclass(frozen=True, kw_only=True)
class Assign:
    """Compute one equation at all indices of the axes that are not looped around it."""

    equation: ir.Equation


@dataclass(frozen=True, kw_only=True)
class Call:
    """Apply a sub-layer to whole sequences (one step, inside a `TimeLoop`)."""

    call: ir.CallSite


@dataclass(frozen=True, kw_only=True)
class TimeLoop:
    """Run `body` step by step along time.

    `carried` are the values that the body reads at earlier (later, when `direction` is
    backward) steps. `hoisted` are state-free parts of the body's equations under names
    of their own, computed for the whole sequence before the loop. `replay` is a body that
    runs the other way: what it computes is not stored for all steps but run again from
    borders of chunks, for the steps at which `body` reads it; `replayed` it carries.
    """

    direction: Direction
    carried: tuple[str, ...]
    hoisted: tuple[ir.Equation, ...]
    body: tuple[Step, ...]
    replay: tuple[Step, ...] = ()
    replayed: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class DepthLoop:
    """Run `body` for the steps 1 … count of `repeat`.

    `carried` are the values that the body reads at earlier steps of the loop.
    """

    repeat: ir.Repeat
    carried: tuple[str, ...]
    body: tuple[Step, ...]


@dataclass(frozen=True, kw_only=True)
class Parallel:
    """Compute the states of `loop` at all steps at once, in the form `form`.

    Whatever else `loop` computes follows as steps of its own, where it is needed.
    """

    loop: TimeLoop
    form: Form


Step = Assign | Call | TimeLoop | DepthLoop | Parallel


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Steps in the order in which they run; `model` is what they compute.

    `model` differs from the model planned where calls had to be inlined.
    """

    model: ir.Model
    steps: tuple[Step, ...]


def walk(steps: tuple[Step, ...]) -> Iterator[Step]:
    """Every step and what is inside it, outer ones first."""
    for step in steps:
        yield step
        match step:
            case TimeLoop(body=body) | DepthLoop(body=body):
                yield from walk(body)
            case Assign() | Call() | Parallel():
                pass


def defined(steps: tuple[Step, ...]) -> Iterator[str]:
    """Names of the equations and calls computed by `steps`, temporaries left out."""
    for step in walk(steps):
        match step:
            case Assign(equation=equation):
                yield equation.name
            case Call(call=call):
                yield call.name
            case Parallel(form=form):
                yield from computed(form)
            case TimeLoop() | DepthLoop():
                pass
