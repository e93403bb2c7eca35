"""Reads of other steps: shifts, windows of convolutions, copies of the time axis."""

from __future__ import annotations

from seqdsl.backends.torch.method import ROWS, Key, Method
from seqdsl.backends.torch.pointwise import tensor
from seqdsl.backends.torch.python import Atom, Expr, Item, call, one_line
from seqdsl.backends.torch.values import Value, align, permute
from seqdsl.diagnostics import UnsupportedError
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import BATCH, TIME


def timed(m: Method, value: Value) -> Value:
    """`value` with batch and time in front, each of its full extent or 1."""
    if TIME in value.layout:
        if value.even:
            code = call(m.helper("_expand_time"), value.code, m.need("time"))
            return Value(code, value.layout, value.dtype)
        return value
    value = tensor(m, value)
    rest = tuple(n for n in value.layout if n != BATCH)
    marks = ":" if BATCH in value.layout else "None"
    wide = value.at(Item(value.code, f"{marks}, None"), (BATCH, TIME, *rest))
    code = call(m.helper("_expand_time"), wide.code, m.need("time"))
    return wide.at(code)


def earlier_or_later(
    m: Method, key: Key, value: Value, offset: int, outside: Value | None
) -> Value:
    """`value` at another step of the sequence."""
    if m.in_time:
        raise UnsupportedError("a later step cannot be read within a step")
    value = timed(m, value)
    rest = tuple(n for n in value.layout if n not in (BATCH, TIME))
    if outside is None:
        fill: Expr = Atom(f"{one_line(value.code)}.new_zeros(())")
    elif TIME in outside.layout:
        fill = align(outside, (BATCH, TIME, *rest))
    elif BATCH in outside.layout:
        fill = Item(align(outside, (BATCH, *rest)), ":, None")
    else:
        fill = align(outside, rest)
    if offset > 0:
        m.needed["segments"] = None
        wide = fill
        code = call(m.helper("_later"), value.code, offset, Atom("segments"), wide)
        return value.at(code)
    past = m.look("past", *key)
    rows = [n for n in rest if n in m.model.copies]
    if rows:
        axes = call("range", "2", str(2 + len(rows)))
        past = past.at(call(m.helper("_with_rows"), past.code, fill, ROWS, axes))
    m.need_position()
    code = call(m.helper("_earlier"), value.code, past.code, -offset, Atom("t"), fill)
    return value.at(code)


def shared(m: Method, key: Key, node: ir.Shift, value: Value) -> Value:
    """What `node` reads, under a name where several equations read it."""
    inside = m.in_time or m.looping or m.steps
    if inside or not m.layer.reads_again(node):
        return value
    side = "before" if node.offset < 0 else "after"
    bound = m.bind(m.names.new(f"{key[1]}_{side}"), value)
    m.env["shift", *key, node.axis, node.offset] = bound
    return bound


def rows_before(m: Method, key: Key, past: Value, outside: Value | None) -> Value:
    """A state along copies of time at the step before, in `step`: with the row of now."""
    assert outside is not None
    lead = (BATCH,) if BATCH in outside.layout else ()
    rest = past.layout[1:]
    rows = [n for n in rest if n in m.model.copies]
    axes = call("range", "1", str(1 + len(rows)))
    fill = align(outside, (*lead, *rest))
    name = m.names.new(f"{key[1]}_before")
    m.write(f"{name} = ", call(m.helper("_with_rows"), past.code, fill, ROWS, axes))
    known = past.at(Atom(name))
    m.env["shift", *key, TIME, -1] = known
    return known


