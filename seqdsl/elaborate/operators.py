"""Built-in operators without parameters."""

from __future__ import annotations

from collections.abc import Mapping

from seqdsl.elaborate import arguments, chance, expressions, rearranging, statics
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
from seqdsl.ir.ops import ALONGS, MAPS, REDUCTIONS
from seqdsl.ir.sizes import Lit, Size, apply
from seqdsl.ir.types import BATCH, TIME, Type
from seqdsl.syntax import ast

# Spelled as infix operators, so not callable by name.
_INFIX = (
    "add",
    "sub",
    "mul",
    "div",
    "neg",
    "floordiv",
    "mod",
    "lt",
    "le",
    "gt",
    "ge",
    "eq",
    "ne",
    "and",
    "or",
    "not",
)
_FOLDED = ("min", "max", "logaddexp")
_WHOLE = ("sum", "mean", "max", "min", "any", "all", "logsumexp", "prod")


def _pointwise(ctx: Context, scope: Scope, site: Site, expr: ast.Call) -> ir.Node:
    name = arguments.function_name(expr)
    row = MAPS[name]
    letters = ", ".join("abc"[: row.arity])
    no_brackets(ctx, expr, f"{name}({letters})")
    check_keywords(ctx, expr, ())
    high = 16 if name in _FOLDED else row.arity
    check_count(ctx, expr, row.arity, high, f"{name}({letters})")
    args = expressions.values(ctx, scope, site, expr.args)
    node: ir.Node = build.map_(name, *args[: row.arity], span=expr.span)
    for arg in args[row.arity :]:
        node = build.map_(name, node, arg, span=expr.span)
    return node


def _reduction(ctx: Context, scope: Scope, site: Site, expr: ast.Call) -> ir.Node:
    name = arguments.function_name(expr)
    check_keywords(ctx, expr, ())
    if expr.brackets is None and name in MAPS and len(expr.args) > 1:
        return _pointwise(ctx, scope, site, expr)
    usage = f"{name}[K](x)"
    check_count(ctx, expr, 1, 1, usage)
    if expr.brackets is None and name in _WHOLE:
        arg = expressions.value(ctx, scope, site, arguments.only(expr))
        axes = tuple(a for a in (BATCH, TIME) if a in arg.type.axes)
        if not axes:
            raise ctx.fail(
                "E0404",
                f"`{name}` without brackets runs over batch and time, "
                "along which this value does not vary",
                expr.span,
                f"name the dims: `{usage}`",
            )
        return build.reduce(name, arg, axes)
    # the argument may name the dims that the brackets speak of
    arg = expressions.value(ctx, scope, site, arguments.only(expr))
    over, where = arguments.brackets(ctx, scope, site, expr, usage)
    if where is not None:
        over = (
            *over,
            *(c for c in arguments.copies_of(ctx, arg, where) if c not in over),
        )
    _refuse_repeat(ctx, over, expr)
    return build.reduce(name, arg, over, where)


def _refuse_repeat(ctx: Context, over: tuple[str, ...], expr: ast.Call) -> None:
    for axis in over:
        if axis in ctx.repeats:
            raise ctx.fail(
                "E0405",
                f"`{axis}` is the axis of a repeat, not a dim",
                expr.span,
                f"collect the steps first: `stack[{axis} as M](x)`, then reduce `M`",
            )


def _dot(ctx: Context, scope: Scope, site: Site, expr: ast.Call) -> ir.Node:
    usage = "dot[K](a, b)"
    check_keywords(ctx, expr, ())
    check_count(ctx, expr, 1, 16, usage)
    args = expressions.values(ctx, scope, site, expr.args)
    over, where = arguments.brackets(ctx, scope, site, expr, usage)
    if where is not None:
        raise ctx.fail(
            "E0213",
            "`dot` takes no condition",
            expr.span,
            "multiply by `where(condition, 1, 0)`",
        )
    return build.contract(args, over)


