"""What a method reads from the streaming state and what it leaves there."""

from __future__ import annotations

from dataclasses import dataclass, replace

from seqdsl.analysis.visibility import reach_of_copies, window_of
from seqdsl.backends.torch.method import Method
from seqdsl.backends.torch.pointwise import tensor
from seqdsl.backends.torch.python import (
    Atom,
    Expr,
    Item,
    call,
    method,
)
from seqdsl.backends.torch.reindex import canonical
from seqdsl.backends.torch.streaming import Entry, Streaming
from seqdsl.backends.torch.values import Value, align
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit
from seqdsl.ir.types import BATCH, TIME, Type


@dataclass(frozen=True)
class Body:
    """A method being written, and the state of its layer; `streams`: it is passed on."""

    m: Method
    memory: Streaming
    streams: bool

    # ---- The state

    def access(self, entry: Entry) -> Expr:
        """Where the entry of the current steps of the loops along depth is read."""
        m = self.m
        base = m.bases.get(entry.key)
        looped = [a for a in entry.scope if a in m.steps]
        if base is not None:
            done = m.bases.get(f"{entry.key} scope", "")
            rest = [a for a in looped if a not in done.split()]
        else:
            base, rest = f'state["{entry.key}"]', looped
        return Atom(base + "".join(f"[{m.steps[a]} - 1]" for a in rest))

    def enter(
        self, scope: tuple[str, ...], owners: frozenset[str] | None = None
    ) -> None:
        """Make known what the state says about the past of values in `scope`."""
        m = self.m
        for entry in self.memory.entries:
            if entry.scope != scope or (
                owners is not None and entry.owner not in owners
            ):
                continue
            code = self.access(entry)
            dims = entry.type.dims
            match entry.kind:
                case "carry" | "lag":
                    self._enter_shift(entry, code)
                case "conv":
                    m.env["conv", entry.owner] = Value(
                        code, (BATCH, TIME, *dims), entry.type.dtype
                    )
                case "past":
                    m.env["history", *entry.source] = Value(
                        code, (BATCH, TIME, *dims), entry.type.dtype
                    )
                case _:
                    pass

    def _enter_shift(self, entry: Entry, code: Expr) -> None:
        m = self.m
        dims, dtype = entry.layout, entry.type.dtype
        single = entry.kind == "carry"
        if not m.in_time:
            past = Item(code, ":, None") if single else code
            m.env["past", *entry.source] = Value(past, (BATCH, TIME, *dims), dtype)
            return
        if entry.copies and not m.looping:
            m.env["rows", *entry.source] = Value(code, (BATCH, *dims), dtype)
            return
        assert isinstance(entry.count, Lit)
        for i in range(1, int(entry.count.value) + 1):
            read = code if single else Item(code, f":, -{i}")
            offset = i if entry.ahead else -i
            m.env["shift", *entry.source, TIME, offset] = Value(
                read, (BATCH, *dims), dtype
            )

    def leave(
        self, scope: tuple[str, ...], owners: frozenset[str] | None = None
    ) -> None:
        """Say what the state is after these steps, for values in `scope`."""
        m = self.m
        for entry in self.memory.entries:
            if entry.scope != scope or entry.key in m.next:
                continue
            if owners is not None and entry.owner not in owners:
                continue
            after = self.after(entry)
            if after is not None:
                m.next[entry.key] = after

    def after(self, entry: Entry) -> Expr | None:
        """What an entry is after these steps; None where something else says it."""
        m = self.m
        match entry.kind:
            case "carry":
                value = self._full(m.look(*entry.source), entry)
                if not m.in_time:
                    value = call(m.helper("_latest"), self.access(entry), value)
                return value if m.looping else recent_rows(m, entry, value)
            case "lag":
                past = self.access(entry)
                return call(
                    m.helper("_keep"), past, self._now(m.look(*entry.source), entry)
                )
            case "conv":
                value = m.look("conv_next", entry.owner)
                if m.in_time:
                    return value.code
                return call(m.helper("_keep"), self.access(entry), value.code)
            case "past":
                seen = m.find("copy", *entry.source)
                whole = self.access(entry) if seen is None else seen.code
                if seen is None and m.find("blank", *entry.source) is not None:
                    now = self._now(m.look(*entry.source), entry)
                    whole = call(m.helper("_with_past"), whole, now)
                if m.looping:
                    return whole
                return (
                    whole
                    if entry.count is None
                    else call(m.helper("_recent"), whole, m.whole(entry.count))
                )
            case _:
                return None

    def _full(self, value: Value, entry: Entry) -> Expr:
        return one_or_full(self.m, tensor(self.m, value), entry.type)

    def _now(self, value: Value, entry: Entry) -> Expr:
        full = self._full(value, entry)
        return Item(full, ":, None") if self.m.in_time else full


