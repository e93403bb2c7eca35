"""Where parameters start: initial values as written, and those of what has none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from seqdsl.elaborate import expressions, statics
from seqdsl.elaborate.context import Context
from seqdsl.elaborate.scope import Scope, Site
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit, Size, apply
from seqdsl.ir.types import DTYPES, Type
from seqdsl.ir.walk import subtree, transform
from seqdsl.source import Span
from seqdsl.syntax import ast


def uniform_init(bound: Size) -> ir.Init:
    """Uniform in [-bound, bound], as `torch.nn.Linear` starts."""
    low = build.const(apply("neg", bound))
    return ir.Init(kind="expr", expr=_scaled("uniform", low, build.const(bound)))


def _scaled(kind: Literal["uniform", "normal"], a: ir.Node, b: ir.Node) -> ir.Node:
    unit = ir.Sample(kind=kind, seed=None, site=0, type=Type("float"))
    scale = build.map_("sub", b, a) if kind == "uniform" else b
    return build.map_("add", a, build.map_("mul", scale, unit))


def normal_init() -> ir.Init:
    """Standard normal, as `torch.nn.Embedding` starts."""
    return ir.Init(kind="expr", expr=_scaled("normal", build.const(0), build.const(1)))


def fan_bound(ctx: Context, names: Sequence[str]) -> Size:
    """1/sqrt of the product of extents."""
    return apply("/", Lit(1), apply("sqrt", _product(ctx, names)))


def _product(ctx: Context, names: Sequence[str]) -> Size:
    found: Size = Lit(1)
    for name in names:
        found = ctx.dims[name] if found == Lit(1) else apply("*", found, ctx.dims[name])
    return found


def default_init(ctx: Context, shape: Sequence[str]) -> ir.Init:
    """Uniform with the last dim as fan-in."""
    return uniform_init(fan_bound(ctx, shape[-1:]))


def written(
    ctx: Context,
    scope: Scope,
    name: str,
    type_: Type,
    expr: ast.Expr | None,
    rows: int | None = None,
) -> ir.Init:
    """A parameter's initial values as written after `=` or `~`.

    The first `rows` dims, where that is known, are what a matrix computes, the others what
    it reads.
    """
    if expr is None:
        return default_init(ctx, type_.dims)
    match expr:
        case ast.Call(func=ast.Name(id="orthogonal"), args=args) if len(args) <= 1:
            gain = (
                statics.require_static(ctx, scope, args[0], "gain") if args else Lit(1)
            )
            _require_matrix(ctx, type_, expr, "orthogonal")
            return ir.Init(kind="orthogonal", expr=None, gain=gain, rows=rows or 1)
        case ast.Call(func=ast.Name(id="xavier"), args=()):
            _require_matrix(ctx, type_, expr, "xavier")
            first = len(type_.dims) - 1 if rows is None else rows
            fans = _product(ctx, type_.dims[:first]), _product(ctx, type_.dims[first:])
            return uniform_init(apply("sqrt", apply("/", Lit(6), apply("+", *fans))))
        case ast.Call(func=ast.Name(id="kaiming"), args=()):
            return default_init(ctx, type_.dims)
        case _:
            site = Site(name, 0, expr.span, initial=Type("float", type_.dims))
            node = _inlined(ctx, expressions.value(ctx, scope, site, expr))
            if site.taken:
                raise ctx.fail(
                    "E0209", "an initial value has no parameters of its own", expr.span
                )
            _check_initial(ctx, type_, node, expr.span)
            return ir.Init(kind="expr", expr=node)


def _require_matrix(ctx: Context, type_: Type, expr: ast.Expr, name: str) -> None:
    if len(type_.dims) < 2:
        raise ctx.fail("E0209", f"`{name}` needs at least two dims", expr.span)


def _inlined(ctx: Context, node: ir.Node) -> ir.Node:
    """`node` with equations that are known when the layer is made written out."""

    def rule(found: ir.Node) -> ir.Node:
        match found:
            case ir.Ref(name=name) if name in ctx.equations and name not in ctx.states:
                inner = _inlined(ctx, ctx.equations[name].expr)
                drawn = any(isinstance(n, ir.Sample) for n in subtree(inner))
                made = not drawn and all(_is_made(ctx, n) for n in subtree(inner))
                if made:
                    ctx.made.add(name)
                return inner if made else found
            case _:
                return found

    return transform(node, rule)


def _check_initial(ctx: Context, type_: Type, node: ir.Node, span: Span) -> None:
    extra = [d for d in node.type.dims if d not in type_.dims]
    if extra:
        raise ctx.fail(
            "E0209",
            f"the initial value has the dim `{extra[0]}`, which the parameter "
            f"[{', '.join(type_.dims)}] does not have",
            span,
        )
    if node.type.axes - type_.axes or not all(_is_made(ctx, n) for n in subtree(node)):
        raise ctx.fail(
            "E0209",
            "initial values cannot read what changes at run time",
            span,
            "use numbers, options, `normal(…)`, `uniform(…)`, `index[K]` and other "
            "parameters",
        )
    if DTYPES.index(node.type.dtype) > DTYPES.index(type_.dtype):
        raise ctx.fail(
            "E0209",
            f"the initial value is {node.type.dtype}, the parameter {type_.dtype}",
            span,
        )


def _is_made(ctx: Context, node: ir.Node) -> bool:
    """Whether a leaf of an initial value is known when the layer is made."""
    match node:
        case ir.Ref(name=name):
            return name in ctx.params
        case ir.Result() | ir.Training() | ir.ExternCall():
            return False
        case _:
            return True
