"""Operators that create parameters: `param`, `linear`, `embed`, `conv`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from seqdsl.elaborate import arguments, dims, expressions, initial, keys, statics
from seqdsl.elaborate.arguments import Operator, check_count, check_keywords
from seqdsl.elaborate.context import Context
from seqdsl.elaborate.scope import Scope, Site
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit, Size
from seqdsl.ir.types import DType, Type
from seqdsl.source import Span
from seqdsl.syntax import ast

NAMES = ("linear", "embed", "conv", "param")


def add(
    ctx: Context,
    scope: Scope,
    name: str,
    key: str,
    type_: Type,
    init: ir.Init,
    span: Span,
    frozen: bool = False,
) -> ir.Ref:
    """A new parameter, untied along the repeats around it."""
    full = keys.prefixed(scope, key)
    keys.check_unique(ctx, full, span)
    for axis in scope.axes:
        _require_tied(ctx, axis, span)
    unique = ctx.fresh(name)
    typed = Type(type_.dtype, type_.dims, frozenset(scope.axes))
    ctx.params[unique] = ir.Param(
        name=unique, key=full, type=typed, init=init, frozen=frozen, span=span
    )
    return build.ref(unique, typed, span)


def _require_tied(ctx: Context, axis: str, span: Span) -> None:
    repeat = ctx.repeats.get(axis)
    if repeat is not None and isinstance(repeat.count, ir.Base):
        raise ctx.fail(
            "E0427",
            f"parameters inside `repeat {axis}` are one per step, "
            "but its count is only known at run time",
            span,
            "declare what holds the parameters outside the repeat, so that all steps "
            "share it",
        )


def param_expression(
    ctx: Context, scope: Scope, site: Site, expr: ast.ParamExpr
) -> ir.Node:
    """`param([heads], init)` inside an expression."""
    args = list(expr.args)
    shape = site.initial.dims if site.initial else None
    if args and isinstance(args[0], ast.DimList):
        listed = cast(ast.DimList, args.pop(0))
        shape = dims.shape_of(ctx, scope, listed.items, listed.span)
    if shape is None:
        raise ctx.fail(
            "E0401", "`param` here needs a shape", expr.span, "write `param([K])`"
        )
    if len(args) > 1 or expr.keywords:
        raise ctx.fail(
            "E0401",
            "`param` takes a shape and one initial value",
            expr.span,
            "write for instance `param([K], normal(0, 0.02))`",
        )
    type_ = Type("float", shape)
    name = keys.local_name(site, expr, "param", expr.key)
    init = initial.written(ctx, scope, name, type_, args[0] if args else None)
    unique = f"{name}.param" if name in ctx.names else name
    return add(ctx, scope, unique, name, type_, init, expr.span)


# ---- linear, embed


def targets(ctx: Context, scope: Scope, expr: ast.Expr) -> tuple[str, ...]:
    """The dims of `linear(x, here)`: a name, a number or a list."""
    if isinstance(expr, ast.DimList):
        return dims.shape_of(ctx, scope, expr.items, expr.span)
    return (dims.dim_name(ctx, scope, expr),)


def fresh_inputs(
    ctx: Context, node: ir.Node, contracted: Sequence[str], out: Sequence[str]
) -> tuple[ir.Node, tuple[str, ...]]:
    """`node` with contracted dims that also name an output renamed (`H` to `H_in`)."""
    pairs = [(d, ctx.fresh_dim(f"{d}_in", ctx.dims[d])) for d in contracted if d in out]
    renamed = build.rename(node, pairs, node.span)
    table = dict(pairs)
    return renamed, tuple(table.get(d, d) for d in contracted)


def _contracted(
    ctx: Context, scope: Scope, expr: ast.Call, node: ir.Node
) -> tuple[str, ...]:
    if expr.brackets is None:
        return node.type.dims
    names = [i.expr for i in expr.brackets if i.expr is not None]
    found = dims.shape_of(ctx, scope, names, expr.span)
    for name in found:
        if name not in node.type.dims:
            raise build.Issue(
                "E0202",
                f"the argument has no dim `{name}`",
                f"its dims are [{', '.join(node.type.dims)}]",
            )
    return found


def _linear(ctx: Context, scope: Scope, site: Site, expr: ast.Call) -> ir.Node:
    usage = "linear(x, H)  or  linear[K](x, H)"
    check_keywords(ctx, expr, ("bias", "init"))
    check_count(ctx, expr, 2, 2, usage)
    x = expressions.value(ctx, scope, site, expr.args[0])
    if x.type.dtype == "bool":
        raise ctx.fail(
            "E0211",
            "`linear` takes numbers, not bools",
            expr.args[0].span,
            "make numbers first: `float(x)`",
        )
    out = targets(ctx, scope, expr.args[1])
    x, inner = fresh_inputs(ctx, x, _contracted(ctx, scope, expr, x), out)
    name = keys.local_name(site, expr, "linear", expr.key)
    weight_type = Type(_weight_dtype(x), (*out, *inner))
    bound = initial.fan_bound(ctx, inner)
    given = arguments.keyword(expr, "init")
    init = (
        initial.uniform_init(bound)
        if given is None
        else initial.written(ctx, scope, name, weight_type, given, len(out))
    )
    key = f"{name}.weight"
    weight = add(ctx, scope, key, key, weight_type, init, expr.span)
    result: ir.Node = build.contract((x, weight), inner, expr.span)
    bias_type = Type(_weight_dtype(x), out)
    return plus_bias(ctx, scope, expr, name, result, bias_type, bound)


def plus_bias(
    ctx: Context,
    scope: Scope,
    expr: ast.Call,
    name: str,
    result: ir.Node,
    type_: Type,
    bound: Size,
) -> ir.Node:
    """`result` and its bias; without one for `bias = false`.

    `bias = 1`, or any other initial value that a parameter may have, says where it starts.
    """
    given = arguments.keyword(expr, "bias")
    size = Lit(True) if given is None else statics.static(ctx, scope, given)
    value = None if size is None else ctx.value_of(size)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if given is not None and (size is None or number):
        init = initial.written(ctx, scope, name, type_, given)
    elif arguments.flag(ctx, scope, expr, "bias", True, "where it starts"):
        init = initial.uniform_init(bound)
    else:
        return result
    key = f"{name}.bias"
    bias = add(ctx, scope, key, key, type_, init, expr.span)
    return build.map_("add", result, bias, span=expr.span)


def _weight_dtype(x: ir.Node) -> DType:
    return "complex" if x.type.dtype == "complex" else "float"


def _embed(ctx: Context, scope: Scope, site: Site, expr: ast.Call) -> ir.Node:
    usage = "embed(tokens, vocab, D)"
    arguments.no_brackets(ctx, expr, usage)
    check_keywords(ctx, expr, ("init",))
    check_count(ctx, expr, 3, 3, usage)
    tokens = expressions.value(ctx, scope, site, expr.args[0])
    vocab = dims.dim_name(ctx, scope, expr.args[1])
    out = targets(ctx, scope, expr.args[2])
    name = keys.local_name(site, expr, "embed", expr.key)
    type_ = Type("float", (vocab, *out))
    given = arguments.keyword(expr, "init")
    init = (
        initial.normal_init()
        if given is None
        else initial.written(ctx, scope, name, type_, given)
    )
    key = f"{name}.weight"
    weight = add(ctx, scope, key, key, type_, init, expr.span)
    return build.gather(weight, vocab, tokens, expr.span)


OPERATORS: Mapping[str, Operator] = {"linear": _linear, "embed": _embed}
