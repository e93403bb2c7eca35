"""A loop along depth, with halting."""

from __future__ import annotations

import re
from collections.abc import Iterator

from seqdsl.backends.torch.along_depth import inner_axes
from seqdsl.backends.torch.depth_across_time import count
from seqdsl.backends.torch.expressions import expression, initial
from seqdsl.backends.torch.growing import grow
from seqdsl.backends.torch.loop_state import begin_past, begun
from seqdsl.backends.torch.memory import Body, full_type, kept, whole
from seqdsl.backends.torch.method import Key, Method
from seqdsl.backends.torch.parameters import holders_of, path
from seqdsl.backends.torch.pointwise import cast, dtype_code, tensor
from seqdsl.backends.torch.python import Atom, Binary, call, one_line
from seqdsl.backends.torch.streaming import Entry, expressions, key_of
from seqdsl.backends.torch.time_loop import Run
from seqdsl.backends.torch.values import Value
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import BATCH, TIME
from seqdsl.ir.walk import subtree
from seqdsl.schedule.plan import DepthLoop, defined


def depth_loop(body: Body, loop: DepthLoop, run: Run) -> None:
    """`for n in range(1, N + 1)`, with what it carries and what is read after it."""
    m = body.m
    axis = loop.repeat.axis
    names = [n for n in defined(loop.body)]
    carried = _carried(m, axis, names)
    lists = _lists(m, axis, names)
    lasts = _lasts(m, axis, names)
    _before(body, loop, carried, lists, lasts)
    entries = _entries(body, axis)
    bases = dict(m.bases)
    if isinstance(loop.repeat.count, ir.Base):
        for entry in entries:
            grow(body, entry, count(m, loop.repeat))
    outer = dict(m.next)
    collected = {e.key: m.names.new(f"{e.key}_next") for e in entries}
    for name in collected.values():
        m.line(f"{name}: list[Any] = []")
    if loop.repeat.condition is not None:
        going = m.names.new(f"{axis}_goes_on")
        ones = call("torch.ones", "()", dtype="torch.bool", device=m.need("device"))
        m.write(f"{going} = ", ones)
        m.env["going", axis] = Value(Atom(going), (), "bool")
    mark, step = len(m.lines), m.names.new(axis)
    m.steps[axis] = step
    m.env["position", axis] = Value(Atom(step), (), "int", scalar=True)
    m.indent += 4
    m.next = {}
    holders, around = holders_of(m, axis), m.holders
    m.holders = {**around, **holders}
    _going(body, loop, entries, lists)
    body.enter(tuple(m.steps))
    for entry in entries:
        _unpack(body, entry)
    run(body, loop.body)
    body.leave(tuple(m.steps))
    for key, name in collected.items():
        if key in m.next:
            m.line(f"{name}.append({one_line(m.next[key])})")
    for key, name in lists.items():
        inner = inner_axes(m, key, axis)
        made = m.look("steps", *key, inner[0]) if inner else m.look(*key)
        m.line(f"{name}.append({one_line(made.code)})")
    m.indent -= 4
    m.next = {**outer, **{k: Atom(v) for k, v in collected.items()}}
    m.lines.insert(mark, _header(m, loop, step, holders, mark))
    _after(m, axis, carried, lists, lasts)
    m.bases, m.holders = bases, around
    del m.steps[axis]


# ---- What is carried, collected and read after the loop


def _carried(m: Method, axis: str, names: list[str]) -> list[str]:
    """States of the loop: each has a variable that holds its last step."""
    return [n for n in names if n in m.model.state and axis in m.model.state[n].carried]


def _reads(m: Method) -> Iterator[ir.Shift | ir.At | ir.Stack]:
    """Everything that is read at other steps of loops along depth."""
    for expr, _ in expressions(m.model):
        for node in subtree(expr):
            if isinstance(node, ir.Shift | ir.At | ir.Stack) and node.axis != TIME:
                yield node


def _lists(m: Method, axis: str, names: list[str]) -> dict[Key, str]:
    """Values of which more than the last step is read: the lists they go to.

    Where a loop around this one is read so, its list is of those that this one makes.
    """
    lists: dict[Key, str] = {}
    for node in _reads(m):
        key = key_of(node.arg)
        if str(key[1]) not in names or key in lists:
            continue
        inner = inner_axes(m, key, node.axis)
        if axis in inner or (axis == node.axis and (inner or not _near(m, node))):
            lists[key] = m.names.new(f"{key[1]}_steps")
    return lists


def _near(m: Method, node: ir.Shift | ir.At | ir.Stack) -> bool:
    """Whether a variable holds what is read: the step before of a state, or the last."""
    match node:
        case ir.Shift(arg=ir.Ref(name=name), axis=axis, offset=-1):
            state = m.model.state.get(name)
            return state is not None and axis in state.carried
        case ir.At(index=index):
            return index is None
        case _:
            return False


def _lasts(m: Method, axis: str, names: list[str]) -> list[Key]:
    """Values of which the last step is read after the loop."""
    keys = [
        key_of(node.arg)
        for node in _reads(m)
        if isinstance(node, ir.At) and node.index is None and node.axis == axis
    ]
    return [k for k in dict.fromkeys(keys) if str(k[1]) in names]


