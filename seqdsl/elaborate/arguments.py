"""Arguments of built-in operators: counts, keywords, brackets."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from seqdsl.elaborate import dims, expressions, indexing, statics
from seqdsl.elaborate.context import Context
from seqdsl.elaborate.program import suggest
from seqdsl.elaborate.scope import Bound, Scope, Site, Value
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Size
from seqdsl.syntax import ast

Operator = Callable[[Context, Scope, Site, ast.Call], ir.Node]
"""A built-in operator: the node that a call of it means."""


def function_name(expr: ast.Call) -> str:
    """How the writer spelled what is called."""
    return expr.func.id if isinstance(expr.func, ast.Name) else "this"


def only(expr: ast.Call) -> ast.Expr:
    """The one positional argument of a call whose count has been checked."""
    return next(iter(expr.args))


def check_count(ctx: Context, expr: ast.Call, low: int, high: int, usage: str) -> None:
    """E0401 unless the call has between `low` and `high` positional arguments."""
    n = len(expr.args)
    if low <= n <= high:
        return
    wanted = f"{low}" if low == high else f"{low} to {high}"
    plural = "" if wanted == "1" else "s"
    raise ctx.fail(
        "E0401",
        f"`{function_name(expr)}` takes {wanted} argument{plural}, not {n}",
        expr.span,
        f"usage: `{usage}`",
    )


def check_keywords(ctx: Context, expr: ast.Call, known: Sequence[str]) -> None:
    """E0402 for keywords that are not in `known`."""
    for keyword in expr.keywords:
        if keyword.name not in known:
            hint = suggest(keyword.name, list(known))
            listed = f"it takes: {', '.join(known)}" if known else "it takes none"
            raise ctx.fail(
                "E0402",
                f"`{function_name(expr)}` has no keyword `{keyword.name}`",
                keyword.span,
                hint or listed,
            )


def no_brackets(ctx: Context, expr: ast.Call, usage: str) -> None:
    """E0405 where the operator takes no brackets."""
    if expr.brackets is not None:
        raise ctx.fail(
            "E0405",
            f"`{function_name(expr)}` takes no dims in brackets",
            expr.span,
            f"usage: `{usage}`",
        )


def keyword(expr: ast.Call, name: str) -> ast.Expr | None:
    """The value of a keyword, or None."""
    return next((k.value for k in expr.keywords if k.name == name), None)


def static_keyword(
    ctx: Context, scope: Scope, expr: ast.Call, name: str, default: Size
) -> Size:
    """The value of a compile-time keyword."""
    given = keyword(expr, name)
    if given is None:
        return default
    return statics.require_static(ctx, scope, given, f"`{name}`")


def flag(
    ctx: Context,
    scope: Scope,
    expr: ast.Call,
    name: str,
    default: bool,
    other: str = "",
) -> bool:
    """The value of a keyword that is `true` or `false`, or (for the message) `other`."""
    given = keyword(expr, name)
    if given is None:
        return default
    size = statics.require_static(ctx, scope, given, f"`{name}`")
    settled = ctx.settle(size, given.span)
    if not isinstance(settled, bool):
        allowed = "`true`, `false` or " + other if other else "`true` or `false`"
        raise ctx.fail("E0411", f"`{name}` is {allowed}", given.span)
    return settled


def choice(
    ctx: Context, scope: Scope, expr: ast.Call, name: str, choices: Sequence[str]
) -> str:
    """The value of a keyword that names one of `choices`; the first is the default."""
    given = keyword(expr, name)
    if given is None:
        return choices[0]
    chosen = given.value if isinstance(given, ast.String) else None
    if isinstance(given, ast.Name):
        size = statics.static(ctx, scope, given)
        settled = None if size is None else ctx.settle(size, given.span)
        chosen = settled if isinstance(settled, str) else given.id
    if chosen is None or chosen not in choices:
        listed = ", ".join(f'"{c}"' for c in choices)
        raise ctx.fail(
            "E0411",
            f"`{name}` is one of {listed}",
            given.span,
            suggest(chosen or "", list(choices)),
        )
    return chosen


def brackets(
    ctx: Context, scope: Scope, site: Site, expr: ast.Call, usage: str
) -> tuple[tuple[str, ...], ir.Node | None]:
    """What a reduction runs over, and its condition: `[K]`, `[s <= t and …]`."""
    if not expr.brackets:
        raise ctx.fail(
            "E0404",
            f"`{function_name(expr)}` needs to know along what, in brackets",
            expr.span,
            f"usage: `{usage}`",
        )
    over: list[str] = []
    where: ir.Node | None = None
    for item in expr.brackets:
        match item:
            case ast.Item(expr=ast.Name(id=name) as value, axis=None, rename=None) if (
                isinstance(scope.find(name), Value | Bound)
            ):
                where = _both(where, expressions.value(ctx, scope, site, value))
            case ast.Item(expr=ast.Name() as name, axis=None, rename=None):
                over.append(indexing.axis_or_dim(ctx, scope, name))
            case ast.Item(expr=ast.Number() as number, axis=None, rename=None):
                over.append(dims.dim_name(ctx, scope, number))
            case ast.Item(expr=condition, axis=None, rename=None) if condition:
                where = _both(where, expressions.value(ctx, scope, site, condition))
            case _:
                raise ctx.fail(
                    "E0405",
                    "brackets hold dims or a condition such as `s <= t`",
                    item.span,
                    f"usage: `{usage}`",
                )
    if not over and not (where and copies_of(ctx, where)):
        raise ctx.fail(
            "E0404",
            f"`{function_name(expr)}` has a condition but no dim to run over",
            expr.span,
            "name the dim too, as in `sum[K, x > 0](x)`",
        )
    return tuple(over), where


def _both(a: ir.Node | None, b: ir.Node) -> ir.Node:
    return b if a is None else build.map_("and", a, b, span=b.span)


def copies_of(ctx: Context, *nodes: ir.Node | None) -> tuple[str, ...]:
    """Copy axes along which any of the nodes varies."""
    axes = [n.type.axes for n in nodes if n is not None]
    return tuple(c for c in ctx.copies if any(c in a for a in axes))


def positive(ctx: Context, size: Size, span: ast.Ast, name: str) -> None:
    """E0413 where a known size is not a whole number from 1."""
    value = ctx.value_of(size)
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ctx.fail(
            "E0413", f"`{name}` is {value}, not a whole number from 1", span.span
        )
    dims.note_integral(ctx, size)
