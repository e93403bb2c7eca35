"""Dims: shapes, compile-time arithmetic, renames, splits, merges, slices."""

from __future__ import annotations

from collections.abc import Sequence

from seqdsl.elaborate import late
from seqdsl.elaborate.context import Bound, Context, Scope, Static, Value
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import (
    OPERATORS,
    Apply,
    Lit,
    Opt,
    Size,
    SizeError,
    apply,
    options_of,
)
from seqdsl.ir.types import DType, Type
from seqdsl.source import Span
from seqdsl.syntax import ast
from seqdsl.syntax.format import format_expr

_BINARY = {"+", "-", "*", "/", "//", "%", "**", "and", "or"}
_LONGEST = 500
_CONSTANTS = {"inf": float("inf"), "pi": 3.141592653589793}


def static(ctx: Context, scope: Scope, expr: ast.Expr) -> Size | None:
    """`expr` as option arithmetic, or None where it reads anything else.

    Raises `Poisoned` after reporting arithmetic without a value (E0217).
    """
    try:
        size = _static(ctx, scope, expr)
    except SizeError as error:
        raise ctx.fail("E0217", f"{error}", expr.span) from None
    return size if size is None else bounded(ctx, size, expr.span)


def bounded(ctx: Context, size: Size, span: Span) -> Size:
    """`size`; E0217 where it has grown so long that evaluating it would take forever.

    Sizes are written out in full, so that a chain of dims that each double the one before
    grows with a power of its length.
    """
    pending, seen = [size], 0
    while pending:
        part = pending.pop()
        seen += 1
        if seen > _LONGEST:
            raise ctx.fail(
                "E0217",
                f"this extent is made of more than {_LONGEST} numbers and options",
                span,
                "make one of the dims that it is computed from an option",
            )
        if isinstance(part, Apply):
            pending.extend(part.args)
    return size


def require_static(ctx: Context, scope: Scope, expr: ast.Expr, what: str) -> Size:
    """`expr` as option arithmetic; E0406 where it is not."""
    size = static(ctx, scope, expr)
    if size is None:
        if isinstance(expr, ast.Name) and scope.find(expr.id) is None:
            raise ctx.unknown(expr.id, expr.span, scope.known(), "option or dim")
        raise ctx.fail(
            "E0406",
            f"{what} must be known when the layer is made",
            expr.span,
            _static_help(scope, expr),
        )
    return size


def _static_help(scope: Scope, expr: ast.Expr) -> str:
    if isinstance(expr, ast.Name):
        entity = scope.find(expr.id)
        if isinstance(entity, Value) and entity.kind == "equation":
            return (
                f"an equation is a value of the run; a constant is `dim {expr.id} = …`"
            )
    return "use numbers and options here, not values that change at run time"


def require_whole(ctx: Context, scope: Scope, expr: ast.Expr, what: str) -> Size:
    """`expr` as option arithmetic with a whole value; E0413 where it is known not to be."""
    size = require_static(ctx, scope, expr, what)
    value = ctx.value_of(size)
    known = isinstance(value, int) and not isinstance(value, bool)
    if value is not None and not known:
        raise ctx.fail("E0413", f"{what} is {value}, not a whole number", expr.span)
    if not known:
        message = f"{what} is a whole number"
        ctx.require_equal(apply("%", size, Lit(1)), Lit(0), expr.span, message)
    return size


def _static(ctx: Context, scope: Scope, expr: ast.Expr) -> Size | None:
    match expr:
        case ast.Number(value=value) | ast.Bool(value=value) | ast.String(value=value):
            return Lit(value)
        case ast.Name(id=name):
            return _static_name(scope, name)
        case ast.Unary(op=op, operand=operand):
            inner = _static(ctx, scope, operand)
            names = {"-": "neg", "not": "not"}
            if inner is None or op == "+":
                return inner
            return apply(names[op], inner)
        case ast.Binary(op=op, left=left, right=right) if op in _BINARY:
            return _apply(ctx, scope, op, (left, right))
        case ast.Compare(ops=(op,), operands=operands):
            return _apply(ctx, scope, op, operands)
        case ast.Conditional(then=then, condition=condition, otherwise=otherwise):
            decides = _static(ctx, scope, condition)
            if decides is None:
                return None
            known = ctx.settle(decides, condition.span)
            return _static(ctx, scope, then if known else otherwise)
        case ast.Call(func=ast.Name(id=name), brackets=None, args=args, keywords=()):
            if name not in OPERATORS or scope.find(name) is not None or not args:
                return None
            return _apply(ctx, scope, name, args)
        case _:
            return None


def _apply(
    ctx: Context, scope: Scope, op: str, args: Sequence[ast.Expr]
) -> Size | None:
    sizes = [_static(ctx, scope, a) for a in args]
    known = [s for s in sizes if s is not None]
    return apply(op, *known) if len(known) == len(sizes) else None


def _static_name(scope: Scope, name: str) -> Size | None:
    match scope.find(name):
        case Static(size=size) as entity:
            entity.used = True
            return size
        case Bound(node=ir.Const(value=value)) as entity:
            entity.used = True
            return value
        case None if name in _CONSTANTS:
            return Lit(_CONSTANTS[name])
        case _:
            return None


# ---- Shapes


def dim_name(ctx: Context, scope: Scope, item: ast.DimItem | ast.Expr) -> str:
    """The IR name of a written dim: `K`, `64`, `D as O`."""
    if not isinstance(item, ast.DimItem):
        item = ast.DimItem(expr=item, span=item.span)
    if item.expr is None:
        raise ctx.fail("E0216", "`...` stands only in the shape of an input", item.span)
    if item.rename is not None:
        size = require_static(ctx, scope, item.expr, "the extent of a dim")
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
            raise ctx.unknown(name, span, scope.known(), "dim", "E0207")
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
    note_integral(ctx, bounded(ctx, size, span))
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
