"""What a loop from the end carries: later steps, which no stream remembers."""

from __future__ import annotations

from dataclasses import replace

from seqdsl.backends.torch.expressions import expression
from seqdsl.backends.torch.fresh import filled
from seqdsl.backends.torch.memory import Body
from seqdsl.backends.torch.method import Method
from seqdsl.backends.torch.pointwise import cast, tensor
from seqdsl.backends.torch.python import Atom, Binary, Expr, Item, call, method
from seqdsl.backends.torch.streaming import Entry, expressions
from seqdsl.backends.torch.values import Value, align
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit
from seqdsl.ir.types import BATCH, TIME
from seqdsl.ir.walk import subtree
from seqdsl.schedule.plan import TimeLoop
from seqdsl.schedule.rows import copies_of


def later_entry(model: ir.Model, name: str) -> Entry:
    """What a backward loop carries of a state: as many steps as it looks ahead."""
    reads = [
        node.offset
        for expr, _ in expressions(model)
        for node in subtree(expr)
        if isinstance(node, ir.Shift)
        and node.arg == ir.Ref(name=name, type=node.arg.type)
        and node.axis == TIME
    ]
    count = max(reads)
    copies = copies_of(model, name)
    type_ = model.state[name].type
    return Entry(
        key=name,
        kind="carry" if count == 1 else "lag",
        source=("ref", name),
        owner=name,
        type=replace(type_, axes=type_.axes | set(copies)),
        count=Lit(count),
        scope=model.equation[name].scope,
        copies=copies,
        ahead=True,
    )


def whole_initial(body: Body, entry: Entry) -> Expr:
    """The initial value of a state, or of a window, of full extent."""
    m = body.m
    if entry.kind == "conv":
        m.need("batch")
        m.need("device")
        return filled(m, entry, m.extents(entry.type.dims))
    state = m.model.state[entry.owner]
    value = cast(m, tensor(m, initial_at(m, state)), entry.type.dtype)
    dims = entry.layout
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


def backward_shifts(
    body: Body, inside: Body, loop: TimeLoop, entries: list[Entry]
) -> None:
    if loop.direction == "forward":
        return
    inner = inside.m
    for entry in entries:
        if len(entry.scope) > len(body.m.steps) or entry.kind == "conv":
            continue
        base = Atom(inner.bases[entry.key])
        assert isinstance(entry.count, Lit)
        for i in range(1, int(entry.count.value) + 1):
            code = base if entry.kind == "carry" else Item(base, f":, -{i}")
            value = Value(code, (BATCH, *entry.layout), entry.type.dtype)
            inner.env["shift", *entry.source, TIME, i] = value


def initial_at(m: Method, state: ir.State) -> Value:
    """An initial value; what it sums over segments, at one step where there are none."""
    if m.in_time:
        return expression(m, state.initial)
    saved = dict(m.env)
    for copy in m.model.copies:
        m.needed["begun"] = None
        same = Binary("==", Atom("begun[:, :, None]"), Atom("all_runs[:, None]"))
        m.env["same", copy] = Value(same, (BATCH, TIME, copy), "bool")
    value = expression(m, state.initial)
    for copy in m.model.copies:
        m.env["same", copy] = saved["same", copy]
    return value
