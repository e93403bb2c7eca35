"""Random numbers: `normal`, `uniform`, `dropout`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from seqdsl.elaborate import arguments, dims, expressions, statics
from seqdsl.elaborate.arguments import (
    Operator,
    check_count,
    check_keywords,
    no_brackets,
)
from seqdsl.elaborate.context import Context
from seqdsl.elaborate.scope import Scope, Site
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import BATCH, TIME, Type
from seqdsl.syntax import ast


def _random(ctx: Context, scope: Scope, site: Site, expr: ast.Call) -> ir.Node:
    """`normal[H](mean, std, seed = 1)`, `uniform[H](low, high)`."""
    name = arguments.function_name(expr)
    first, second = ("mean", "std") if name == "normal" else ("low", "high")
    usage = f"{name}[H]({first}, {second})"
    check_keywords(ctx, expr, ("seed",))
    check_count(ctx, expr, 0, 2, usage)
    kind: Literal["uniform", "normal"] = "normal" if name == "normal" else "uniform"
    unit = _sample(ctx, scope, site, expr, kind)
    args = expressions.values(ctx, scope, site, expr.args)
    low: ir.Node = args[0] if args else build.const(0)
    high: ir.Node = args[1] if len(args) > 1 else build.const(1)
    scale = high if name == "normal" else build.map_("sub", high, low)
    return build.map_("add", low, build.map_("mul", scale, unit))


def _sample(
    ctx: Context,
    scope: Scope,
    site: Site,
    expr: ast.Call,
    kind: Literal["uniform", "normal"],
) -> ir.Sample:
    given = arguments.keyword(expr, "seed")
    seed = None if given is None else statics.require_whole(ctx, scope, given, "a seed")
    if site.initial is not None and expr.brackets is None:
        shape, axes = site.initial.dims, site.initial.axes
    else:
        names = [i.expr for i in expr.brackets or () if i.expr is not None]
        shape = dims.shape_of(ctx, scope, names, expr.span)
        axes = site.initial.axes if site.initial else {BATCH, TIME, *scope.axes}
    ctx.sites += 1
    type_ = Type("float", shape, frozenset(axes))
    return ir.Sample(kind=kind, seed=seed, site=ctx.sites, type=type_, span=expr.span)


def _dropout(ctx: Context, scope: Scope, site: Site, expr: ast.Call) -> ir.Node:
    """`dropout(x, p)`: entries are zero with chance p in training, others grow by 1/(1-p)."""
    usage = "dropout(x, p)"
    no_brackets(ctx, expr, usage)
    check_keywords(ctx, expr, ())
    check_count(ctx, expr, 2, 2, usage)
    x, p = expressions.values(ctx, scope, site, expr.args)
    ctx.sites += 1
    axes = x.type.axes | {BATCH, TIME} if x.type.axes else x.type.axes
    draw = ir.Sample(
        kind="uniform",
        seed=None,
        site=ctx.sites,
        span=expr.span,
        type=Type("float", x.type.dims, axes),
    )
    training = ir.Training(type=Type("bool"), span=expr.span)
    keep = build.map_("ge", draw, p)
    grown = build.map_("div", x, build.map_("sub", build.const(1), p))
    zero = build.const(0.0)
    return build.map_("where", training, build.map_("where", keep, grown, zero), x)


OPERATORS: Mapping[str, Operator] = {
    "normal": _random,
    "uniform": _random,
    "dropout": _dropout,
}
