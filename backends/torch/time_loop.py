"""A loop along time: over unbound steps, because indexing in a loop is quadratic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from seqdsl.backends.torch.depth_across_time import listed, sequences, take_steps
from seqdsl.backends.torch.equations import assign, keep_before, read_outside
from seqdsl.backends.torch.from_the_end import backward_shifts
from seqdsl.backends.torch.lines import layout
from seqdsl.backends.torch.loop_state import (
    carried_entries,
    carried_on,
    resets,
    start,
    variable_of,
    visible,
)
from seqdsl.backends.torch.memory import Body, full, full_type
from seqdsl.backends.torch.method import Key, Method
from seqdsl.backends.torch.pointwise import dtype_code
from seqdsl.backends.torch.python import (
    Atom,
    Expr,
    Item,
    call,
    method,
    one_line,
)
from seqdsl.backends.torch.streaming import Entry, Streaming
from seqdsl.backends.torch.values import Value
from seqdsl.diagnostics import UnsupportedError
from seqdsl.ir.types import BATCH, TIME
from seqdsl.schedule.plan import Step, TimeLoop, defined

Run = Callable[[Body, tuple[Step, ...]], None]


def time_loop(body: Body, loop: TimeLoop, run: Run) -> None:
    """The loop, what it needs before it, and what it leaves behind."""
    m = body.m
    for equation in loop.hoisted:
        assign(m, equation, ())
    take_steps(m, loop)
    names = frozenset(defined(loop.body))
    entries = carried_entries(body, loop, names)
    inner = replace(
        m,
        lines=[],
        indent=m.indent + 4,
        in_time=True,
        looping=True,
        outer=m.env,
        env=dict(m.env),
        bases=dict(m.bases),
        zipped={},
        next={},
    )
    inside = replace(body, m=inner, memory=_beside(body, entries))
    _check_rows(m.model.name, entries)
    for entry in entries:
        start(body, inside, entry, loop)
    resets(body, inside, entries, loop)
    visible(m, inner, entries)
    inside.enter(tuple(m.steps), names)
    backward_shifts(body, inside, loop, entries)
    for entry in entries:
        if (variable := variable_of(inner, entry)) is not None:
            inner.env["local", entry.owner] = variable
    run(inside, loop.body)
    inside.leave(tuple(m.steps), names)
    if loop.direction == "backward":
        for entry in entries:
            if len(entry.scope) > len(m.steps):
                continue
            after = inside.after(entry)
            assert after is not None
            inner.next[entry.key] = after
    for entry in entries:
        base = inner.bases[entry.key]
        after = inner.next.get(entry.key)
        if after is not None and one_line(after) != base:
            inner.write(f"{base} = ", after)
    exports = _exports(m, inner, names)
    for steps, value in exports.values():
        inner.line(f"{steps}.append({one_line(value.code)})")
        m.line(f"{steps}: list[Tensor] = []")
    _header(m, inner, loop)
    m.lines += inner.lines
    _collect(m, exports, entries, inner, loop)
    for name in names:
        hand_on(m, name)
    for entry in entries:
        if loop.direction == "forward":
            m.next[entry.key] = carried_on(m, entry, inner.bases[entry.key])


def _beside(body: Body, entries: list[Entry]) -> Streaming:
    """What a stream remembers, and what a loop from the end has seen of later steps."""
    depth = len(body.m.steps)
    ahead = [
        e for e in entries if e.ahead and (e.kind == "conv" or len(e.scope) > depth)
    ]
    return replace(body.memory, entries=(*body.memory.entries, *ahead))


def _check_rows(layer: str, entries: list[Entry]) -> None:
    """Copies that grow within the loop leave no room for rows of later steps."""
    rows = next((e for e in entries if e.copies), None)
    grown = next((e for e in entries if e.kind == "past"), None)
    if rows is not None and grown is not None:
        raise UnsupportedError(
            f"{layer}: `{rows.owner}` has a value for every `{rows.copies[0]}`, and "
            f"`{grown.owner}` is read at earlier steps in the same loop along time; "
            "the torch backend has no form of both together"
        )


def hand_on(m: Method, name: str) -> None:
    """A loop along depth around this one carries `name`, all its steps of time at once."""
    local, whole = m.env.get(("local", name)), m.env.get(("ref", name))
    if local is None or whole is None or whole.code == local.code:
        return
    whole = full(m, whole, full_type(m.model, name))
    keep_before(m, name, one_line(local.code))
    m.env["ref", name] = m.bind(one_line(local.code), whole)


def _exports(
    m: Method, inner: Method, names: frozenset[str]
) -> dict[Key, tuple[str, Value]]:
    """Values of every step that are read outside of the loop: the lists they go to."""
    exports: dict[Key, tuple[str, Value]] = {}
    handed_on = {("ref", n) for n in names if ("local", n) in m.env}
    for key in sorted(read_outside(m.model, names) | handed_on, key=str):
        for known in [k for k in inner.env if k == key or _is_last(k, key)]:
            value = inner.env[known]
            if known in m.env and m.env[known] is value:
                continue
            local = m.names.new(f"{key[1]}_steps")
            exports[known] = (local, value)
    for known in sorted(listed(m, names), key=str):
        if known in inner.env:
            local = m.names.new(f"{known[2]}_steps")
            exports[known] = (local, inner.env[known])
    return exports


def _is_last(known: Key, key: Key) -> bool:
    return known[0] == "last" and known[1 : 1 + len(key)] == key


def _header(m: Method, inner: Method, loop: TimeLoop) -> None:
    """`for i, (a_t, b_t) in enumerate(zip(a.unbind(1), b.unbind(1))):`."""
    index = inner.bases.get("index")
    used = index is not None and any(index in line for line in inner.lines)
    sources = [call(f"{source}.unbind", 1) for source in inner.zipped]
    if loop.direction == "backward":
        sources = [call("reversed", s) for s in sources]
    if not sources:
        count = call("range", m.need("time"))
        m.write(f"for {index or '_'} in ", count, ":")
        return
    over = sources[0] if len(sources) == 1 else call("zip", *sources, strict="True")
    targets = ", ".join(inner.zipped.values())
    if used:
        targets = f"({targets})" if len(sources) > 1 else targets
        targets = f"{index}, {targets}"
        over = call("enumerate", over)
    line = layout(f"for {targets} in ", over, ":", m.indent)
    if len(line) > 1 or len(line[0]) > 88:
        name = m.names.new("steps")
        m.write(f"{name} = ", over)
        line = layout(f"for {targets} in ", Atom(name), ":", m.indent)
        if len(line[0]) > 88:
            line = _wrapped(index if used else None, inner, name, m.indent)
    m.lines += line


def _wrapped(index: str | None, inner: Method, steps: str, indent: int) -> list[str]:
    """A header whose targets take a line each."""
    pad = " " * indent
    names = [f"{pad}    {name}," for name in inner.zipped.values()]
    lead = f"{pad}for {index}, (" if index else f"{pad}for ("
    return [lead, *names, f"{pad}) in {steps}:"]


def _collect(
    m: Method,
    exports: dict[Key, tuple[str, Value]],
    entries: list[Entry],
    inner: Method,
    loop: TimeLoop,
) -> None:
    """Lists of steps as whole sequences."""
    carry = next((e for e in entries if len(e.scope) == len(m.steps)), None)
    for key, (steps, value) in exports.items():
        several = key[0] == "steps"
        owner = str(key[2] if several or key[0] == "last" else key[1])
        name = m.local(owner, varies=False)
        rest = tuple(n for n in value.layout if n != BATCH)
        if inner.seen and any(n in m.model.copies for n in rest):
            raise UnsupportedError(
                f"{m.model.name}: `{owner}` has a value for every step of a copy of "
                "time within a recurrence and is read outside of it"
            )
        source: Expr = Atom(steps)
        if loop.direction == "backward":
            source = Item(source, "::-1")
        if carry is not None and carry.type.dtype == value.dtype:
            like: Expr = Atom(inner.bases[carry.key])
        else:
            like = method(Atom('state["segment"]'), "to", dtype_code(m, value.dtype))
        if several:
            code: Expr = sequences(m, key, value, source, like, rest)
        else:
            code = call(m.helper("_stack"), source, like, *m.extents(rest))
        m.write(f"{name} = ", code)
        m.env[key] = Value(Atom(name), (BATCH, TIME, *rest), value.dtype)
