"""What a loop along time carries: variables, first values, fresh starts."""

from __future__ import annotations

from seqdsl.backends.torch.copy_position import copy_position
from seqdsl.backends.torch.equations import exprs_of
from seqdsl.backends.torch.from_the_end import initial_at, later_entry, whole_initial
from seqdsl.backends.torch.memory import Body, recent_rows
from seqdsl.backends.torch.method import ROWS, Key, Method
from seqdsl.backends.torch.per_step import each_step
from seqdsl.backends.torch.python import (
    Atom,
    Binary,
    Expr,
    Item,
    call,
    method,
    one_line,
)
from seqdsl.backends.torch.streaming import (
    Entry,
    key_of,
    starts_with_inputs,
    window_entry,
)
from seqdsl.backends.torch.values import Value, align
from seqdsl.diagnostics import UnsupportedError
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import BATCH, TIME
from seqdsl.ir.walk import subtree
from seqdsl.schedule.plan import TimeLoop, walk


def carried_entries(body: Body, loop: TimeLoop, names: frozenset[str]) -> list[Entry]:
    """What the loop carries: entries of the state, and backward states beside them."""
    copied = copied_in(loop)
    # a past that only later equations look back at grows by all steps at once there
    found = [
        e
        for e in body.memory.entries
        if e.owner in names
        and (e.kind != "past" or e.source in copied or len(e.scope) > len(body.m.steps))
    ]
    known = {e.owner for e in found}
    for name in loop.carried:
        if loop.direction == "backward" and name not in known:
            found.append(later_entry(body.m.model, name))
    for equation in body.m.model.equations:
        conv = equation.expr
        if equation.name in names and isinstance(conv, ir.Conv) and conv.ahead:
            found.append(window_entry(equation, conv))
    return found


def copied_in(loop: TimeLoop) -> frozenset[Key]:
    """Values that the loop reads through a copy of time."""
    return frozenset(
        key_of(node.arg)
        for step in walk(loop.body)
        for expr in exprs_of(step)
        for node in subtree(expr)
        if isinstance(node, ir.Copy)
    )


def variable_of(m: Method, entry: Entry) -> Value | None:
    simple = entry.kind == "carry" and "[" not in m.bases[entry.key]
    deep = len(entry.scope) > len(m.bases.get(f"{entry.key} scope", "").split())
    if not simple or deep:
        return None
    return Value(Atom(m.bases[entry.key]), (BATCH, *entry.layout), entry.type.dtype)


def start(body: Body, inside: Body, entry: Entry, loop: TimeLoop) -> None:
    """The variable that carries an entry, with its value before the first step."""
    m, inner = body.m, inside.m
    name = m.names.new(f"{entry.owner}_t" if entry.kind == "carry" else entry.key)
    deep = len(entry.scope) > len(m.steps)
    if deep:
        name = m.names.new(f"{entry.key}_all")
    if loop.direction == "backward":
        axes = entry.scope[len(m.steps) :]
        first: Expr = each_step(m, axes, lambda: whole_initial(body, entry))
    else:
        first = begun(body, entry, deep)
    m.write(f"{name} = ", first)
    inner.bases[entry.key] = name
    inner.bases[f"{entry.key} scope"] = " ".join(m.steps)


def begun(body: Body, entry: Entry, deep: bool = False) -> Expr:
    """What the state holds; where inputs decide how it starts, that at position 0."""
    m = body.m
    code = body.access(entry)
    if entry.copies:
        return with_rows(body, entry, deep)
    state = m.model.state.get(entry.owner)
    early = state is not None and entry.kind in ("carry", "lag")
    if not early or state is None or not starts_with_inputs(m.model, state):
        return code
    m.need_position()
    reset = m.helper("_reset_each" if deep else "_reset")
    first = deep_outside(body, entry) if deep else outside(body, entry)
    return call(reset, 'state["t"] == 0', code, first)


def begin_past(body: Body, entry: Entry) -> None:
    """In a step, several steps of a state that starts with what inputs say."""
    m = body.m
    past = begun(body, entry)
    if one_line(past) == one_line(body.access(entry)):
        return
    name = m.names.new(f"{entry.owner}_past")
    m.write(f"{name} = ", past)
    m.bases[entry.key] = name
    m.bases[f"{entry.key} scope"] = " ".join(m.steps)
    body.enter(tuple(m.steps), frozenset({entry.owner}))


def with_rows(body: Body, entry: Entry, deep: bool = False) -> Expr:
    """What the state holds of a state along copies of time, and rows of new steps."""
    m = body.m
    if deep:
        raise UnsupportedError(
            f"{m.model.name}: `{entry.owner}` has a value for every "
            f"`{entry.copies[0]}` and stands in a `repeat` within a loop along time; "
            "the torch backend has no form of that"
        )
    first = outside(body, entry)
    lead = 1 if entry.kind == "carry" else 2
    axes = call("range", str(lead), str(lead + len(entry.copies)))
    return call(m.helper("_with_rows"), body.access(entry), first, ROWS, axes)


