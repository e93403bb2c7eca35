"""`reset_parameters`: initial values, by torch's own initializers where they fit."""

from __future__ import annotations

import re

from seqdsl.backends.torch.expressions import expression
from seqdsl.backends.torch.method import Layer, Method
from seqdsl.backends.torch.names import Names
from seqdsl.backends.torch.parameters import path
from seqdsl.backends.torch.pointwise import cast, tensor
from seqdsl.backends.torch.python import (
    Atom,
    Expr,
    call,
    method,
    number,
)
from seqdsl.backends.torch.reindex import canonical
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Apply, Lit, apply
from seqdsl.ir.types import Type
from seqdsl.ir.walk import subtree, transform


def resetter(layer: Layer) -> list[str]:
    """`reset_parameters(self)`."""
    model = layer.model
    if not model.params:
        return []
    m = Method(layer, Names(), making=True)
    lines = [
        "    @torch.no_grad()",
        "    def reset_parameters(self):",
        f'{" " * 8}"""Give every parameter of this layer its initial value anew."""',
    ]
    for scope, params in _by_scope(model):
        opened = 0
        held: list[str] = []
        for axis in scope:
            prefix = _prefix(params[0], axis)
            holder = m.names.new(f"{axis}_layer")
            held.append(prefix)
            uses_n = any(_reads_step(p, axis) for p in params)
            m.steps[axis] = m.names.new(axis)
            where = path(m, prefix)
            if uses_n:
                m.line(f"for {m.steps[axis]}, {holder} in enumerate({where}, start=1):")
            else:
                m.line(f"for {holder} in {where}:")
            m.holders[prefix] = holder
            m.env["position", axis] = _number(m.steps[axis])
            m.indent += 4
            opened += 1
        for param in params:
            _reset(m, param)
        m.indent -= 4 * opened
        for prefix in held:
            del m.holders[prefix]
        for axis in scope:
            del m.steps[axis]
    return [*lines, *m.lines]


def _number(name: str):
    from seqdsl.backends.torch.values import Value

    return Value(Atom(name), (), "int", scalar=True)


def _reads_step(param: ir.Param, axis: str) -> bool:
    expr = param.init.expr
    if expr is None:
        return False
    return any(isinstance(n, ir.Position) and n.along == axis for n in subtree(expr))


def _prefix(param: ir.Param, axis: str) -> str:
    parts = param.key.split(".")
    return ".".join(parts[: parts.index(f"{{{axis}}}")])


def _by_scope(model: ir.Model) -> list[tuple[tuple[str, ...], list[ir.Param]]]:
    """Parameters in an order in which each comes after those its init reads, by loops."""
    placed: dict[str, ir.Param] = {}

    def visit(param: ir.Param, above: frozenset[str]) -> None:
        if param.name in placed or param.name in above:
            return
        for node in subtree(param.init.expr) if param.init.expr is not None else ():
            if isinstance(node, ir.Ref) and node.name in model.param:
                visit(model.param[node.name], above | {param.name})
        placed[param.name] = param

    seen: set[str] = set()
    for param in model.params:
        stored = re.sub(r"\{\w+\}", "{}", param.key)
        if stored not in seen:
            seen.add(stored)
            visit(param, frozenset())
    groups: list[tuple[tuple[str, ...], list[ir.Param]]] = []
    for param in placed.values():
        marks = [p[1:-1] for p in param.key.split(".") if p.startswith("{")]
        scope = tuple(marks)
        same = groups and groups[-1][0] == scope
        if same and all(
            _prefix(groups[-1][1][0], a) == _prefix(param, a) for a in scope
        ):
            groups[-1][1].append(param)
        else:
            groups.append((scope, [param]))
    return groups


def _reset(m: Method, param: ir.Param) -> None:
    target = path(m, param.key)
    init = param.init
    if init.kind == "orthogonal" or init.expr is None:
        gain = Atom("1.0") if init.gain is None else m.size(init.gain)
        rows = [] if init.rows == 1 else [Atom(str(init.rows))]
        m.write("", call(m.helper("_orthogonal_"), target, gain, *rows), "", param.span)
        return
    m.write("", _initializer(m, param, target, init.expr), "", param.span)


_ARITHMETIC = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "div": "/",
    "neg": "neg",
    "sqrt": "sqrt",
    "exp": "exp",
    "log": "log",
}


def _constant(node: ir.Node) -> ir.Node:
    """Arithmetic of what is known when a module is made, as one constant."""
    match node:
        case ir.Map(op=op, args=args) if op in _ARITHMETIC and all(
            isinstance(a, ir.Const) for a in args
        ):
            sizes = tuple(a.value for a in args if isinstance(a, ir.Const))
            value = apply(_ARITHMETIC[op], *sizes)
            return ir.Const(value=value, type=node.type, span=node.span)
        case _:
            return node


def _initializer(m: Method, param: ir.Param, target: str, expr: ir.Node) -> Expr:
    """The call that fills `target`, by torch's own initializers where they fit."""
    floating = param.type.dtype == "float"
    expr = transform(expr, _constant)
    match expr:
        case ir.Const(value=Lit(value=0 | 0.0)) if floating:
            return call("nn.init.zeros_", target)
        case ir.Const(value=Lit(value=1 | 1.0)) if floating:
            return call("nn.init.ones_", target)
        case ir.Const(value=value) if floating:
            return call("nn.init.constant_", target, m.size(value))
        case ir.Map(
            op="add",
            args=(
                ir.Const(value=low),
                ir.Map(op="mul", args=(ir.Const(value=wide), ir.Sample() as drawn)),
            ),
        ) if floating and drawn.type.dims in ((), param.type.dims):
            if drawn.kind == "normal":
                return call("nn.init.normal_", target, m.size(low), m.size(wide))
            high = (
                wide.args[0]
                if isinstance(wide, Apply)
                and wide.op == "-"
                and wide.args[1:] == (low,)
                else None
            )
            if high is None and isinstance(wide, Lit) and isinstance(low, Lit):
                top: Expr = number(float(low.value) + float(wide.value))
            else:
                top = m.size(high if high is not None else Apply("+", (low, wide)))
            return call("nn.init.uniform_", target, m.size(low), top)
        case _:
            return _copied(m, param, target, expr)


def _copied(m: Method, param: ir.Param, target: str, expr: ir.Node) -> Expr:
    dims = param.type.dims

    def spread(node: ir.Node) -> ir.Node:
        from dataclasses import replace

        from seqdsl.ir import build

        match node:
            case ir.Sample(type=Type(dims=())):
                return replace(node, type=replace(node.type, dims=dims))
            case ir.Map(op=op, args=args):
                return build.map_(op, *args, span=node.span)
            case _:
                return node

    local = Method(m.layer, m.names, making=True, indent=m.indent)
    local.steps, local.holders, local.env = m.steps, m.holders, m.env
    value = expression(local, transform(expr, spread))
    value = canonical(
        local,
        tensor(local, cast(local, value, param.type.dtype), param.type.dtype),
        dims,
    )
    for name in ("dtype", "device"):
        if name in local.needed:
            m.line(f"{name} = {target}.{name}")
    m.lines += local.lines
    return method(Atom(target), "copy_", value.code)
