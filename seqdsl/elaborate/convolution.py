"""`conv`: convolutions along time and along dims."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, cast

from seqdsl.elaborate import (
    arguments,
    dims,
    expressions,
    initial,
    keys,
    parametric,
    statics,
)
from seqdsl.elaborate.arguments import Operator, check_count, check_keywords
from seqdsl.elaborate.context import Context
from seqdsl.elaborate.scope import Scope, Site
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit, Size, apply
from seqdsl.ir.types import TIME, Type
from seqdsl.syntax import ast

_PADS = ("zero", "circular", "reflect", "replicate")


def _conv(ctx: Context, scope: Scope, site: Site, expr: ast.Call) -> ir.Node:
    """Depthwise without an output shape; with one, all other dims are contracted."""
    usage = "conv(x, width = 4)  or  conv[I, J](x, C, width = 3)"
    check_keywords(ctx, expr, ("width", "dilation", "bias", "pad", "sum", "init"))
    check_count(ctx, expr, 1, 2, usage)
    x = expressions.value(ctx, scope, site, expr.args[0])
    axes = _conv_axes(ctx, scope, expr, x)
    out = parametric.targets(ctx, scope, expr.args[1]) if len(expr.args) > 1 else ()
    x, summed = _conv_sum(ctx, scope, expr, x, axes, out)
    kept = [d for d in x.type.dims if d not in axes and d not in summed]
    weight_dims = tuple(dict.fromkeys((*out, *kept) if summed else (*kept, *out)))
    name = keys.local_name(site, expr, "conv", expr.key)
    taps = _taps(ctx, scope, expr, name, axes)
    bound = initial.fan_bound(ctx, (*summed, *taps))
    type_ = Type("float", (*weight_dims, *summed, *taps))
    given = arguments.keyword(expr, "init")
    init = (
        initial.uniform_init(bound)
        if given is None
        else initial.written(ctx, scope, name, type_, given, len(weight_dims))
    )
    key = f"{name}.weight"
    weight = parametric.add(ctx, scope, key, key, type_, init, expr.span)
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
    bias_type = Type("float", weight_dims)
    return parametric.plus_bias(ctx, scope, expr, name, result, bias_type, bound)


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
        summed = parametric.targets(ctx, scope, given)
    elif out:
        summed = tuple(d for d in x.type.dims if d not in axes)
    else:
        summed = ()
    return parametric.fresh_inputs(ctx, x, summed, out)


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
        widths = [statics.require_static(ctx, scope, e, "`width`") for e in items]
    else:
        widths = [statics.require_static(ctx, scope, given, "`width`")] * len(axes)
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
    if ctx.value_of(odd) is False:
        raise ctx.fail(
            "E0413",
            f"along the dim `{axis}` a width is odd",
            given.span,
            "so that the output has the size of the input",
        )
    message = f"along the dim `{axis}` a width is odd"
    ctx.require_equal(odd, Lit(True), given.span, message)


OPERATORS: Mapping[str, Operator] = {"conv": _conv}
