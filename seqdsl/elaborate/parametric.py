"""Operators that create parameters: `param`, `linear`, `embed`, `conv`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, cast

from seqdsl.elaborate import arguments, dims, expressions, keys
from seqdsl.elaborate.arguments import check_count, check_keywords
from seqdsl.elaborate.context import Context, Scope, Site
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit, Size, apply
from seqdsl.ir.types import DTYPES, TIME, DType, Type
from seqdsl.ir.walk import subtree
from seqdsl.source import Span
from seqdsl.syntax import ast

Operator = Callable[[Context, Scope, Site, ast.Call], ir.Node]
NAMES = ("linear", "embed", "conv", "param")
_PADS = ("zero", "circular", "reflect", "replicate")


# ---- Parameters and their initial values


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


def uniform_init(bound: Size) -> ir.Init:
    """Uniform in [-bound, bound], as `torch.nn.Linear` starts."""
    low = build.const(apply("neg", bound))
    return ir.Init(kind="expr", expr=_scaled("uniform", low, build.const(bound)))


def _scaled(kind: Literal["uniform", "normal"], a: ir.Node, b: ir.Node) -> ir.Node:
    unit = ir.Sample(kind=kind, seed=None, site=0, type=Type("float"))
    scale = build.map_("sub", b, a) if kind == "uniform" else b
    return build.map_("add", a, build.map_("mul", scale, unit))


def fan_bound(ctx: Context, names: Sequence[str]) -> Size:
    """1/sqrt of the product of extents."""
    fan: Size = Lit(1)
    for name in names:
        fan = ctx.dims[name] if fan == Lit(1) else apply("*", fan, ctx.dims[name])
    return apply("/", Lit(1), apply("sqrt", fan))


def default_init(ctx: Context, shape: Sequence[str]) -> ir.Init:
    """Uniform with the last dim as fan-in."""
    return uniform_init(fan_bound(ctx, shape[-1:]))


def initial(
    ctx: Context, scope: Scope, name: str, type_: Type, expr: ast.Expr | None
) -> ir.Init:
    """A parameter's initial values as written after `=` or `~`."""
    if expr is None:
        return default_init(ctx, type_.dims)
    match expr:
        case ast.Call(func=ast.Name(id="orthogonal"), args=args) if len(args) <= 1:
            gain = dims.require_static(ctx, scope, args[0], "gain") if args else Lit(1)
            if len(type_.dims) < 2:
                raise ctx.fail(
                    "E0209", "`orthogonal` needs at least two dims", expr.span
                )
            return ir.Init(kind="orthogonal", expr=None, gain=gain)
        case ast.Call(func=ast.Name(id="xavier"), args=()) if len(type_.dims) >= 2:
            fans = [ctx.dims[d] for d in type_.dims]
            total: Size = fans[-1]
            rest: Size = fans[0]
            for size in fans[1:-1]:
                rest = apply("*", rest, size)
            total = apply("+", total, rest)
            return uniform_init(apply("sqrt", apply("/", Lit(6), total)))
        case ast.Call(func=ast.Name(id="kaiming"), args=()):
            return default_init(ctx, type_.dims)
        case _:
            site = Site(name, 0, expr.span, initial=Type("float", type_.dims))
            node = expressions.value(ctx, scope, site, expr)
            _check_initial(ctx, type_, node, expr.span)
            return ir.Init(kind="expr", expr=node)


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
    if site.initial is not None and expr.key is None:
        name = f"{name}.initial"
    init = initial(ctx, scope, name, type_, args[0] if args else None)
    unique = f"{name}.param" if name in ctx.names else name
    return add(ctx, scope, unique, name, type_, init, expr.span)


# ---- linear, embed


def _targets(ctx: Context, scope: Scope, expr: ast.Expr) -> tuple[str, ...]:
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
    out = _targets(ctx, scope, expr.args[1])
    x, inner = fresh_inputs(ctx, x, _contracted(ctx, scope, expr, x), out)
    name = keys.local_name(site, expr, "linear", expr.key)
    weight_type = Type(_weight_dtype(x), (*out, *inner))
    bound = fan_bound(ctx, inner)
    given = arguments.keyword(expr, "init")
    init = (
        uniform_init(bound)
        if given is None
        else initial(ctx, scope, name, weight_type, given)
    )
    key = f"{name}.weight"
    weight = add(ctx, scope, key, key, weight_type, init, expr.span)
    result: ir.Node = build.contract((x, weight), inner, expr.span)
    if not arguments.flag(ctx, scope, expr, "bias", True):
        return result
    key = f"{name}.bias"
    bias_type = Type(_weight_dtype(x), out)
    bias = add(ctx, scope, key, key, bias_type, uniform_init(bound), expr.span)
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
    out = _targets(ctx, scope, expr.args[2])
    name = keys.local_name(site, expr, "embed", expr.key)
    type_ = Type("float", (vocab, *out))
    given = arguments.keyword(expr, "init")
    unit = ir.Init(kind="expr", expr=_scaled("normal", build.const(0), build.const(1)))
    init = unit if given is None else initial(ctx, scope, name, type_, given)
    key = f"{name}.weight"
    weight = add(ctx, scope, key, key, type_, init, expr.span)
    return build.gather(weight, vocab, tokens, expr.span)


# ---- conv


