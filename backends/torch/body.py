"""Steps of a plan as statements: equations, calls, loops along depth and time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from seqdsl.backends.torch.expressions import expression, initial
from seqdsl.backends.torch.method import Key, Method
from seqdsl.backends.torch.pointwise import cast, tensor
from seqdsl.backends.torch.python import (
    Atom,
    Attribute,
    Binary,
    Expr,
    Item,
    call,
    layout,
    list_of,
    method,
    one_line,
)
from seqdsl.backends.torch.reindex import canonical
from seqdsl.backends.torch.streaming import Entry, Streaming, expressions, key_of
from seqdsl.backends.torch.values import Value, align, ordered
from seqdsl.diagnostics import UnsupportedError
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit
from seqdsl.ir.types import BATCH, TIME, Type
from seqdsl.ir.walk import subtree
from seqdsl.schedule.plan import Assign, Call, DepthLoop, Step, TimeLoop, defined, walk


@dataclass(frozen=True)
class Body:
    """Writes the steps of one method; `classes` names the classes of sub-layers."""

    m: Method
    memory: Streaming
    streams: bool

    def run(self, steps: tuple[Step, ...]) -> None:
        """All of `steps`."""
        for i, step in enumerate(steps):
            match step:
                case Assign(equation=equation):
                    self.assign(equation, steps[i + 1 :])
                case Call(call=site):
                    self.apply(site)
                case TimeLoop():
                    from seqdsl.backends.torch.time_loop import time_loop

                    time_loop(self, step, steps)
                case DepthLoop():
                    from seqdsl.backends.torch.depth_loop import depth_loop

                    depth_loop(self, step)

    # ---- Equations

    def assign(self, equation: ir.Equation, later: tuple[Step, ...]) -> None:
        """`name = expr`; a state keeps its shape, and stops where its loop has halted."""
        m = self.m
        if equation.name in m.layer.fused:
            return
        m.current = equation.name
        key: Key = ("ref", equation.name)
        value = expression(m, equation.expr)
        state = m.model.state.get(equation.name)
        if state is not None:
            value = cast(m, tensor(m, value), state.type.dtype)
            value = canonical(m, value, state.type.dims)
            value = _in_state_dtype(m, equation, value)
        value = self._halted(key, value, equation)
        if m.env.get(("local", equation.name)) is not None or state is not None:
            value = full(m, value, full_type(m.model, equation.name))
        local = m.env.get(("local", equation.name))
        if (
            local is None
            and isinstance(value.code, Atom)
            and value.code.text.isidentifier()
        ):
            m.env[key] = value
            return
        if local is not None:
            target = self._over(equation.name, one_line(local.code), later)
        else:
            target = m.local(equation.name, TIME in equation.expr.type.axes)
        m.env[key] = m.bind(target, value, equation.span)

    def _halted(self, key: Key, value: Value, equation: ir.Equation) -> Value:
        """Where a loop with a condition has ended, the value of the step before."""
        m = self.m
        for axis in equation.scope:
            going = m.env.get(("going", axis))
            before = m.env.get(("frozen", *key, axis))
            if going is None or before is None:
                continue
            before = m.find("frozen", *key, axis) or before
            going = m.look("going", axis)
            value = tensor(m, value)
            dims = [n for n in value.layout if n in m.model.dims]
            dims += [n for n in before.layout if n in m.model.dims and n not in dims]
            axes = {*value.layout, *before.layout, *going.layout} - set(dims)
            target = ordered(axes, dims, m.model.copies)
            code = call(
                "torch.where",
                align(going, target),
                align(value, target),
                align(before, target),
            )
            value = Value(code, target, value.dtype)
        return value

    def _over(self, name: str, local: str, later: tuple[Step, ...]) -> str:
        """The variable that carries `name`; what it held is kept if still needed."""
        m = self.m
        read = [k for k in _shifts(later, name) if k in m.env]
        held = [k for k in read if one_line(m.env[k].code) == local]
        if held:
            saved = m.names.new(f"{local}_last")
            m.line(f"{saved} = {local}")
            for key in held:
                m.env[key] = m.env[key].at(Atom(saved))
        return local

    # ---- Sub-layers

    def apply(self, site: ir.CallSite) -> None:
        """Apply a sub-layer to its arguments."""
        m = self.m
        instance = m.model.instance[site.instance]
        from seqdsl.backends.torch.parameters import path

        target = path(m, f"{instance.name}.")[: -len(".")]
        args = [
            self._argument(site, i, dict(site.args)[i.name])
            for i in instance.model.inputs
        ]
        entry = next(
            (
                e
                for e in self.memory.entries
                if e.owner == site.name and e.kind == "call"
            ),
            None,
        )
        name = m.names.new(f"{site.name}_t" if m.in_time else site.name)
        if m.in_time:
            before: Expr = Atom("{}") if entry is None else self.access(entry)
            after = "_" if entry is None else m.names.new(f"{site.name}_state")
            code = call(f"{target}.step", *args, before)
            m.write(f"{name}, {after} = ", code, "", site.span)
        else:
            after = self._forward(site, entry, target, args, name)
        if entry is not None and (m.in_time or self.streams):
            m.next[entry.key] = Atom(after)
        self._results(site, instance.model, name)

    def _forward(
        self,
        site: ir.CallSite,
        entry: Entry | None,
        target: str,
        args: list[Expr],
        name: str,
    ) -> str:
        m = self.m
        callee = m.model.instance[site.instance].model
        given: dict[str, Expr] = {}
        if not any(TIME in i.type.axes for i in callee.inputs):
            given["time"] = m.need("time")
        if not any(BATCH in i.type.axes for i in callee.inputs):
            given["batch"] = m.need("batch")
        if takes_segments(callee):
            given["segments"] = Atom("segments")
        if entry is None or not self.streams:
            m.write(f"{name} = ", call(target, *args, **given), "", site.span)
            return ""
        after = m.names.new(f"{site.name}_state")
        given |= {"state": self.access(entry), "return_state": Atom("True")}
        m.write(f"{name}, {after} = ", call(target, *args, **given), "", site.span)
        return after

    def _argument(self, site: ir.CallSite, wanted: ir.Input, node: ir.Node) -> Expr:
        """An argument as the sub-layer's own callers would hand it over."""
        m = self.m
        ours = dict(site.dims)
        dims = tuple(ours.get(d, d) for d in wanted.type.dims)
        value = tensor(m, expression(m, node), wanted.type.dtype)
        return one_or_full(
            m, cast(m, value, wanted.type.dtype), replace(wanted.type, dims=dims)
        )

    def _results(self, site: ir.CallSite, callee: ir.Model, name: str) -> None:
        m = self.m
        ours = dict(site.dims)
        for i, output in enumerate(callee.outputs):
            single = len(callee.outputs) == 1
            code: Expr = Atom(name) if single else Item(Atom(name), str(i))
            dims = tuple(ours.get(d, d) for d in output.expr.type.dims)
            axes = output.expr.type.axes
            lead = [BATCH, TIME] if TIME in axes else [BATCH] if BATCH in axes else []
            lead = [n for n in lead if n != TIME or not m.in_time]
            m.env["result", site.name, output.name] = Value(
                code, (*lead, *dims), output.expr.type.dtype
            )

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
        dims, dtype = entry.type.dims, entry.type.dtype
        single = entry.kind == "carry"
        if not m.in_time:
            past = Item(code, ":, None") if single else code
            m.env["past", *entry.source] = Value(past, (BATCH, TIME, *dims), dtype)
            return
        assert isinstance(entry.count, Lit)
        for i in range(1, int(entry.count.value) + 1):
            read = code if single else Item(code, f":, -{i}")
            m.env["shift", *entry.source, TIME, -i] = Value(read, (BATCH, *dims), dtype)

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
                return value if m.in_time else Item(value, ":, -1")
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
                return (
                    whole
                    if entry.count is None
                    else call(m.helper("_recent"), whole, m.size(entry.count))
                )
            case _:
                return None

    def _full(self, value: Value, entry: Entry) -> Expr:
        return one_or_full(self.m, tensor(self.m, value), entry.type)

    def _now(self, value: Value, entry: Entry) -> Expr:
        full = self._full(value, entry)
        return Item(full, ":, None") if self.m.in_time else full


