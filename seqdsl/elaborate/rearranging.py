"""Operators that put values side by side, look them up, or move them along a dim."""

from __future__ import annotations

from collections.abc import Mapping

from seqdsl.elaborate import arguments, dims, expressions, indexing, late, statics
from seqdsl.elaborate.arguments import Operator, check_count, check_keywords
from seqdsl.elaborate.context import Context
from seqdsl.elaborate.scope import Axis, Scope, Site
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Apply, Lit, Opt
from seqdsl.syntax import ast


def _concat(ctx: Context, scope: Scope, site: Site, expr: ast.Call) -> ir.Node:
    """`concat[K](a, b)` along one dim; `concat[1, K, J as P](one, a, b)` each by its own."""
    usage = "concat[K](a, b)  or  concat[1, K, J as P](one, a, b)"
    check_keywords(ctx, expr, ())
    if expr.brackets and len(expr.brackets) > 1:
        return _concat_own(ctx, scope, site, expr, expr.brackets)
    item = _one_item(ctx, expr, usage)
    if not expr.args:
        check_count(ctx, expr, 1, 64, usage)
    args = expressions.values(ctx, scope, site, expr.args)
    assert item.expr is not None
    dim = dims.dim_name(ctx, scope, item.expr)
    extent = late.total([ctx.dims[dim]] * len(args))
    dims.check_extent(ctx, extent, item.span)
    into = (
        dims.declare_dim(ctx, scope, item.rename, extent, item.span)
        if item.rename
        else ctx.fresh_dim(f"{dim}_cat", extent)
    )
    return build.concat(args, [dim] * len(args), into)


def _concat_own(
    ctx: Context,
    scope: Scope,
    site: Site,
    expr: ast.Call,
    items: tuple[ast.Item, ...],
) -> ir.Node:
    """Each argument along a dim of its own; 1 stands for one entry without a dim."""
    usage = "concat[1, K, J as P](one, a, b)"
    check_count(ctx, expr, len(items), len(items), usage)
    into, names = items[-1].rename, list[str]()
    for item in items:
        if item.expr is None or item.slice or (item.rename and item is not items[-1]):
            raise ctx.fail("E0405", "a dim is missing", item.span, f"usage: `{usage}`")
        single = isinstance(item.expr, ast.Number) and item.expr.value == 1
        names.append("" if single else dims.dim_name(ctx, scope, item.expr))
    if into is None:
        raise ctx.fail(
            "E0204", "the joined dim needs a name", expr.span, f"usage: `{usage}`"
        )
    extent = late.total([ctx.dims[n] if n else Lit(1) for n in names])
    dim = dims.declare_dim(ctx, scope, into, extent, items[-1].span)
    return build.concat(expressions.values(ctx, scope, site, expr.args), names, dim)


def _one_item(ctx: Context, expr: ast.Call, usage: str) -> ast.Item:
    items = expr.brackets or ()
    if len(items) != 1 or items[0].expr is None or items[0].slice is not None:
        raise ctx.fail(
            "E0404",
            f"`{arguments.function_name(expr)}` needs one dim in brackets",
            expr.span,
            f"usage: `{usage}`",
        )
    return items[0]


def _stack(ctx: Context, scope: Scope, site: Site, expr: ast.Call) -> ir.Node:
    """`stack[J](a, b)`: values side by side; `stack[n as M](h)`: all steps of a repeat."""
    usage = "stack[J](a, b)  or  stack[n as M](h)"
    check_keywords(ctx, expr, ())
    item = _one_item(ctx, expr, usage)
    if isinstance(item.expr, ast.Name) and item.expr.id in ctx.repeats:
        return _stack_steps(ctx, scope, site, expr, item, item.expr.id)
    args = expressions.values(ctx, scope, site, expr.args)
    assert item.expr is not None
    if not args:
        check_count(ctx, expr, 1, 64, usage)
    into = (
        dims.declare_dim(ctx, scope, item.expr.id, Lit(len(args)), item.span)
        if isinstance(item.expr, ast.Name)
        else dims.dim_name(ctx, scope, item.expr)
    )
    message = f"`stack` has {len(args)} values"
    ctx.require_equal(ctx.dims[into], Lit(len(args)), expr.span, message)
    return build.concat(args, [""] * len(args), into)


def _stack_steps(
    ctx: Context, scope: Scope, site: Site, expr: ast.Call, item: ast.Item, axis: str
) -> ir.Node:
    repeat = ctx.repeats[axis]
    if not isinstance(repeat.count, Lit | Opt | Apply):
        raise ctx.fail(
            "E0406", "`stack` needs a count known when the layer is made", expr.span
        )
    if item.rename is None:
        raise ctx.fail(
            "E0204",
            "the stacked steps need a dim of their own",
            item.span,
            f"write `stack[{axis} as M](…)`",
        )
    check_count(ctx, expr, 1, 1, f"stack[{axis} as M](h)")
    into = dims.declare_dim(ctx, scope, item.rename, repeat.count, item.span)
    source = indexing.all_steps(ctx, scope, site, expr.args[0], axis)
    return build.stack(source, axis, into)


def _gather(ctx: Context, scope: Scope, site: Site, expr: ast.Call) -> ir.Node:
    usage = "gather[K](x, index)"
    check_keywords(ctx, expr, ())
    item = _one_item(ctx, expr, usage)
    check_count(ctx, expr, 2, 2, usage)
    assert item.expr is not None
    dim = dims.dim_name(ctx, scope, item.expr)
    arg, index = expressions.values(ctx, scope, site, expr.args)
    return build.gather(arg, dim, index)


def _onehot(ctx: Context, scope: Scope, site: Site, expr: ast.Call) -> ir.Node:
    usage = "onehot[K](index)"
    check_keywords(ctx, expr, ())
    item = _one_item(ctx, expr, usage)
    check_count(ctx, expr, 1, 1, usage)
    assert item.expr is not None
    dim = dims.dim_name(ctx, scope, item.expr)
    return build.one_hot(expressions.value(ctx, scope, site, expr.args[0]), dim)


def _roll(ctx: Context, scope: Scope, site: Site, expr: ast.Call) -> ir.Node:
    name = arguments.function_name(expr)
    usage = f"{name}[K](x, 1)"
    check_keywords(ctx, expr, ())
    item = _one_item(ctx, expr, usage)
    check_count(ctx, expr, 2, 2, usage)
    assert item.expr is not None
    if isinstance(item.expr, ast.Name) and isinstance(scope.find(item.expr.id), Axis):
        raise ctx.fail(
            "E0405",
            f"along `{item.expr.id}` write a shift: `x[{item.expr.id}-1]`",
            expr.span,
        )
    dim = dims.dim_name(ctx, scope, item.expr)
    offset = statics.require_whole(ctx, scope, expr.args[1], "the distance")
    arg = expressions.value(ctx, scope, site, expr.args[0])
    return build.roll(arg, dim, offset, wrap=name == "roll")


OPERATORS: Mapping[str, Operator] = {
    "concat": _concat,
    "stack": _stack,
    "gather": _gather,
    "onehot": _onehot,
    "roll": _roll,
    "shift": _roll,
}
