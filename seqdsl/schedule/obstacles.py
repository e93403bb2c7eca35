"""Which loops along time a kernel can run, and what stands in the way of the others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from seqdsl.ir import nodes as ir
from seqdsl.ir.types import TIME
from seqdsl.ir.walk import subtree
from seqdsl.schedule.cut import Fusion, fits
from seqdsl.schedule.dependence import names_in
from seqdsl.schedule.plan import Assign, DepthLoop, Step, TimeLoop, defined
from seqdsl.schedule.repeats import axes_in, of_step


def kernel_loop(
    model: ir.Model, loop: TimeLoop, fusion: Fusion, more: tuple[str, ...] = ()
) -> bool:
    """Whether a kernel computes everything in `loop`, beside which `more` is carried."""
    return next(obstacles(model, loop, fusion, more), None) is None


def obstacles(
    model: ir.Model, loop: TimeLoop, fusion: Fusion, more: tuple[str, ...] = ()
) -> Iterator[str]:
    """What in `loop`, beside which `more` is carried, no kernel computes."""
    known = {*loop.carried, *loop.replayed, *more}
    copies = set(model.copies)
    inside = frozenset(defined((*loop.body, *loop.replay)))
    axes = axes_in(loop) if fusion.turns else frozenset[str]()
    for step in _flat((*loop.body, *loop.replay), axes):
        if not isinstance(step, Assign):
            kind = "repeat" if isinstance(step, DepthLoop) else "layer"
            yield f"a {kind} inside"
            continue
        # a kernel's values have a batch and a time, but no copies of it
        if step.equation.expr.type.axes & copies:
            yield "values along a copy of time"
        if axes and step.equation.expr.type.dtype == "complex":
            yield "complex numbers in a repeat"
        for n in subtree(step.equation.expr):
            if isinstance(n, ir.Ref | ir.Result | ir.Const) or of_step(n, axes):
                continue
            if not fusion.allowed(n) or (
                isinstance(n, ir.Gather) and not fits(n, inside, fusion, True)
            ):
                yield _unknown(n)
            elif axes and isinstance(n, ir.Gather):
                yield "a look-up in a repeat"
            elif not shift_fits(n, known, inside, fusion):
                yield "a read of another step than the last"
    yield from _read_inside(model, axes, inside, known)


def _flat(steps: Iterable[Step], axes: frozenset[str]) -> Iterator[Step]:
    """Steps with those of the repeats along `axes` in the place of these."""
    for step in steps:
        if isinstance(step, DepthLoop) and step.repeat.axis in axes:
            yield from step.body
        else:
            yield step


def _read_inside(
    model: ir.Model,
    axes: frozenset[str],
    inside: frozenset[str],
    carried: Iterable[str],
) -> Iterator[str]:
    """Steps of repeats are not seen outside of the loop, nor at the step before."""
    if not axes:
        return
    if any(axes & set(model.equation[n].scope) for n in carried):
        yield "a state in each step of a repeat"
    held = {n for n in inside if axes & set(model.equation[n].scope)}
    exprs = [e.expr for e in model.equations if e.name not in inside]
    exprs += [o.expr for o in model.outputs]
    if any(names_in(e) & held for e in exprs):
        yield "a step of a repeat is read outside"


def _unknown(node: ir.Node) -> str:
    """What a node is that no kernel computes, in the words of the language."""
    if node.type.dtype == "complex":
        return "complex numbers"
    match node:
        case ir.Shift():
            return "a read of another step than the last"
        case ir.Map(op=op) | ir.Reduce(op=op) | ir.Along(op=op):
            return f"`{op}`"
        case _:
            return f"the operator {type(node).__name__.lower()}"


def shift_fits(
    node: ir.Node, known: set[str], inside: frozenset[str], fusion: Fusion
) -> bool:
    """Whether a loop that carries `known` and computes `inside` can read `node`."""
    match node:
        case ir.Shift(arg=ir.Ref(name=name), axis=axis, offset=offset) if axis == TIME:
            outside = fusion.whole and name not in inside and offset == -1
            return name in known or outside
        case ir.Shift():
            return False
        case _:
            return True
