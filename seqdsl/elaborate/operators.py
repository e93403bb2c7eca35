"""Built-in operators without parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from seqdsl.elaborate import arguments, dims, expressions, indexing, late
from seqdsl.elaborate.arguments import check_count, check_keywords, no_brackets
from seqdsl.elaborate.context import Axis, Context, Scope, Site
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.ops import ALONGS, MAPS, REDUCTIONS
from seqdsl.ir.sizes import Apply, Lit, Opt, Size, apply
from seqdsl.ir.types import BATCH, TIME, Type
from seqdsl.syntax import ast

Operator = Callable[[Context, Scope, Site, ast.Call], ir.Node]

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
    count = dims.require_static(ctx, scope, expr.args[1], "how many to keep")
    arguments.positive(ctx, count, expr.args[1], "k")
    if over[0] not in ctx.dims:
        return count
    fits = apply("<=", count, ctx.dims[over[0]])
    known = ctx.value_of(fits)
    if known is False:
        raise ctx.fail(
            "E0413", f"`{over[0]}` has fewer entries than that", expr.args[1].span
        )
    if known is None:
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
    extent = late.total(ctx.dims[dim], len(args))
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
    extent: Size = Lit(0)
    for item in items:
        if item.expr is None or item.slice or (item.rename and item is not items[-1]):
            raise ctx.fail("E0405", "a dim is missing", item.span, f"usage: `{usage}`")
        single = isinstance(item.expr, ast.Number) and item.expr.value == 1
        names.append("" if single else dims.dim_name(ctx, scope, item.expr))
        size = ctx.dims[names[-1]] if names[-1] else Lit(1)
        extent = size if extent == Lit(0) else apply("+", extent, size)
    if into is None:
        raise ctx.fail(
            "E0204", "the joined dim needs a name", expr.span, f"usage: `{usage}`"
        )
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
    offset = dims.require_whole(ctx, scope, expr.args[1], "the distance")
    arg = expressions.value(ctx, scope, site, expr.args[0])
    return build.roll(arg, dim, offset, wrap=name == "roll")


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
    seed = None if given is None else dims.require_whole(ctx, scope, given, "a seed")
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
    **{name: _pointwise for name in MAPS if name not in _INFIX},
    **{name: _reduction for name in REDUCTIONS},
    **{name: _along for name in ALONGS},
    "dot": _dot,
    "concat": _concat,
    "stack": _stack,
    "gather": _gather,
    "onehot": _onehot,
    "roll": _roll,
    "shift": _roll,
    "grad": _grad,
    "normal": _random,
    "uniform": _random,
    "dropout": _dropout,
}
