"""Of the past, a stream keeps the steps that later ones may see."""

from __future__ import annotations

from dataclasses import replace

from seqdsl.backends.torch.expressions import expression
from seqdsl.backends.torch.memory import Body
from seqdsl.backends.torch.method import Method
from seqdsl.backends.torch.pointwise import tensor
from seqdsl.backends.torch.python import Atom, Expr, Item, call
from seqdsl.backends.torch.values import Value, align
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import BATCH, TIME
from seqdsl.schedule.remembered import remembered


def forget(body: Body) -> list[str]:
    """Lines that choose the steps worth keeping, where not all are or the last ones.

    To be called when it is known what the state holds of all steps.
    """
    found = remembered(body.m.model)
    entries = body.memory.entries
    grows = body.streams and body.memory.has("past_t")
    if found is None or not grows or any(e.copies for e in entries):
        return []
    window, conditions = found
    m = replace(body.m, lines=[], env=dict(body.m.env))
    past = [e for e in entries if e.kind == "past"]
    for entry in past:
        layout = (BATCH, TIME, *entry.type.dims)
        value = Value(m.next[entry.key], layout, entry.type.dtype)
        if not entry.scope:
            m.env["copy", *entry.source] = value
    seen, kept = m.names.new("seen_t"), m.names.new("kept")
    needed = [_of_steps(m, c) for c in conditions]
    m.write(f"{seen} = ", m.next["past_t"])
    code = call(m.helper("_seen_later"), seen, m.whole(window), *needed)
    m.write(f"{kept} = ", code)
    m.next["past_t"] = Item(Atom(seen), f":, {kept}")
    for entry in past:
        m.next[entry.key] = call(m.helper("_chosen"), m.next[entry.key], kept)
    return m.lines


def _of_steps(m: Method, condition: ir.Node) -> Expr:
    """The condition at all steps seen so far, `[batch, steps, dims]`."""
    value = tensor(m, expression(m, condition))
    copy = next(a for a in condition.type.axes if a != BATCH)
    return align(value, (BATCH, copy, *condition.type.dims))
