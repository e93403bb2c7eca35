"""Gradients of what has a value for each step of a `repeat`, in the order of the steps."""

from __future__ import annotations

from seqdsl.differentiate.draft import Draft
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Apply, Lit, Opt
from seqdsl.ir.types import Type


def by_steps(draft: Draft, gradient: ir.Ref, name: str) -> ir.Ref:
    """`gradient` of the parameter `name` with a dim for each repeat, outermost first."""
    param = draft.model.param.get(name)
    if param is None:
        return gradient
    value = gradient
    for axis in reversed(draft.scope_of(param.type.axes)):
        value = _stacked(draft, value, axis)
    return value


def dim_of(draft: Draft, axis: str) -> str:
    """A dim with an entry for each step of `axis`."""
    count = draft.model.repeat[axis].count
    assert isinstance(count, Lit | Opt | Apply), "untied along a loop of unknown length"
    if ("dim", axis) not in draft.shared:
        name = draft.name(f"{axis}_steps")
        draft.dims.added[name] = count
        draft.shared["dim", axis] = build.ref(name, Type("int"))
    return draft.shared["dim", axis].name


def _stacked(draft: Draft, value: ir.Ref, axis: str) -> ir.Ref:
    """`value`, which has mirrored steps, with the steps of `axis` in order as its first dim."""
    again = draft.rerun(axis).axis
    here = build.position(again, axis=True)
    index = build.map_("sub", draft.count(axis, 1), here)
    step = build.at(value, draft.mirror(axis).axis, index)
    name = draft.name(f"{value.name}_{axis}")
    scope = draft.scope_of(step.type.axes)
    ref = draft.define(name, step, step.type, scope, value.span)
    steps = build.stack(ref, again, dim_of(draft, axis))
    name = draft.name(f"{value.name}_steps")
    scope = draft.scope_of(steps.type.axes)
    return draft.define(name, steps, steps.type, scope, value.span)