def takes_segments(model: ir.Model) -> bool:
    """Whether a layer does anything along time, so that packing matters to it."""
    from seqdsl.backends.torch.streaming import streaming

    memory = streaming(model)
    return bool(memory.entries or memory.reasons)


def one_or_full(m: Method, value: Value, type_: Type) -> Expr:
    """`value` with batch (and time, where it varies) of full extent, then all dims."""
    value = canonical(m, value, type_.dims)
    if not type_.axes & {BATCH, TIME}:
        return value.code
    timed = TIME in type_.axes and not m.in_time
    lead = (BATCH, TIME) if timed else (BATCH,)
    if TIME in value.layout and not timed and not m.in_time:
        rest = tuple(n for n in value.layout if n != TIME)
        value = value.at(Item(value.code, ":, -1"), rest)
    target = (*lead, *type_.dims)
    present = all(n in value.layout for n in lead)
    if present and not value.even:
        return value.code
    wide = align(value, target)
    if not value.layout or value.layout == type_.dims:
        wide = value.code
    sizes: list[Expr] = [m.need("batch")]
    if timed:
        sizes.append(m.need("time"))
    if TIME not in value.layout and BATCH in value.layout and timed:
        wide = Item(value.code, ":, None")
    return method(wide, "expand", *sizes, *(Atom("-1") for _ in type_.dims))


