"""Which loops along time a kernel can run, and what stands in the way of the others."""

from __future__ import annotations

from collections.abc import Iterator

from seqdsl.ir import nodes as ir
from seqdsl.ir.types import TIME
from seqdsl.ir.walk import subtree
from seqdsl.schedule.cut import Fusion
from seqdsl.schedule.plan import Assign, TimeLoop, defined


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
    for step in (*loop.body, *loop.replay):
        if not isinstance(step, Assign):
            yield "a layer or a repeat inside"
            continue
        # a kernel's values have a batch and a time, but no copies of it
        if step.equation.expr.type.axes & copies:
            yield "values along a copy of time"
        for n in subtree(step.equation.expr):
            if isinstance(n, ir.Ref | ir.Result | ir.Const):
                continue
            if not fusion.allowed(n):
                yield _unknown(n)
            elif not shift_fits(n, known, inside, fusion):
                yield "a read of another step than the last"


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
