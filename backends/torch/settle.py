"""Where a recurrence in a parallel form starts from, and what it leaves behind."""

from __future__ import annotations

from dataclasses import dataclass, replace

from seqdsl.backends.torch.equations import keep_before
from seqdsl.backends.torch.expressions import expression
from seqdsl.backends.torch.from_the_end import later_entry, whole_initial
from seqdsl.backends.torch.loop_state import begun, outside
from seqdsl.backends.torch.memory import Body, full, full_type
from seqdsl.backends.torch.method import Method
from seqdsl.backends.torch.pointwise import cast, tensor
from seqdsl.backends.torch.python import Atom, Expr, Item, call, method, one_line
from seqdsl.backends.torch.streaming import Entry
from seqdsl.backends.torch.values import Value, align
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import BATCH, TIME, Type
from seqdsl.schedule.plan import Parallel

ONES = {"real": 1.0, "boolean": True, "max_min": float("inf")}
ZEROS = {"real": 0.0, "boolean": False, "min_plus": float("inf")}
"""The one and the zero of semirings, where they are not 0 and minus infinity."""


@dataclass(frozen=True)
class Ends:
    """Where a state comes from: before the first step, and where a segment starts.

    `initial` broadcasts against a whole sequence. `past` are several steps before the
    first, where several are kept. `numeric`: the initial value is a Python number;
    `varies`: every segment has its own.
    """

    entry: Entry
    first: Expr
    starts: Expr
    initial: Expr
    past: Expr | None = None
    numeric: bool = True
    varies: bool = False


def ends_of(body: Body, step: Parallel, state: str) -> Ends:
    """What `state` starts from; writes the lines that this takes."""
    m = body.m
    backward = step.loop.direction == "backward"
    entry = _entry(body, state, backward)
    if backward:
        m.needed["ends"] = None
        first = whole_initial(body, entry)
    else:
        m.needed["starts"] = None
        first = begun(body, entry)
    past = None
    if entry.kind == "lag":
        past, first = first, Item(first, ":, -1")
    starts = Atom("ends" if backward else "starts")
    initial = outside(body, replace(entry, kind="carry"), ":")
    known = m.model.state.get(state)
    value = None if known is None else expression(m, known.initial)
    layout = () if value is None else value.layout
    if BATCH in layout and TIME not in layout:
        initial = Item(initial, ":, None")
    numeric = value is None or value.scalar
    return Ends(entry, first, starts, initial, past, numeric, TIME in layout)


def _entry(body: Body, state: str, backward: bool) -> Entry:
    if backward:
        return later_entry(body.m.model, state)
    return next(
        e
        for e in body.memory.entries
        if e.source == ("ref", state) and e.kind in ("carry", "lag")
    )


def whole(
    m: Method, node: ir.Node | None, type_: Type, otherwise: float | bool
) -> Value:
    """`node` at all steps, with every dimension of `type_`; None is `otherwise`."""
    made = _number(otherwise, type_) if node is None else node
    return full(m, _valued(m, made, type_), type_)


def factor(
    m: Method, node: ir.Node | None, type_: Type, otherwise: float | bool
) -> Expr:
    """`node` so that it broadcasts against a whole sequence of `type_`."""
    made = _number(otherwise, type_) if node is None else node
    return align(_valued(m, made, type_), (BATCH, TIME, *type_.dims))


def _valued(m: Method, node: ir.Node, type_: Type) -> Value:
    """`node` in the dtype of the state, which the weights of an int state fit too."""
    value = cast(m, tensor(m, expression(m, node), type_.dtype), type_.dtype)
    if type_.dtype == "int" and value.dtype == "float":
        return replace(value, code=method(value.code, "long"), dtype="int")
    return value


def _number(value: float | bool, type_: Type) -> ir.Node:
    return build.const(int(value) if type_.dtype == "int" else value)


def settle(
    body: Body, step: Parallel, state: str, ends: Ends, made: Expr, last: Expr
) -> None:
    """Make known that `state` is `made` at all steps and `last` after them."""
    m = body.m
    type_ = full_type(m.model, state)
    value = Value(made, (BATCH, TIME, *type_.dims), type_.dtype)
    m.env["ref", state] = value
    local = m.env.get(("local", state))
    if local is not None:
        keep_before(m, state, one_line(local.code))
        m.env["ref", state] = m.bind(one_line(local.code), value)
    entry = ends.entry
    if step.loop.direction == "forward":
        m.next[entry.key] = last if entry.kind == "carry" else _held(m, ends, made)


def _held(m: Method, ends: Ends, made: Expr) -> Expr:
    """The last steps of a state, of which those before the segment are initial values."""
    assert ends.past is not None
    m.need_position()
    initial = ends.initial
    if ends.varies:
        initial = Item(initial, ":, -1:")
    return call(m.helper("_held"), ends.past, made, Atom("t"), initial)


def at_starts(m: Method, ends: Ends, state: str) -> Expr:
    """What a segment starts from, `[batch, time or 1, …]`."""
    dims = full_type(m.model, state).dims
    time = m.need("time") if ends.varies else Atom("1")
    value = ends.initial
    if ends.numeric:
        dtype = Atom(f"{one_line(ends.first)}.dtype")
        value = call("torch.as_tensor", value, dtype=dtype, device=m.need("device"))
    return method(value, "expand", m.need("batch"), time, *m.extents(dims))


def whole_type(m: Method, state: str) -> Type:
    """The type of `state`, one for every row and step."""
    type_ = full_type(m.model, state)
    return replace(type_, axes=type_.axes | {BATCH, TIME})
