"""Where axes begin and end, for gradients that pass there."""

from __future__ import annotations

from seqdsl.differentiate.broadcast import add
from seqdsl.differentiate.draft import Draft
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import BATCH, TIME, Type
from seqdsl.source import NOWHERE


def within(draft: Draft, axis: str, index: ir.Node) -> ir.Node:
    """Whether the current step is step `index` of `axis`, a repeat walked backward."""
    here = build.position(TIME, axis=True) if axis == TIME else draft.back(axis)
    return build.map_("eq", here, index)


def at_last_step(draft: Draft, axis: str) -> ir.Node:
    """Whether this is the last step of a sequence, or of a repeat walked backward."""
    if axis == TIME:
        return build.map_("not", _later(draft, 1))
    here = build.position(draft.mirror(axis).axis, axis=True)
    return build.map_("eq", here, build.const(1))


def outside(draft: Draft, carry: ir.Ref, axis: str, offset: int, some: bool) -> ir.Node:
    """What `carry`, read at `offset`, hands to the value outside of the axis.

    Of a sequence without steps that is 0; one that has `some` can be read at the first.
    """
    if axis != TIME:
        return _before_first(draft, carry, axis, -offset)
    if offset == -1 and some:
        return build.at(carry, TIME, build.const(0))
    here = build.position(TIME, axis=True)
    if offset < 0:
        beyond = build.map_("lt", here, build.const(-offset))
    else:
        beyond = build.map_("not", _later(draft, offset))
    return build.reduce("sum", carry, (TIME,), beyond)


def _before_first(draft: Draft, carry: ir.Ref, axis: str, reach: int) -> ir.Node:
    """The first `reach` steps of a repeat, which its mirror takes last."""
    mirror = draft.mirror(axis).axis
    total: ir.Node = build.at(carry, mirror, None)
    for step in range(2, reach + 1):
        index = draft.count(axis, 1 - step)
        if not isinstance(index, ir.Const):
            index = build.map_("max", index, build.const(0))
        total = add(total, build.at(carry, mirror, index))
    return total


def _later(draft: Draft, steps: int) -> ir.Node:
    """Whether the sequence has a step so many steps later."""
    key = "inside", TIME
    if key not in draft.shared:
        every = Type("bool", (), frozenset({BATCH, TIME}))
        here = build.map_("ge", build.position(TIME, axis=True), build.const(0))
        name = draft.name("inside")
        draft.shared[key] = draft.define(name, here, every, (), NOWHERE)
    return build.shift(draft.shared[key], TIME, steps)
