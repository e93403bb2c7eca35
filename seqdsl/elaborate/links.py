"""Links to the first steps of a repeat, read inside it: `v[l = 1]`, `x[l = 0]`."""

from __future__ import annotations

from seqdsl.elaborate.context import Context
from seqdsl.elaborate.scope import Scope
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import BATCH, TIME


def carried(
    ctx: Context, scope: Scope, source: ir.Ref | ir.Result, axis: str, step: int
) -> ir.Node:
    """`source` at step 0 or 1 of `axis`, kept by a state that later steps hand on.

    What such a link abbreviates is a recurrence, so that no stage behind this one has
    to know that step 1 is never later than the step that reads it.
    """
    around = scope.axes[: scope.axes.index(axis) + 1]
    place = build.const(step, source.span)
    inner = source.type.axes - {BATCH, TIME, *around} - set(ctx.copies)
    if inner:
        return build.at(source, axis, place)
    base = source.name if isinstance(source, ir.Ref) else source.call
    key = (base, source.output if isinstance(source, ir.Result) else "", axis, step)
    if key not in ctx.links:
        ctx.links[key] = _state(ctx, around, source, axis, step)
    return build.ref(ctx.links[key].name, ctx.links[key].type, source.span)


def _state(
    ctx: Context,
    around: tuple[str, ...],
    source: ir.Ref | ir.Result,
    axis: str,
    step: int,
) -> ir.State:
    base = source.name if isinstance(source, ir.Ref) else source.call
    name = ctx.fresh(f"{base}_{axis}_{step}")
    zero = build.const(False if source.type.dtype == "bool" else 0)
    state = ir.State(
        name=name,
        type=source.type,
        initial=zero,
        carried=frozenset({axis}),
        span=source.span,
    )
    here = build.ref(name, source.type, source.span)
    if step == 0 and isinstance(source, ir.Ref):
        ctx.shifts.setdefault(source.name, {}).setdefault(axis, set()).add(-1)
    value = build.shift(source, axis, step - 1, source.span)
    is_first = build.map_("eq", build.position(axis, axis=True), build.const(1))
    kept = build.shift(here, axis, -1, source.span)
    update = build.map_("where", is_first, value, kept, span=source.span)
    ctx.states[name] = state
    ctx.equations[name] = ir.Equation(
        name=name, expr=update, scope=around, written=False, span=source.span
    )
    return state