def _along(ctx: Context, scope: Scope, site: Site, expr: ast.Call) -> ir.Node:
    name = arguments.function_name(expr)
    row = ALONGS[name]
    usage = "top[E](p, k)" if name == "top" else f"{name}[K](x)"
    check_keywords(ctx, expr, ())
    n = 2 if name == "top" else 1
    check_count(ctx, expr, n, n, usage)
    arg = expressions.value(ctx, scope, site, expr.args[0])
    over, where = arguments.brackets(ctx, scope, site, expr, usage)
    if where is not None:
        over = (
            *over,
            *(c for c in arguments.copies_of(ctx, arg, where) if c not in over),
        )
    if over == (TIME,) and row.running:
        return _running(ctx, scope, site, name, arg)
    if TIME in over or BATCH in over:
        raise ctx.fail(
            "E0405",
            f"`{name}` along `{over[0]}` would need the whole sequence at once",
            expr.span,
            f"write it over a copy of time: `{name}[s <= t](x[s])`",
        )
    count = _top_count(ctx, scope, expr, over) if name == "top" else None
    return build.along(name, arg, over, where, count)


def _top_count(
    ctx: Context, scope: Scope, expr: ast.Call, over: tuple[str, ...]
) -> Size:
    """How many entries `top` keeps: at most as many as the dim has."""
    count = statics.require_static(ctx, scope, expr.args[1], "how many to keep")
    arguments.positive(ctx, count, expr.args[1], "k")
    if over[0] not in ctx.dims:
        return count
    fits = apply("<=", count, ctx.dims[over[0]])
    if ctx.value_of(fits) is False:
        raise ctx.fail(
            "E0413", f"`{over[0]}` has fewer entries than that", expr.args[1].span
        )
    message = "`top` keeps more entries than there are"
    ctx.require_equal(fits, Lit(True), expr.span, message)
    return count


_RUNNING: Mapping[str, tuple[str, float]] = {
    "cumsum": ("add", 0),
    "cumprod": ("mul", 1),
    "cummax": ("max", float("-inf")),
    "cummin": ("min", float("inf")),
    "logcumsumexp": ("logaddexp", float("-inf")),
}


def _running(
    ctx: Context, scope: Scope, site: Site, name: str, arg: ir.Node
) -> ir.Node:
    """A running sum, product, … along time: the recurrence that it abbreviates."""
    op, identity = _RUNNING[name]
    state = ctx.fresh(f"{site.name}_{name}")
    axes = arg.type.axes | {BATCH, TIME}
    dtype = "int" if arg.type.dtype == "bool" else arg.type.dtype
    type_ = Type(dtype, arg.type.dims, axes)
    here = build.ref(state, type_, arg.span)
    update = build.map_(op, build.shift(here, TIME, -1, arg.span), arg, span=arg.span)
    initial = build.const(int(identity) if identity in (0, 1) else identity)
    ctx.states[state] = ir.State(
        name=state,
        type=type_,
        initial=initial,
        carried=frozenset({TIME}),
        span=arg.span,
    )
    ctx.equations[state] = ir.Equation(
        name=state, expr=update, scope=scope.axes, written=False, span=arg.span
    )
    return here


def _grad(ctx: Context, scope: Scope, site: Site, expr: ast.Call) -> ir.Node:
    usage = "grad(loss, M[t-1])"
    no_brackets(ctx, expr, usage)
    check_keywords(ctx, expr, ())
    check_count(ctx, expr, 2, 2, usage)
    of = expressions.value(ctx, scope, site, expr.args[0])
    wrt = expressions.value(ctx, scope, site, expr.args[1])
    if not isinstance(wrt, ir.Ref | ir.Shift):
        raise ctx.fail(
            "E0431",
            "`grad` differentiates by a named value or a shifted state",
            expr.args[1].span,
            f"usage: `{usage}`",
        )
    if of.type.dims:
        raise ctx.fail(
            "E0431",
            f"`grad` differentiates a scalar, not [{', '.join(of.type.dims)}]",
            expr.args[0].span,
            "sum it first, for instance `sum[V](…)`",
        )
    return build.grad(of, wrt)


OPERATORS: Mapping[str, Operator] = {
    **{name: _pointwise for name in MAPS if name not in _INFIX},
    **{name: _reduction for name in REDUCTIONS},
    **{name: _along for name in ALONGS},
    "dot": _dot,
    "grad": _grad,
    **rearranging.OPERATORS,
    **chance.OPERATORS,
}
