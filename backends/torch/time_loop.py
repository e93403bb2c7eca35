"""A loop along time: over unbound steps, because indexing in a loop is quadratic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from seqdsl.backends.torch.equations import assign, read_outside
from seqdsl.backends.torch.expressions import expression
from seqdsl.backends.torch.memory import Body, full, full_type
from seqdsl.backends.torch.method import Key, Method
from seqdsl.backends.torch.pointwise import cast, tensor
from seqdsl.backends.torch.python import (
    Atom,
    Binary,
    Expr,
    Item,
    call,
    layout,
    method,
    one_line,
)
from seqdsl.backends.torch.streaming import Entry
from seqdsl.backends.torch.values import Value, align
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit
from seqdsl.ir.types import BATCH, TIME
from seqdsl.ir.walk import subtree
from seqdsl.schedule.plan import Step, TimeLoop, defined

Run = Callable[[Body, tuple[Step, ...]], None]
"""Writes the steps inside a loop."""


def time_loop(body: Body, loop: TimeLoop, run: Run) -> None:
    """The loop, what it needs before it, and what it leaves behind."""
    m = body.m
    for equation in loop.hoisted:
        assign(m, equation, ())
    names = frozenset(defined(loop.body))
    entries = _entries(body, loop, names)
    inner = replace(
        m,
        lines=[],
        indent=m.indent + 4,
        in_time=True,
        looping=True,
        env=dict(m.env),
        bases=dict(m.bases),
        zipped={},
        next={},
    )
    inside = replace(body, m=inner)
    for entry in entries:
        _start(body, inside, entry, loop)
    _resets(body, inside, entries, loop)
    _visible(m, inner, entries)
    inside.enter(tuple(m.steps), names)
    _backward_shifts(body, inside, loop, entries)
    for entry in entries:
        if (variable := _variable(inner, entry)) is not None:
            inner.env["local", entry.owner] = variable
    run(inside, loop.body)
    inside.leave(tuple(m.steps), names)
    if loop.direction == "backward":
        for entry in entries:
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
        m.line(f"{steps} = []")
    _header(m, inner, loop)
    m.lines += inner.lines
    _collect(m, exports, entries, inner, loop)
    for name in names:
        _hand_on(m, name)
    for entry in entries:
        if loop.direction == "forward":
            m.next[entry.key] = _carried_on(m, entry, inner.bases[entry.key])


def _hand_on(m: Method, name: str) -> None:
    """A loop along depth around this one carries `name`, all its steps of time at once."""
    local, whole = m.env.get(("local", name)), m.env.get(("ref", name))
    if local is None or whole is None or whole.code == local.code:
        return
    whole = full(m, whole, full_type(m.model, name))
    m.env["ref", name] = m.bind(one_line(local.code), whole)


def _carried_on(m: Method, entry: Entry, name: str) -> Expr:
    """What an entry is after the loop; a window only forgets then."""
    if entry.kind != "past" or entry.count is None:
        return Atom(name)
    return call(m.helper("_recent"), name, m.whole(entry.count))


def _visible(m: Method, inner: Method, entries: list[Entry]) -> None:
    """Copies of time that are made in the loop grow by one step in each turn."""
    if not any(e.kind == "past" for e in entries):
        return
    seen, index = m.names.new("seen"), inner.bases["index"]
    m.need("time")
    inner.line(f"{seen} = all_t.shape[1] - time + {index} + 1")
    at, ids = Atom(f"all_t[:, :{seen}]"), Atom(f"all_ids[:, :{seen}]")
    same = Binary("==", Atom(f"ids[:, {index}, None]"), ids)
    for copy in inner.model.copies:
        inner.env["position", copy] = Value(at, (BATCH, copy), "int")
        inner.env["same", copy] = Value(same, (BATCH, copy), "bool")


def _entries(body: Body, loop: TimeLoop, names: frozenset[str]) -> list[Entry]:
    """What the loop carries: entries of the state, and backward states beside them."""
    found = [e for e in body.memory.entries if e.owner in names]
    known = {e.owner for e in found}
    for name in loop.carried:
        if loop.direction == "backward" and name not in known:
            found.append(_later(body.m.model, name))
    return found


def _later(model: ir.Model, name: str) -> Entry:
    """What a backward loop carries of a state: as many steps as it looks ahead."""
    reads = [
        node.offset
        for equation in model.equations
        for node in subtree(equation.expr)
        if isinstance(node, ir.Shift)
        and node.arg == ir.Ref(name=name, type=node.arg.type)
        and node.axis == TIME
    ]
    count = max(reads)
    return Entry(
        key=name,
        kind="carry" if count == 1 else "lag",
        source=("ref", name),
        owner=name,
        type=model.state[name].type,
        count=Lit(count),
        scope=model.equation[name].scope,
    )


def _variable(m: Method, entry: Entry) -> Value | None:
    simple = entry.kind == "carry" and "[" not in m.bases[entry.key]
    deep = len(entry.scope) > len(m.bases.get(f"{entry.key} scope", "").split())
    if not simple or deep:
        return None
    return Value(Atom(m.bases[entry.key]), (BATCH, *entry.type.dims), entry.type.dtype)


def _start(body: Body, inside: Body, entry: Entry, loop: TimeLoop) -> None:
    """The variable that carries an entry, with its value before the first step."""
    m, inner = body.m, inside.m
    name = m.names.new(f"{entry.owner}_t" if entry.kind == "carry" else entry.key)
    deep = len(entry.scope) > len(m.steps)
    if deep:
        name = m.names.new(f"{entry.key}_all")
    if loop.direction == "backward":
        first: Expr = _initial(body, entry)
    else:
        first = begun(body, entry, deep)
    m.write(f"{name} = ", first)
    inner.bases[entry.key] = name
    inner.bases[f"{entry.key} scope"] = " ".join(m.steps)


def begun(body: Body, entry: Entry, deep: bool = False) -> Expr:
    """What the state holds; where inputs decide how it starts, that at position 0."""
    m = body.m
    code = body.access(entry)
    state = m.model.state.get(entry.owner)
    early = state is not None and entry.kind in ("carry", "lag")
    if not early or state is None or BATCH not in state.initial.type.axes:
        return code
    m.need_position()
    reset = m.helper("_reset_each" if deep else "_reset")
    return call(reset, 'state["t"] == 0', code, outside(body, entry))


def _initial(body: Body, entry: Entry) -> Expr:
    """The initial value of a state, of full extent."""
    m = body.m
    state = m.model.state[entry.owner]
    value = cast(m, tensor(m, expression(m, state.initial)), entry.type.dtype)
    dims = entry.type.dims
    sizes = [m.need("batch"), *m.extents(dims)]
    rows = BATCH in value.layout
    if TIME in value.layout:
        whole = align(value, (BATCH, TIME, *dims))
        code: Expr = method(Item(whole, ":, -1:"), "sum", 1)
    else:
        code = align(value, (BATCH, *dims) if rows else dims)
    if entry.kind == "lag":
        assert isinstance(entry.count, Lit)
        sizes.insert(1, Atom(str(entry.count.value)))
        code = Item(code, ":, None") if rows else code
    return call("torch.Tensor.expand", code, *sizes)


def outside(body: Body, entry: Entry, at: str = "") -> Expr:
    """What an entry is before the first step: a number or a tensor that broadcasts.

    Where it differs between segments, `at` is the step at which a segment starts; empty
    means the first one.
    """
    m = body.m
    state = m.model.state.get(entry.owner)
    if entry.kind not in ("carry", "lag") or state is None:
        return Atom("False" if entry.type.dtype == "bool" else "0")
    value = expression(m, state.initial)
    if value.scalar:
        return value.code
    dims = entry.type.dims
    if TIME in value.layout:
        return _of_segment(m, entry, value, at)
    target = (BATCH, *dims) if BATCH in value.layout else dims
    code = align(value, target)
    if entry.kind == "lag" and BATCH in value.layout:
        code = Item(code, ":, None")
    if isinstance(code, Atom):
        return code
    name = m.names.new(f"{entry.owner}_0")
    m.write(f"{name} = ", code)
    return Atom(name)


def _of_segment(m: Method, entry: Entry, value: Value, at: str) -> Expr:
    """The initial value that belongs to the segment of one step."""
    name = m.names.new(f"{entry.owner}_0")
    m.write(f"{name} = ", align(value, (BATCH, TIME, *entry.type.dims)))
    # a sum over at most one step, so that no step at all is fine too
    first = method(Item(Atom(name), ":, :1"), "sum", 1)
    code = Item(Atom(name), f":, {at}") if at else first
    return Item(code, ":, None") if entry.kind == "lag" else code


def _resets(body: Body, inside: Body, entries: list[Entry], loop: TimeLoop) -> None:
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
    fresh = {e.key: one_line(outside(body, e, place)) for e in (*simple, *deep)}
    with inner.block(f"if {starts} is not None:"):
        for entry in simple:
            name = inner.bases[entry.key]
            code = call(inner.helper("_reset"), here, name, fresh[entry.key])
            inner.write(f"{name} = ", code)
        for entry in deep:
            name = inner.bases[entry.key]
            code = call(inner.helper("_reset_each"), here, name, fresh[entry.key])
            inner.write(f"{name} = ", code)


def _backward_shifts(
    body: Body, inside: Body, loop: TimeLoop, entries: list[Entry]
) -> None:
    if loop.direction == "forward":
        return
    inner = inside.m
    for entry in entries:
        base = Atom(inner.bases[entry.key])
        assert isinstance(entry.count, Lit)
        for i in range(1, int(entry.count.value) + 1):
            code = base if entry.kind == "carry" else Item(base, f":, -{i}")
            value = Value(code, (BATCH, *entry.type.dims), entry.type.dtype)
            inner.env["shift", *entry.source, TIME, i] = value


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
        name = m.local(str(key[1] if key[0] != "last" else key[2]), varies=False)
        rest = tuple(n for n in value.layout if n != BATCH)
        source: Expr = Atom(steps)
        if loop.direction == "backward":
            source = Item(source, "::-1")
        like = inner.bases[carry.key] if carry is not None else "state"
        code = call(m.helper("_stack"), source, like, *m.extents(rest))
        m.write(f"{name} = ", code)
        m.env[key] = Value(Atom(name), (BATCH, TIME, *rest), value.dtype)
