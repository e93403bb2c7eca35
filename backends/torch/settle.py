"""Where a recurrence in a parallel form starts from, and what it leaves behind."""

from __future__ import annotations

from dataclasses import dataclass, replace

from seqdsl.backends.torch.expressions import expression
from seqdsl.backends.torch.loop_state import begun, later_entry, outside, whole_initial
from seqdsl.backends.torch.memory import Body, full, full_type
from seqdsl.backends.torch.method import Method
from seqdsl.backends.torch.pointwise import cast, tensor
from seqdsl.backends.torch.python import Atom, Expr, Item, method, one_line
from seqdsl.backends.torch.streaming import Entry
from seqdsl.backends.torch.values import Value, align
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import BATCH, TIME, Type
from seqdsl.schedule.plan import Parallel


@dataclass(frozen=True)
class Ends:
    """Where a state comes from: before the first step, and where a segment starts.

    `past` are several steps before the first, where several are kept.
    """

    entry: Entry
    first: Expr
    starts: Expr
    initial: Expr
    past: Expr | None = None

    @property
    def numeric(self) -> bool:
        """Whether the initial value is a Python number."""
        text = one_line(self.initial)
        return text in ("True", "False") or not text.isidentifier()


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
    return Ends(entry, first, starts, initial, past)


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


def settle(body: Body, step: Parallel, state: str, made: Expr, last: Expr) -> None:
    """Make known that `state` is `made` at all steps and `last` after them."""
    m = body.m
    type_ = full_type(m.model, state)
    value = Value(made, (BATCH, TIME, *type_.dims), type_.dtype)
    m.env["ref", state] = value
    local = m.env.get(("local", state))
    if local is not None:
        m.env["ref", state] = m.bind(one_line(local.code), value)
    entry = _entry(body, state, step.loop.direction == "backward")
    if step.loop.direction == "forward" and entry.kind == "carry":
        m.next[entry.key] = last


def whole_type(m: Method, state: str) -> Type:
    """The type of `state`, one for every row and step."""
    type_ = full_type(m.model, state)
    return replace(type_, axes=type_.axes | {BATCH, TIME})