def _before(
    body: Body,
    loop: DepthLoop,
    carried: list[str],
    lists: dict[Key, str],
    lasts: list[Key],
) -> None:
    """Variables as they are before the first step."""
    m, axis = body.m, loop.repeat.axis
    for name in carried:
        m.env["shift", "ref", name, axis, -1] = _begun(m, name)
        m.env["local", name] = m.env["shift", "ref", name, axis, -1]
        if loop.repeat.condition is not None:
            before = m.env["shift", "ref", name, axis, -1]
            m.env["frozen", "ref", name, axis] = before
    unsure = loop.repeat.condition is not None or isinstance(loop.repeat.count, ir.Base)
    for key in lasts:
        name = str(key[1])
        if unsure and key[0] == "ref" and name not in carried:
            known = name in m.model.state
            m.env["local", name] = _begun(m, name) if known else _empty(m, name)
            m.env["frozen", *key, axis] = m.env["local", name]
    for key, steps in lists.items():
        m.line(f"{steps}: list[Tensor] = []")
        if key[0] == "ref":
            m.env["steps", *key, axis] = kept(m, str(key[1]), Atom(steps))


def _begun(m: Method, name: str) -> Value:
    """A state that no step has updated."""
    state = m.model.state[name]
    value = initial(m, ir.Ref(name=name, type=state.type))
    assert value is not None
    type_ = full_type(m.model, name)
    value = whole(m, cast(m, tensor(m, value), type_.dtype), name)
    return m.bind(m.local(name, TIME in type_.axes), value, state.span)


def _empty(m: Method, name: str) -> Value:
    """Zeros: what is read of a value of which no step was taken."""
    type_ = full_type(m.model, name)
    lead = m.lead(type_.axes)
    words = {BATCH: "batch", TIME: "time"}
    sizes = [*(m.need(words[n]) for n in lead), *m.extents(type_.dims)]
    dtype = dtype_code(m, type_.dtype)
    shape = sizes or [Atom("()")]
    code = call("torch.zeros", *shape, dtype=dtype, device=m.need("device"))
    value = whole(m, Value(code, (*lead, *type_.dims), type_.dtype), name)
    return m.bind(m.local(name, TIME in type_.axes), value)


def _entries(body: Body, axis: str) -> list[Entry]:
    """Entries of the state with one part for each step of this loop."""
    m = body.m
    depth = len(m.steps)
    return [
        e
        for e in body.memory.entries
        if len(e.scope) > depth
        and e.scope[depth] == axis
        and (e.kind != "call" or body.streams or m.in_time)
    ]


def _unpack(body: Body, entry: Entry) -> None:
    """In a loop along time the past of a state is a variable, here one for the step."""
    m = body.m
    if not m.in_time or len(entry.scope) != len(m.steps):
        return
    if entry.copies and not m.looping:
        return
    if entry.kind == "lag" and not m.looping:
        begin_past(body, entry)
    if entry.kind != "carry":
        return
    local = m.names.new(f"{entry.owner}_before")
    based = m.bases.get(entry.key) is not None
    m.write(f"{local} = ", body.access(entry) if based else begun(body, entry))
    key = ("shift", *entry.source, TIME, 1 if entry.ahead else -1)
    m.env[key] = m.env[key].at(Atom(local))


def _going(
    body: Body, loop: DepthLoop, entries: list[Entry], lists: dict[Key, str]
) -> None:
    """Who still goes on; when nobody does and nothing else is needed, stop."""
    m, repeat = body.m, loop.repeat
    if repeat.condition is None:
        return
    value = tensor(m, expression(m, repeat.condition))
    name = one_line(m.env["going", repeat.axis].code)
    code = Binary("&", Atom(name), value.code)
    m.write(f"{name} = ", code, "", repeat.span)
    m.env["going", repeat.axis] = Value(Atom(name), value.layout, "bool")
    if not entries and not lists:
        with m.block(f"if not torch.compiler.is_compiling() and not {name}.any():"):
            m.line("break")


def _header(
    m: Method, loop: DepthLoop, step: str, holders: dict[str, str], mark: int
) -> str:
    pad = " " * m.indent
    used = any(_mentions(line, step) for line in m.lines[mark:] if line.startswith(pad))
    if holders:
        prefix, local = next(iter(holders.items()))
        where = path(m, prefix)
        for other, name in list(holders.items())[1:]:
            m.lines.insert(mark, f"{pad}    {name} = {path(m, other)}[{step} - 1]")
            used = True
        if used:
            return f"{pad}for {step}, {local} in enumerate({where}, start=1):"
        return f"{pad}for {local} in {where}:"
    steps = count(m, loop.repeat)
    return f"{pad}for {step if used else '_'} in range(1, {steps} + 1):"


def _mentions(line: str, name: str) -> bool:
    return re.search(rf"\b{re.escape(name)}\b", line.split("  # ")[0]) is not None


def _after(
    m: Method,
    axis: str,
    carried: list[str],
    lists: dict[Key, str],
    lasts: list[Key],
) -> None:
    """What the loop leaves: the last step, and lists of all steps."""
    for key in lasts:
        value = m.env[key]
        local = m.env.get(("local", str(key[1])))
        m.env["last", *key, axis] = value if local is None else value.at(local.code)
    for key, steps in lists.items():
        m.env["steps", *key, axis] = m.env[key].at(Atom(steps))
    for name in [*carried, *(str(k[1]) for k in lasts)]:
        m.env.pop(("local", name), None)