def windows(m: Method, node: ir.Conv, value: Value, tap: str) -> Value:
    """The last (next) entries of `value` at every step, as the dimension `tap`."""
    if m.in_time:
        return _window(m, node, value, tap)
    value = timed(m, value)
    width, dilation = m.layer.extent(tap), m.whole(node.dilation)
    layout = (BATCH, TIME, tap, *value.layout[2:])
    if node.ahead:
        m.needed["segments"] = None
        helper = m.helper("_windows_ahead")
        code = call(helper, value.code, width, dilation, Atom("segments"))
        return value.at(code, layout)
    past = m.look("conv", m.current)
    name = value.code
    if not isinstance(name, Atom):
        local = m.names.new(f"{past_name(past)}_in")
        m.write(f"{local} = ", name, "", node.span)
        value = value.at(Atom(local))
    m.env["conv_next", m.current] = value
    m.need_position()
    code = call(m.helper("_windows"), value.code, past.code, width, dilation, Atom("t"))
    return value.at(code, layout)


def _window(m: Method, node: ir.Conv, value: Value, tap: str) -> Value:
    """The same at one step: what a loop from either end has seen before, then this."""
    past = m.find("conv", m.current)
    if past is None:
        raise UnsupportedError("a later step cannot be read within a step")
    dilation = m.whole(node.dilation)
    rest = tuple(n for n in value.layout if n != BATCH)
    now = value.code if BATCH in value.layout else Item(value.code, "None")
    name = m.names.new("window")
    code = call(m.helper("_with_past"), past.code, Item(now, ":, None"))
    m.write(f"{name} = ", code, "", node.span)
    m.env["conv_next", m.current] = Value(
        Item(Atom(name), ":, 1:"), (BATCH, TIME, *rest), value.dtype
    )
    step = one_line(dilation)
    taken: Expr = Atom(name)
    if step != "1":
        taken = Item(taken, f":, ::{step}")
    return Value(taken, (BATCH, tap, *rest), value.dtype)


def past_name(past: Value) -> str:
    """A name for what a convolution reads, after its entry of the state."""
    text = one_line(past.code)
    parts = [p for p in text.replace('"', " ").split() if p.isidentifier()]
    return parts[-1] if parts else "conv"


def copied(m: Method, key: Key, value: Value, copy: str) -> Value:
    """All steps seen so far, and those of this call, along the copy axis `copy`."""
    known = m.find("copy", *key)
    if known is None:
        past = m.find("history", *key)
        if past is None:
            known = _whole(m, value)
        elif m.in_time:
            now = value.code if BATCH in value.layout else Item(value.code, "None")
            rest = tuple(n for n in value.layout if n != BATCH)
            known = _seen(m, key, past, Item(now, ":, None"), rest, value)
        else:
            value = timed(m, value)
            known = _seen(m, key, past, value.code, value.layout[2:], value)
        m.env["copy", *key] = known
    return _renamed(known, copy)


def copied_before(m: Method, key: Key, copy: str) -> Value:
    """The same within a step that has yet to compute its value: that counts as 0.

    The order of steps allows it only where nothing but earlier steps is visible.
    """
    known = m.find("blank", *key)
    if known is None:
        past = m.look("history", *key)
        name = m.names.new(f"{key[1]}_before")
        m.write(f"{name} = ", call(m.helper("_with_blank"), past.code))
        known = past.at(Atom(name))
        m.env["blank", *key] = known
    return _renamed(known, copy)


def _renamed(known: Value, copy: str) -> Value:
    layout = tuple(copy if n == TIME else n for n in known.layout)
    lead = [n for n in (BATCH, copy) if n in layout]
    return permute(known.at(known.code, layout), (*lead, *layout[2:]))


def _whole(m: Method, value: Value) -> Value:
    if m.in_time:
        raise UnsupportedError("a copy of time that reads later steps, within a step")
    return timed(m, value)


def _seen(
    m: Method, key: Key, past: Value, now: Expr, rest: tuple[str, ...], value: Value
) -> Value:
    """Past and present steps of a value under a name of their own."""
    name = m.names.new(f"{key[1]}_all")
    m.write(f"{name} = ", call(m.helper("_with_past"), past.code, now))
    return Value(Atom(name), (BATCH, TIME, *rest), value.dtype)
