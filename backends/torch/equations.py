"""Equations as statements."""

from __future__ import annotations

from collections.abc import Iterator

from seqdsl.backends.torch.expressions import expression, rounded, unrounded
from seqdsl.backends.torch.memory import whole
from seqdsl.backends.torch.method import Key, Method
from seqdsl.backends.torch.pointwise import cast, tensor
from seqdsl.backends.torch.python import (
    Atom,
    Attribute,
    call,
    method,
    one_line,
)
from seqdsl.backends.torch.reindex import canonical
from seqdsl.backends.torch.streaming import expressions, key_of
from seqdsl.backends.torch.values import Value, align, ordered
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import TIME
from seqdsl.ir.walk import subtree
from seqdsl.schedule.forms import nodes_of
from seqdsl.schedule.plan import (
    Assign,
    Call,
    DepthLoop,
    Parallel,
    Step,
    TimeLoop,
    walk,
)


def assign(m: Method, equation: ir.Equation, later: tuple[Step, ...]) -> None:
    """`name = expr`; a state keeps its shape, and stops where its loop has halted."""
    if equation.name in m.layer.fused:
        return
    m.current = equation.name
    if equation.name not in m.model.equation:
        m.layer.hoisted[equation.name] = equation.expr
    key: Key = ("ref", equation.name)
    if equation.name in m.layer.unrounded and not m.making:
        _kept_exact(m, equation)
        return
    value = expression(m, equation.expr)
    state = m.model.state.get(equation.name)
    if state is not None:
        value = cast(m, tensor(m, value), state.type.dtype)
        value = canonical(m, value, state.type.dims)
        value = _in_state_dtype(m, equation, value)
    value = _halted(m, key, value, equation)
    if m.env.get(("local", equation.name)) is not None or state is not None:
        value = whole(m, value, equation.name)
    local = m.env.get(("local", equation.name))
    if (
        local is None
        and isinstance(value.code, Atom)
        and value.code.text.isidentifier()
    ):
        m.env[key] = value
        return
    if local is not None:
        target = _over(m, equation.name, one_line(local.code), later)
    else:
        target = m.local(equation.name, TIME in equation.expr.type.axes)
    m.env[key] = m.bind(target, value, equation.span)


def _kept_exact(m: Method, equation: ir.Equation) -> None:
    """What is made of positions, for others that are, and rounded for the rest."""
    value = unrounded(m, equation.expr)
    target = m.local(equation.name, TIME in equation.expr.type.axes)
    value = tensor(m, value)
    m.env["exact", equation.name] = value = m.bind(target, value, equation.span)
    m.env["ref", equation.name] = rounded(m, value)


def _halted(m: Method, key: Key, value: Value, equation: ir.Equation) -> Value:
    """Where a loop with a condition has ended, the value of the step before."""
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
        timed = [v for v in (going, value, before) if TIME in v.layout]
        even = bool(timed) and all(v.even for v in timed)
        value = Value(code, target, value.dtype, even=even)
    return value


def _over(m: Method, name: str, local: str, later: tuple[Step, ...]) -> str:
    """The variable that carries `name`; what it held is kept if still needed."""
    read = [k for k in _shifts(m, later, name) if k in m.env]
    # values that are nothing but the old one under another name may be read later too
    read += [k for k in m.env if k[0] in ("ref", "result") and k != ("ref", name)]
    _keep(m, read, local)
    return local


def keep_before(m: Method, name: str, local: str) -> None:
    """Keeps what the variable of `name` holds, as other values, before it is set anew."""
    kinds = ("ref", "result", "shift")
    _keep(m, [k for k in m.env if k[0] in kinds and k != ("ref", name)], local)


def _keep(m: Method, read: list[Key], local: str) -> None:
    held = [k for k in read if one_line(m.env[k].code) == local]
    if held:
        saved = m.names.new(f"{local}_last")
        m.line(f"{saved} = {local}")
        for key in held:
            m.env[key] = m.env[key].at(Atom(saved))


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


def _shifts(m: Method, steps: tuple[Step, ...], name: str) -> list[Key]:
    """Reads of `name` at other steps, in `steps` and in what a step returns."""
    keys: dict[Key, None] = {}
    exprs = [expr for step in walk(steps) for expr in exprs_of(step)]
    if m.in_time and not m.looping:
        exprs += [output.expr for output in m.model.outputs]
    for expr in exprs:
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
        case Parallel(form=form):
            yield from nodes_of(form)
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
