"""What is known when a layer is made: arithmetic over options, dims and numbers."""

from __future__ import annotations

from collections.abc import Sequence

from seqdsl.elaborate.context import Context
from seqdsl.elaborate.scope import Bound, Scope, Static, Value
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import OPERATORS, Apply, Lit, Size, SizeError, apply
from seqdsl.source import Span
from seqdsl.syntax import ast

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
