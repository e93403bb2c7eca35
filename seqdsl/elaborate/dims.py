"""Dims: shapes, compile-time arithmetic, renames, splits, merges, slices."""

from __future__ import annotations

from collections.abc import Sequence

from seqdsl.elaborate import late, statics
from seqdsl.elaborate.context import Context
from seqdsl.elaborate.program import suggest
from seqdsl.elaborate.scope import Bound, Scope, Static
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import (
    Lit,
    Opt,
    Size,
    apply,
    options_of,
)
from seqdsl.ir.types import DType, Type
from seqdsl.source import Span
from seqdsl.syntax import ast
from seqdsl.syntax.format import format_expr

# ---- Shapes


def dim_name(ctx: Context, scope: Scope, item: ast.DimItem | ast.Expr) -> str:
    """The IR name of a written dim: `K`, `64`, `D as O`."""
    if not isinstance(item, ast.DimItem):
        item = ast.DimItem(expr=item, span=item.span)
    if item.expr is None:
        raise ctx.fail("E0216", "`...` stands only in the shape of an input", item.span)
    if item.rename is not None:
        size = statics.require_static(ctx, scope, item.expr, "the extent of a dim")
        return declare_dim(ctx, scope, item.rename, size, item.span)
    match item.expr:
        case ast.Name(id=name, span=span):
            return _named_dim(ctx, scope, name, span)
        case ast.Number(value=int(value)) if value > 0:
            return ctx.fresh_dim(str(value), Lit(value))
        case ast.Number(text=text, span=span):
            raise ctx.fail(
                "E0204",
                f"a dim cannot have the extent {text}",
                span,
                "extents are whole numbers from 1",
            )
        case expr:
            raise ctx.fail(
                "E0204",
                f"`{format_expr(expr)}` has no name as a dim",
                expr.span,
                f"name it first: `dim M = {format_expr(expr)}`, then write `[M]`",
            )


def _named_dim(ctx: Context, scope: Scope, name: str, span: Span) -> str:
    match scope.find(name):
        case Static() as entity:
            entity.used = True
            if entity.dim is None:
                entity.dim = ctx.fresh_dim(name, entity.size)
            note_integral(ctx, entity.size)
            ctx.used_dims.add(entity.dim)
            return entity.dim
        case Bound(node=ir.Const(value=Lit(int(value)))) as entity:
            entity.used = True
            return ctx.fresh_dim(str(value), Lit(value))
        case None:
            named = late.declare(ctx, scope, name)
            if named is not None:
                return named
            close = suggest(name, scope.known())
            how = f"give it an extent: `dim {name} = …`, or an option `{name}`"
            raise ctx.fail("E0207", f"unknown dim `{name}`", span, close, how)
        case _:
            raise ctx.fail(
                "E0107",
                f"`{name}` is a value, not a dim",
                span,
                f"a dim is an option of the layer or declared by `dim {name}2 = …`",
            )


def note_integral(ctx: Context, size: Size) -> None:
    """Remember that the options of a dim's extent are whole numbers."""
    if isinstance(size, Opt):
        ctx.integral.update(options_of(size))


def check_extent(ctx: Context, size: Size, span: Span) -> None:
    """E0204 where a known size is not an extent; its options are whole numbers."""
    note_integral(ctx, statics.bounded(ctx, size, span))
    value = ctx.value_of(size)
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ctx.fail(
            "E0204",
            f"a dim cannot have the extent {value}",
            span,
            "extents are whole numbers from 1",
        )


def declare_dim(ctx: Context, scope: Scope, name: str, size: Size, span: Span) -> str:
    """The dim `name` with extent `size`: new here, or an old one that must agree."""
    check_extent(ctx, size, span)
    match scope.find(name):
        case Static() as old:
            dim = _named_dim(ctx, scope, name, span)
            message = f"the dim `{name}` already has another extent"
            ctx.require_equal(old.size, size, span, message)
            return dim
        case None:
            dim = ctx.fresh_dim(name, size)
            entity = Static(size, span, dim, used=True)
            layer_scope(scope).names[name] = entity
            return dim
        case _:
            raise ctx.fail(
                "E0105", f"`{name}` already names a value", span, "choose another name"
            )


def layer_scope(scope: Scope) -> Scope:
    """The outermost scope around a place: that of its layer or def."""
    while scope.parent is not None:
        scope = scope.parent
    return scope


def shape_of(
    ctx: Context, scope: Scope, items: Sequence[ast.DimItem | ast.Expr], span: Span
) -> tuple[str, ...]:
    """IR names of a written shape, each once."""
    dims = tuple(dim_name(ctx, scope, item) for item in items)
    for dim in dims:
        if dims.count(dim) > 1:
            raise ctx.fail(
                "E0203",
                f"the dim `{dim}` stands twice in this shape",
                span,
                f"give the second one its own name: `dim J = {dim}`, or `{dim} as J`",
            )
    return dims


def type_of(ctx: Context, scope: Scope, expr: ast.TypeExpr) -> Type:
    """A written type, without axes."""
    return Type(dtype_of(expr), shape_of(ctx, scope, expr.shape or (), expr.span))


def dtype_of(expr: ast.TypeExpr | None) -> DType:
    """The dtype of a written type; float where none is written."""
    if expr is not None and expr.dtype in ("int", "bool", "complex"):
        return expr.dtype
    return "float"


# ---- Renames, splits, merges


def redim(
    ctx: Context, scope: Scope, node: ir.Node, maps: Sequence[ast.DimMap]
) -> ir.Node:
    """`x.(H -> J, D -> [heads, K], [a, b] -> C)`."""
    renames: list[tuple[str, str]] = []
    for item in maps:
        if len(item.source) == 1 and len(item.target) == 1:
            source = dim_name(ctx, scope, item.source[0])
            target = dim_name(ctx, scope, item.target[0])
            _same_extent(ctx, (source,), (target,), item.span)
            renames.append((source, target))
    result = build.rename(node, renames)
    for item in maps:
        source = shape_of(ctx, scope, item.source, item.span)
        target = shape_of(ctx, scope, item.target, item.span)
        if len(source) == 1 and len(target) > 1:
            _same_extent(ctx, source, target, item.span)
            result = build.split(result, source[0], target)
        elif len(source) > 1 and len(target) == 1:
            _same_extent(ctx, source, target, item.span)
            result = build.merge(result, source, target[0])
        elif len(source) != 1:
            raise ctx.fail(
                "E0208",
                "one side of `->` must be a single dim",
                item.span,
                "merge first and split then: `x.([a, b] -> C).(C -> [d, e])`",
            )
    return result


def _same_extent(
    ctx: Context, source: tuple[str, ...], target: tuple[str, ...], span: Span
) -> None:
    left, right = _extent(ctx, source), _extent(ctx, target)
    a, b = ctx.value_of(left), ctx.value_of(right)
    shown = f"{' * '.join(source)} -> {' * '.join(target)}"
    if a is not None and b is not None and a != b:
        raise ctx.fail(
            "E0208",
            f"`{shown}` does not fit: {a} is not {b}",
            span,
            "both sides of `->` must hold the same number of entries",
        )
    ctx.require_equal(left, right, span, f"`{shown}` does not fit")


def _extent(ctx: Context, dims: tuple[str, ...]) -> Size:
    result: Size = ctx.dims[dims[0]]
    for dim in dims[1:]:
        result = apply("*", result, ctx.dims[dim])
    return result