def _conv(ctx: Context, scope: Scope, site: Site, expr: ast.Call) -> ir.Node:
    """Depthwise without an output shape; with one, all other dims are contracted."""
    usage = "conv(x, width = 4)  or  conv[I, J](x, C, width = 3)"
    check_keywords(ctx, expr, ("width", "dilation", "bias", "pad", "sum", "init"))
    check_count(ctx, expr, 1, 2, usage)
    x = expressions.value(ctx, scope, site, expr.args[0])
    axes = _conv_axes(ctx, scope, expr, x)
    out = _targets(ctx, scope, expr.args[1]) if len(expr.args) > 1 else ()
    x, summed = _conv_sum(ctx, scope, expr, x, axes, out)
    kept = [d for d in x.type.dims if d not in axes and d not in summed]
    weight_dims = tuple(dict.fromkeys((*out, *kept) if summed else (*kept, *out)))
    name = keys.local_name(site, expr, "conv", expr.key)
    taps = _taps(ctx, scope, expr, name, axes)
    bound = fan_bound(ctx, (*summed, *taps))
    type_ = Type("float", (*weight_dims, *summed, *taps))
    given = arguments.keyword(expr, "init")
    init = (
        uniform_init(bound)
        if given is None
        else initial(ctx, scope, name, type_, given)
    )
    key = f"{name}.weight"
    weight = add(ctx, scope, key, key, type_, init, expr.span)
    dilation = arguments.static_keyword(ctx, scope, expr, "dilation", Lit(1))
    arguments.positive(ctx, dilation, expr, "dilation")
    pad = arguments.choice(ctx, scope, expr, "pad", _PADS)
    if TIME in axes and pad != "zero":
        raise ctx.fail(
            "E0411",
            "along `t` a convolution starts from zeros",
            expr.span,
            "leave `pad` away, or run it along a dim",
        )
    kind = cast(Literal["zero", "circular", "reflect", "replicate"], pad)
    result: ir.Node = build.conv(
        x, weight, axes, taps, summed, dilation, kind, expr.span
    )
    if not arguments.flag(ctx, scope, expr, "bias", True):
        return result
    key = f"{name}.bias"
    bias = add(
        ctx, scope, key, key, Type("float", weight_dims), uniform_init(bound), expr.span
    )
    return build.map_("add", result, bias, span=expr.span)


def _conv_axes(
    ctx: Context, scope: Scope, expr: ast.Call, x: ir.Node
) -> tuple[str, ...]:
    if expr.brackets is None:
        if TIME not in x.type.axes:
            raise build.Issue(
                "E0423",
                "the value does not vary along `t`",
                "name the dims to convolve along: `conv[I](x, …)`",
            )
        return (TIME,)
    names = [i.expr for i in expr.brackets if i.expr is not None]
    axes: list[str] = []
    for name in names:
        if isinstance(name, ast.Name) and name.id == TIME:
            axes.append(TIME)
        else:
            axes.append(dims.dim_name(ctx, scope, name))
    return tuple(axes)


def _conv_sum(
    ctx: Context,
    scope: Scope,
    expr: ast.Call,
    x: ir.Node,
    axes: tuple[str, ...],
    out: tuple[str, ...],
) -> tuple[ir.Node, tuple[str, ...]]:
    """The dims that are summed: those of `sum = [C]`, else all if there is an output shape."""
    given = arguments.keyword(expr, "sum")
    if given is not None:
        summed = _targets(ctx, scope, given)
    elif out:
        summed = tuple(d for d in x.type.dims if d not in axes)
    else:
        summed = ()
    return fresh_inputs(ctx, x, summed, out)


def _taps(
    ctx: Context, scope: Scope, expr: ast.Call, name: str, axes: tuple[str, ...]
) -> tuple[str, ...]:
    given = arguments.keyword(expr, "width")
    if given is None:
        raise ctx.fail(
            "E0403", "`conv` needs `width`", expr.span, "usage: `conv(x, width = 4)`"
        )
    widths: list[Size]
    if isinstance(given, ast.DimList):
        items = [i.expr for i in given.items if i.expr is not None]
        widths = [dims.require_static(ctx, scope, e, "`width`") for e in items]
    else:
        widths = [dims.require_static(ctx, scope, given, "`width`")] * len(axes)
    if len(widths) != len(axes):
        raise ctx.fail("E0401", f"{len(axes)} axes need {len(axes)} widths", given.span)
    taps: list[str] = []
    for axis, width in zip(axes, widths, strict=True):
        arguments.positive(ctx, width, given, "width")
        _check_odd(ctx, axis, width, given)
        suffix = "tap" if len(axes) == 1 else f"tap_{axis}"
        taps.append(ctx.fresh_dim(f"{name.replace('.', '_')}_{suffix}", width))
    return tuple(taps)


def _check_odd(ctx: Context, axis: str, width: Size, given: ast.Expr) -> None:
    if axis == TIME:
        return
    odd = apply("==", apply("%", width, Lit(2)), Lit(1))
    known = ctx.value_of(odd)
    if known is False:
        raise ctx.fail(
            "E0413",
            f"along the dim `{axis}` a width is odd",
            given.span,
            "so that the output has the size of the input",
        )
    if known is None:
        ctx.require_equal(
            odd, Lit(True), given.span, f"along the dim `{axis}` a width is odd"
        )


OPERATORS: Mapping[str, Operator] = {"linear": _linear, "embed": _embed, "conv": _conv}