def recent_rows(m: Method, entry: Entry, code: Expr) -> Expr:
    """A state along copies of time without the rows that a window forgets."""
    window = window_of(reach_of_copies(m.model)) if entry.copies else None
    if window is None:
        return code
    return call(m.helper("_recent"), code, m.whole(window), len(entry.copies))


def one_or_full(m: Method, value: Value, type_: Type) -> Expr:
    """`value` with batch (and time, where it varies) of full extent, then all dims."""
    value = canonical(m, value, type_.dims)
    if not type_.axes & {BATCH, TIME}:
        return value.code
    timed = TIME in type_.axes and not m.in_time
    lead = (BATCH, TIME) if timed else (BATCH,)
    rows = tuple(c for c in m.model.copies if c in type_.axes)
    if TIME in value.layout and not timed and not m.in_time:
        rest = tuple(n for n in value.layout if n != TIME)
        name = Atom(f'"{m.current}"')
        value = value.at(call(m.helper("_final"), value.code, name), rest)
    target = (*lead, *rows, *type_.dims)
    present = all(n in value.layout for n in (*lead, *rows))
    if present and not value.even:
        return value.code
    wide = align(value, target)
    if not value.layout or value.layout == type_.dims:
        wide = value.code
    sizes: list[Expr] = [m.need("batch")]
    if timed:
        sizes.append(m.need("time"))
    if TIME not in value.layout and BATCH in value.layout and timed and not rows:
        wide = Item(value.code, ":, None")
    sizes += m.extents(rows)
    return method(wide, "expand", *sizes, *(Atom("-1") for _ in type_.dims))


def full(m: Method, value: Value, type_: Type) -> Value:
    """`value` with every dimension of its type: what a loop carries keeps its shape."""
    layout = (*m.lead(type_.axes), *type_.dims)
    if value.layout == layout and not value.even:
        return value
    return Value(one_or_full(m, value, type_), layout, value.dtype)


def whole(m: Method, value: Value, name: str) -> Value:
    """`value` as what a loop carries of `name`, or keeps of it in a list.

    What is one for each segment has a time dimension: of 1 where there are none.
    """
    type_ = full_type(m.model, name)
    value = tensor(m, value)
    if not evenly(m, name):
        return full(m, value, type_)
    dims = type_.dims
    value = canonical(m, value, dims)
    if TIME not in value.layout:
        marks = ":, None" if BATCH in value.layout else "None, None"
        value = value.at(Item(value.code, marks), (BATCH, TIME, *dims))
    elif not value.even:
        return value
    code = method(value.code, "expand", m.need("batch"), *["-1"] * (1 + len(dims)))
    code = call(m.helper("_each_step"), code, m.need("starts"))
    return Value(code, (BATCH, TIME, *dims), value.dtype, even=True)


def evenly(m: Method, name: str) -> bool:
    """Whether a value without a time axis has a time dimension in tensors."""
    type_ = full_type(m.model, name)
    return not m.in_time and TIME not in type_.axes and name in m.layer.by_segment


def kept(m: Method, name: str, code: Expr) -> Value:
    """`code` as `whole` lays it out."""
    type_, even = full_type(m.model, name), evenly(m, name)
    lead = (BATCH, TIME) if even else m.lead(type_.axes)
    return Value(code, (*lead, *type_.dims), type_.dtype, even=even)


def full_type(model: ir.Model, name: str) -> Type:
    """The type of a value with all axes along which it may vary at run time."""
    own = model.equation[name].expr.type
    if TIME in own.axes:
        own = replace(own, axes=own.axes | {BATCH})
    state = model.state.get(name)
    if state is None:
        return own
    axes = own.axes | state.type.axes | state.initial.type.axes
    if TIME in state.carried:
        axes |= {BATCH, TIME}
    for axis in state.carried & model.repeat.keys():
        condition = model.repeat[axis].condition
        axes |= frozenset[str]() if condition is None else condition.type.axes
    return replace(state.type, axes=axes)
