"""Gradients of what is read along a copy of time, seen from the step that it was made at.

What a reader at step `t` hands to step `s` is a row for every `s`. The gradient of step `s`
is the sum over `t` of its row.
"""

from __future__ import annotations

from dataclasses import replace

from seqdsl.differentiate.broadcast import add, mul, typed
from seqdsl.differentiate.draft import Draft
from seqdsl.differentiate.gather import Share
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import BATCH, TIME, Type
from seqdsl.ir.walk import references
from seqdsl.source import Span


def has_rows(draft: Draft, node: ir.Node) -> bool:
    """Whether `node` reads a value with a row for every step of a copy of time."""
    copies = frozenset(draft.model.copies)
    return any(r.type.axes & copies for r in references(node))


def summed_rows(share: Share, copy: str) -> Share:
    """`share` of what is read along `copy`, summed over the steps that read it."""
    ct = share.ct
    if TIME in share.around:
        every = ct.type.axes | {BATCH, TIME, copy}
        ct = typed(ct, replace(ct.type, axes=every))
        ct = build.reduce("sum", ct, (TIME,))
    return _picked(share, ct, copy)


def running_rows(
    draft: Draft, share: Share, copy: str, hint: str, strict: bool, span: Span
) -> Share:
    """The same where later steps read what this step is made for: sums so far.

    With `strict`, no step reads itself.
    """
    axes = share.around | {BATCH, TIME, copy}
    type_ = Type(share.ct.type.dtype, share.dims, axes)
    name = draft.name(f"{hint}_rows")
    rows = build.ref(name, type_, span)
    after = build.shift(rows, TIME, 1)
    scope = draft.scope_of(axes)
    draft.define(name, add(after, share.ct), type_, scope, span)
    draft.carry(name, type_, TIME, build.const(0.0), span)
    return _picked(share, after if strict else rows, copy)


def _picked(share: Share, rows: ir.Node, copy: str) -> Share:
    """The row of the current step."""
    here, there = (build.position(a, axis=True) for a in (TIME, copy))
    own = build.map_("float", build.map_("eq", here, there))
    one = build.reduce("sum", mul(own, rows), (copy,))
    return replace(share, ct=one, around=share.around | {TIME})