def deep_outside(body: Body, entry: Entry, at: str = "") -> Expr:
    """`outside` for every step of the loops along depth within this one.

    One value where it is the same for all of them.
    """
    axes = entry.scope[len(body.m.steps) :]
    state = body.m.model.state.get(entry.owner)
    if state is None or not state.initial.type.axes & set(axes):
        return outside(body, entry, at)
    return each_step(body.m, axes, lambda: outside(body, entry, at, named=False))


def outside(body: Body, entry: Entry, at: str = "", named: bool = True) -> Expr:
    """What an entry is before the first step: a number or a tensor that broadcasts.

    Where it differs between segments, `at` is the step at which a segment starts; empty
    means the first one.
    """
    m = body.m
    state = m.model.state.get(entry.owner)
    if entry.kind not in ("carry", "lag") or state is None:
        return Atom("False" if entry.type.dtype == "bool" else "0")
    known = m.find("outside", entry.owner)
    if known is not None and named:
        return _of_segment(known, entry, at)
    value = initial_at(m, state)
    if value.scalar:
        return value.code
    dims = entry.layout
    if TIME in value.layout:
        name = m.names.new(f"{entry.owner}_0")
        m.write(f"{name} = ", align(value, (BATCH, TIME, *dims)))
        value = Value(Atom(name), (BATCH, TIME, *dims), value.dtype)
        if not entry.scope:
            m.env["outside", entry.owner] = value
        return _of_segment(value, entry, at)
    target = (BATCH, *dims) if BATCH in value.layout else dims
    code = align(value, target)
    if entry.kind == "lag" and BATCH in value.layout:
        code = Item(code, ":, None")
    if isinstance(code, Atom) or not named:
        return code
    name = m.names.new(f"{entry.owner}_0")
    m.write(f"{name} = ", code)
    return Atom(name)


def _of_segment(value: Value, entry: Entry, at: str) -> Expr:
    """The initial value that belongs to the segment of one step."""
    # a sum over at most one step, so that no step at all is fine too
    first = method(Item(value.code, ":, :1"), "sum", 1)
    code = Item(value.code, f":, {at}") if at else first
    return Item(code, ":, None") if entry.kind == "lag" else code


def resets(body: Body, inside: Body, entries: list[Entry], loop: TimeLoop) -> None:
    """Where a segment begins, everything carried starts afresh."""
    m, inner = body.m, inside.m
    kept = [e for e in entries if e.kind not in ("call", "past")]
    simple = [e for e in kept if len(e.scope) == len(m.steps)]
    deep = [e for e in kept if e not in simple]
    starts = "starts" if loop.direction == "forward" else "ends"
    if not entries:
        return
    m.needed[starts] = None
    inner.bases["index"] = m.names.new("i")
    index = inner.bases["index"]
    here = (
        f"{starts}[:, {index}]" if starts == "starts" else f"{starts}[:, -1 - {index}]"
    )
    if not kept:
        return
    place = index if loop.direction == "forward" else f"-1 - {index}"
    fresh = {e.key: one_line(outside(body, e, place)) for e in simple}
    fresh |= {e.key: one_line(deep_outside(body, e, place)) for e in deep}
    with inner.block(f"if {starts} is not None:"):
        for entry in simple:
            name = inner.bases[entry.key]
            code = call(inner.helper("_reset"), here, name, fresh[entry.key])
            inner.write(f"{name} = ", code)
        for entry in deep:
            name = inner.bases[entry.key]
            code = call(inner.helper("_reset_each"), here, name, fresh[entry.key])
            inner.write(f"{name} = ", code)


def carried_on(m: Method, entry: Entry, name: str) -> Expr:
    """What an entry is after the loop; a window only forgets then."""
    if entry.copies:
        return recent_rows(m, entry, Atom(name))
    if entry.kind != "past" or entry.count is None:
        return Atom(name)
    return call(m.helper("_recent"), name, m.whole(entry.count))


def visible(m: Method, inner: Method, entries: list[Entry]) -> None:
    """Copies of time that are made in the loop grow by one step in each turn."""
    if not any(e.kind == "past" for e in entries):
        return
    seen, index = m.names.new("seen"), inner.bases["index"]
    m.need("time")
    inner.seen = seen
    inner.line(f"{seen} = all_t.shape[1] - time + {index} + 1")
    at, runs = Atom(f"all_t[:, :{seen}]"), Atom(f"all_runs[:, :{seen}]")
    same = Binary("==", Atom(f"runs[:, {index}, None]"), runs)
    for copy in inner.model.copies:
        inner.env["position", copy] = copy_position(inner.model, copy, at)
        inner.env["same", copy] = Value(same, (BATCH, copy), "bool")
