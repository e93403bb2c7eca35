"""Gradients of one value from all its readers, summed over what it does not vary along."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from seqdsl.differentiate.broadcast import ZERO, add, select, spread, summed, typed
from seqdsl.differentiate.draft import Draft
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import BATCH, TIME, Type
from seqdsl.source import Span


@dataclass(frozen=True)
class Share:
    """A reader's share `ct` of a gradient, once for each index of `around`.

    `ct` may lack dims and axes along which it is constant; `dims` are those of the
    read.
    """

    ct: ir.Node
    around: frozenset[str]
    dims: tuple[str, ...]


def gather(
    draft: Draft, shares: Sequence[Share], type_: Type, hint: str, span: Span
) -> ir.Node | None:
    """The sum of `shares` for a value whose gradient is of `type_`; None for no shares.

    Sums over time, sequences and dims come first. What the steps of a `repeat` give to
    a value outside of it is added up by a state of that repeat.
    """
    groups: dict[tuple[str, ...], ir.Node] = {}
    around: dict[tuple[str, ...], frozenset[str]] = {}
    for share in shares:
        depth = draft.scope_of(share.around - type_.axes)
        part = _flat(draft, share, type_, frozenset(depth))
        groups[depth] = add(groups.get(depth), part)
        around[depth] = around.get(depth, frozenset[str]()) | share.around
    total: ir.Node | None = None
    for depth, part in groups.items():
        scope = draft.scope_of(around[depth])
        for axis in reversed(depth):
            part = _added_up(draft, part, scope, axis, hint, span)
            scope = tuple(a for a in scope if a != axis)
        total = add(total, part)
    return total


def _flat(draft: Draft, share: Share, type_: Type, depth: frozenset[str]) -> ir.Node:
    """A share summed over time, sequences, copies and dims."""
    lost = share.around - type_.axes - depth
    if draft.segments and BATCH in lost and TIME not in share.around:
        # Once for every segment, which has one first step.
        first = build.map_("eq", build.position(TIME, axis=True), build.const(0))
        around = share.around | {TIME}
        share = replace(share, ct=select(first, share.ct, ZERO), around=around)
        lost = lost | {TIME}
    missing = lost - share.ct.type.axes
    ct = spread(share.ct, [d for d in share.dims if d not in type_.dims])
    if missing:
        every = Type(ct.type.dtype, ct.type.dims, ct.type.axes | missing)
        ct = typed(ct, every)
    over = [d for d in ct.type.dims if d not in type_.dims]
    ct = summed(ct, [*sorted(lost, key=_order), *over])
    if ct.type.dtype == "complex" and type_.dtype != "complex":
        ct = build.map_("real", ct)
    return ct


def _order(axis: str) -> tuple[int, str]:
    return {BATCH: 0, TIME: 1}.get(axis, 2), axis


def _added_up(
    draft: Draft,
    part: ir.Node,
    scope: tuple[str, ...],
    axis: str,
    hint: str,
    span: Span,
) -> ir.Node:
    """The sum of `part` over the steps of `axis`, as the last value of a state."""
    type_ = part.type
    type_ = Type(type_.dtype, type_.dims, type_.axes | set(scope))
    name = draft.name(f"{hint}_sum")
    so_far = build.ref(name, type_)
    before = build.shift(so_far, axis, -1)
    draft.define(name, add(before, part), type_, scope, span)
    draft.carry(name, type_, axis, build.const(0.0), span)
    return build.at(so_far, axis, None)
