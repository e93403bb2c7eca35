"""Loops along time that a kernel of another target runs, called from the torch module."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from seqdsl.backends.torch.equations import assign
from seqdsl.backends.torch.expressions import expression
from seqdsl.backends.torch.from_the_end import whole_initial
from seqdsl.backends.torch.halved import halves, unpack
from seqdsl.backends.torch.loop_state import begun, carried_entries
from seqdsl.backends.torch.memory import Body
from seqdsl.backends.torch.method import Method
from seqdsl.backends.torch.pointwise import cast, tensor
from seqdsl.backends.torch.python import (
    Atom,
    Binary,
    Expr,
    Item,
    Unary,
    call,
    one_line,
    tuple_of,
)
from seqdsl.backends.torch.reindex import canonical
from seqdsl.backends.torch.streaming import Entry, expressions
from seqdsl.backends.torch.time_loop import hand_on
from seqdsl.backends.torch.values import Value, align
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit
from seqdsl.ir.types import BATCH, TIME, DType, Type
from seqdsl.ir.walk import children
from seqdsl.schedule.choose import LOOP, Wish
from seqdsl.schedule.cut import Fusion
from seqdsl.schedule.halves import in_reals
from seqdsl.schedule.lookups import with_sums
from seqdsl.schedule.obstacles import obstacles
from seqdsl.schedule.plan import TimeLoop, defined
from seqdsl.schedule.region import Region, identity, outline, with_floats
from seqdsl.schedule.repeats import axes_in
from seqdsl.schedule.sized import named


@dataclass
class Kernels:
    """The loops of a file that kernels run; `fusion` says what they can do.

    Other loops run as `rest` says. With `lazy`, what states begin again from is computed
    only where there are segments. `refused` names the loops that stay in torch and says why. `classes` are the layers of the file by
    the names of their classes, each with the name of its named tuple of outputs.
    """

    fusion: Fusion
    rest: Wish = LOOP
    lazy: bool = False
    regions: dict[str, Region] = field(default_factory=dict[str, Region])
    refused: list[str] = field(default_factory=list[str])
    classes: dict[str, tuple[ir.Model, str | None]] = field(
        default_factory=dict[str, tuple[ir.Model, str | None]]
    )

    def add(self, region: Region) -> str:
        """The name under which the file finds the kernel of `region`."""
        digest = hashlib.sha256(identity(region).encode()).hexdigest()[:12]
        name = f"{region.name}_{digest}"
        self.regions[name] = region
        return name


def takes(m: Method, loop: TimeLoop) -> bool:
    """Whether a kernel runs `loop`."""
    kernels = m.layer.kernels
    if kernels is None or m.in_time:
        return False
    reason = next(_obstacles(m, loop, kernels.fusion), None)
    if reason is not None:
        states = ", ".join(loop.carried)
        kernels.refused.append(f"{m.model.name}: {states} ({reason})")
    return reason is None


def _obstacles(m: Method, loop: TimeLoop, fusion: Fusion) -> Iterator[str]:
    if any(m.model.repeat[axis].condition is not None for axis in m.steps):
        yield "a repeat that may end early"
    scopes = (m.model.equation[n].scope for n in defined(loop.body))
    if any(set(scope) - {*m.steps, *axes_in(loop)} for scope in scopes):
        yield "a repeat inside"
    yield from obstacles(m.model, loop, fusion)


def call_kernel(body: Body, loop: TimeLoop) -> None:
    """The call that stands for `loop`, and what it leaves behind."""
    m, kernels = body.m, body.m.layer.kernels
    assert kernels is not None
    for equation in loop.hoisted:
        assign(m, equation, ())
    names = frozenset(defined(loop.body))
    entries = {
        e.owner: e
        for e in carried_entries(body, loop, names)
        if e.owner in loop.carried
    }
    wanted, ends = _wanted(body, loop, names)
    plain = outline(m.model, loop, wanted, lambda node: _axes(m, node))
    made, checks = with_sums(plain)
    halved = with_floats(in_reals(made))
    name = kernels.add(halved)
    carried = [*loop.carried, *(g.state for g in made.lags)]
    backs = [*(1 for _ in loop.carried), *(g.back for g in made.lags)]
    first = [
        half
        for n, back in zip(carried, backs, strict=True)
        for half in halves(m, n, _first(body, entries[n], loop, back))
    ]
    first += [h for n in loop.replayed for h in halves(m, n, _initial(m, n))]
    reads = [
        _read(m, node, i.type.dims)
        for node, i in zip(halved.reads, halved.model.inputs, strict=False)
    ]
    starts, again = _again(m, loop, carried)
    locals_ = [
        m.local(n, varies=False) if ("local", n) not in m.env else m.names.new(n)
        for n in wanted
    ]
    indices = [(c.index, m.names.new(c.index)) for c in checks]
    lasts = [m.names.new(f"{n}_t") for n in loop.carried]
    unread = [m.names.new(f"{g.name}_t") for g in made.lags]
    code = call(
        f'_KERNELS["{name}"]',
        _sizes(m, halved),
        tuple_of(reads),
        tuple_of(first),
        starts,
        _where_segments(starts, again) if kernels.lazy else tuple_of(again),
        m.need("batch"),
        m.need("time"),
    )
    types = {o.name: o.expr.type for o in made.model.outputs}
    types |= {s.name: s.type for s in made.model.states}
    given = [*locals_, *(local for _, local in indices), *lasts, *unread]
    names_ = [*wanted, *(name for name, _ in indices), *made.states]
    unpack(m, zip(given, names_, strict=True), types, code)
    for check, (_, local) in zip(checks, indices, strict=True):
        extent, label = m.layer.extent(check.dim), Atom(f'"{check.label}"')
        m.write("", call(m.helper("_inside"), local, extent, label))
    read = dict(zip(wanted, locals_, strict=True))
    last = dict(zip(loop.carried, lasts, strict=True))
    _hand_over(body, loop, read, {n: last[n] for n in loop.carried if n in ends}, types)
    for name in names:
        hand_on(m, name)
    if loop.direction == "forward":
        for name, local in last.items():
            if entries[name].kind == "carry":
                m.next[entries[name].key] = Atom(local)


def _hand_over(
    body: Body,
    loop: TimeLoop,
    read: Mapping[str, str],
    ends: Mapping[str, str],
    types: Mapping[str, Type],
) -> None:
    """Make known under which names the kernel left values of all steps and last states."""
    m = body.m
    for name, local in read.items():
        type_ = types[name]
        m.env["ref", name] = Value(Atom(local), (BATCH, TIME, *type_.dims), type_.dtype)
    for name, local in ends.items():
        type_ = m.model.state[name].type
        code = Item(Atom(local), ":, None")
        layout = (BATCH, TIME, *type_.dims)
        end = "last" if loop.direction == "forward" else "first"
        m.env["end", "ref", name, end] = Value(code, layout, type_.dtype, even=True)
    for entry in body.memory.entries:
        if entry.owner in loop.replayed:
            m.next[entry.key] = body.access(entry)


def _wanted(
    body: Body, loop: TimeLoop, names: frozenset[str]
) -> tuple[list[str], set[str]]:
    """Values read outside of the loop at every step, and states read after its last."""
    m = body.m
    keys = {n for n in names if ("local", n) in m.env}
    for entry in body.memory.entries:
        left = loop.direction == "forward" and entry.owner in loop.carried
        if entry.kind == "lag" or (entry.kind == "carry" and not left):
            keys.add(entry.owner)
    ends: set[str] = set()
    inside = names | frozenset(defined(loop.replay))
    own = [m.model.equation[n].expr for n in inside]
    first = [s.initial for s in m.model.states if s.carried & axes_in(loop)]
    for expr, _ in expressions(m.model):
        if any(expr is e for e in (*own, *first)):
            continue
        _note(expr, loop, keys, ends)
    return [n for n in defined(loop.body) if n in keys], ends


def _note(node: ir.Node, loop: TimeLoop, keys: set[str], ends: set[str]) -> None:
    """Notes what `node` reads: whole sequences, or the last step that a loop runs."""
    match node:
        case ir.At(arg=ir.Ref(name=name), axis=axis) if (
            axis == TIME and name in loop.carried and _is_end(node, loop)
        ):
            ends.add(name)
        case ir.Ref(name=name):
            keys.add(name)
        case _:
            for child in children(node):
                _note(child, loop, keys, ends)


def _is_end(node: ir.At, loop: TimeLoop) -> bool:
    """Whether `node` reads the step at which the loop arrives."""
    if loop.direction == "forward":
        return node.index is None
    return isinstance(node.index, ir.Const) and node.index.value == Lit(0)


def _axes(m: Method, node: ir.Node) -> frozenset[str]:
    return frozenset(expression(m, node).layout) & {BATCH, TIME}


def _read(m: Method, node: ir.Node, dims: tuple[str, ...]) -> Expr:
    """A value as the kernel takes it: batch and time where it has them, then its dims."""
    value = canonical(m, cast(m, tensor(m, expression(m, node)), node.type.dtype), dims)
    lead = [a for a in (BATCH, TIME) if a in value.layout]
    return align(value, (*lead, *dims))


def _first(body: Body, entry: Entry, loop: TimeLoop, back: int = 1) -> Expr:
    """A state `back` steps before the second step of the loop."""
    if loop.direction == "backward":
        code = whole_initial(body, entry)
    else:
        code = begun(body, entry)
    side = -back if loop.direction == "forward" else back - 1
    return Item(code, f":, {side}") if entry.kind == "lag" else code


def _initial(m: Method, name: str) -> Expr:
    """The initial value of a state, with a row for each sequence or one for all."""
    state = m.model.state[name]
    value = tensor(m, cast(m, expression(m, state.initial), state.type.dtype))
    return align(canonical(m, value, state.type.dims), (BATCH, *state.type.dims))


def _again(
    m: Method, loop: TimeLoop, carried: Sequence[str]
) -> tuple[Expr, list[Expr]]:
    """Where segments begin, and what the states `carried` are there."""
    starts = "starts" if loop.direction == "forward" else "ends"
    m.needed[starts] = None
    again: list[Expr] = []
    for name in carried:
        state = m.model.state[name]
        parts, dtype = [state.initial], state.type.dtype
        if dtype == "complex":
            wide = build.map_("complex", build.const(0.0), build.const(0.0))
            whole = build.map_("add", state.initial, wide)
            parts, dtype = [build.map_(o, whole) for o in ("real", "imag")], "float"
        again += [_at_start(m, part, state.type.dims, dtype) for part in parts]
    return Atom(starts), again


def _where_segments(starts: Expr, again: Sequence[Expr]) -> Expr:
    """What states begin with, computed only where there are segments."""
    if all(isinstance(a, Atom | Unary) for a in again):
        return tuple_of(again)
    return Binary("and", Binary("is not", starts, Atom("None")), tuple_of(again))


def _at_start(m: Method, node: ir.Node, dims: tuple[str, ...], dtype: DType) -> Expr:
    """What a state, or a part of it, begins with."""
    value = cast(m, expression(m, node), dtype)
    if value.scalar:
        return value.code
    value = canonical(m, value, dims) if value.layout else value
    return align(value, (BATCH, TIME, *dims)) if _leads(value) else value.code


def _leads(value: Value) -> bool:
    return BATCH in value.layout or TIME in value.layout


def _sizes(m: Method, region: Region) -> Expr:
    """Extents and options that the kernel bakes in."""
    names = dict.fromkeys(named(region))
    items = ", ".join(f'"{n}": {one_line(_size(m, n))}' for n in names)
    return Atom(f"{{{items}}}")


def _size(m: Method, name: str) -> Expr:
    return m.layer.extent(name) if name in m.model.dims else m.layer.option(name)