def _in_state_dtype(m: Method, equation: ir.Equation, value: Value) -> Value:
    """Keeps the precision of the state under autocast, where it would be lost."""
    before = m.env.get(("shift", "ref", equation.name, TIME, -1))
    if before is None or not m.in_time or value.dtype != "float":
        return value
    if _adds_to(equation.expr, equation.name):
        return value
    dtype = Attribute(before.code, "dtype")
    return value.at(method(value.code, "to", dtype))


def _adds_to(node: ir.Node, name: str) -> bool:
    """Whether pointwise arithmetic with the state's past decides the precision."""
    match node:
        case ir.Shift(arg=ir.Ref(name=read), axis=axis):
            return read == name and axis == TIME
        case ir.Map(op="where", args=(_, a, b)):
            return _adds_to(a, name) or _adds_to(b, name)
        case ir.Map(args=args):
            return any(_adds_to(a, name) for a in args)
        case ir.Rename() | ir.Split() | ir.Merge():
            return _adds_to(node.arg, name)
        case _:
            return False


def full(m: Method, value: Value, type_: Type) -> Value:
    """`value` with every dimension of its type: what a loop carries keeps its shape."""
    layout = (*m.lead(type_.axes), *type_.dims)
    if value.layout == layout and not value.even:
        return value
    return Value(one_or_full(m, value, type_), layout, value.dtype)


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


def _shifts(steps: tuple[Step, ...], name: str) -> list[Key]:
    """Reads of `name` at other steps, in `steps`."""
    keys: dict[Key, None] = {}
    for step in walk(steps):
        for expr in exprs_of(step):
            for node in subtree(expr):
                if isinstance(node, ir.Shift) and key_of(node.arg) == ("ref", name):
                    keys["shift", "ref", name, node.axis, node.offset] = None
    return list(keys)


def exprs_of(step: Step) -> Iterator[ir.Node]:
    """What a step itself evaluates, inner steps left out."""
    match step:
        case Assign(equation=equation):
            yield equation.expr
        case Call(call=site):
            yield from (arg for _, arg in site.args)
        case TimeLoop(hoisted=hoisted):
            yield from (e.expr for e in hoisted)
        case DepthLoop(repeat=repeat):
            if repeat.condition is not None:
                yield repeat.condition


def read_outside(model: ir.Model, names: frozenset[str]) -> frozenset[Key]:
    """Values among `names` that expressions of other equations read."""
    keys: set[Key] = set()
    inside = {e.name: e for e in model.equations if e.name in names}
    own = {id(e.expr) for e in inside.values()}
    for expr, _ in expressions(model):
        if id(expr) in own:
            continue
        for node in subtree(expr):
            if isinstance(node, ir.Ref | ir.Result):
                keys.add(key_of(node))
    return frozenset(k for k in keys if str(k[1]) in names)


__all__ = ["Body", "Binary", "Mapping", "defined", "initial", "layout", "list_of"]
