"""Expressions of a spec to IR nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from seqdsl.elaborate import calls, dims, equations, indexing, statics, whole
from seqdsl.elaborate.context import Context, Poisoned
from seqdsl.elaborate.order import names_in
from seqdsl.elaborate.program import Binding
from seqdsl.elaborate.scope import (
    Axis,
    Bound,
    CallValue,
    LayerOption,
    LayerValue,
    Scope,
    Site,
    Static,
    Value,
)
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit, SizeError
from seqdsl.source import Span
from seqdsl.syntax import ast

BINARY = {
    "+": "add",
    "-": "sub",
    "*": "mul",
    "/": "div",
    "//": "floordiv",
    "%": "mod",
    "**": "pow",
    "and": "and",
    "or": "or",
}
COMPARE = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge", "==": "eq", "!=": "ne"}


def value(ctx: Context, scope: Scope, site: Site, expr: ast.Expr) -> ir.Node:
    """The node that `expr` means at this place.

    Raises `Poisoned` after reporting what is wrong with it.
    """
    try:
        size = statics.static(ctx, scope, expr)
        if size is not None and not isinstance(expr, ast.String):
            return whole.constant(ctx, size, expr.span)
        return build.at_span(_value(ctx, scope, site, expr), expr.span)
    except build.Issue as issue:
        raise ctx.fail(issue.code, issue.message, expr.span, *issue.help) from None
    except SizeError as error:
        raise ctx.fail("E0217", f"{error}", expr.span) from None


def _value(ctx: Context, scope: Scope, site: Site, expr: ast.Expr) -> ir.Node:
    match expr:
        case ast.Name(id=name, span=span):
            return named(ctx, scope, name, span)
        case ast.Unary(op=op, operand=operand):
            inner = value(ctx, scope, site, operand)
            return inner if op == "+" else build.map_(_unary(op), inner)
        case ast.Binary(op=op, left=left, right=right):
            pair = values(ctx, scope, site, (left, right))
            return _power(*pair) if op == "**" else build.map_(BINARY[op], *pair)
        case ast.Compare():
            return _comparison(ctx, scope, site, expr)
        case ast.Conditional():
            return _conditional(ctx, scope, site, expr)
        case ast.Index():
            return indexing.index(ctx, scope, site, expr)
        case ast.Redim(value=inner, maps=maps):
            return dims.redim(ctx, scope, value(ctx, scope, site, inner), maps)
        case ast.Member():
            return _member(ctx, scope, site, expr)
        case ast.Call() | ast.ParamExpr():
            return _single(ctx, calls.call(ctx, scope, site, expr), expr.span)
        case ast.DimList(span=span):
            raise ctx.fail(
                "E0107",
                "a list of dims is not a value",
                span,
                "lists such as `[heads, K]` stand as shapes: `linear(x, [heads, K])`",
            )
        case ast.String(span=span):
            raise ctx.fail("E0107", "a text is not a value", span)
        case ast.Number() | ast.Bool():
            return build.const(expr.value)


def _power(base: ir.Node, exponent: ir.Node) -> ir.Node:
    """`**`; of whole numbers too it is float, unless the exponent is a literal from 0."""
    known = integer(exponent)
    whole = exponent.type.dtype == "int" and base.type.dtype in ("bool", "int")
    if whole and (known is None or known < 0):
        base = build.map_("float", base, span=base.span)
    return build.map_("pow", base, exponent)


def _unary(op: str) -> str:
    return "neg" if op == "-" else "not"


def named(ctx: Context, scope: Scope, name: str, span: Span) -> ir.Node:
    """The node of a bare name."""
    match scope.find(name):
        case Value() as entity:
            return _reference(ctx, scope, entity, span)
        case Static(size=size) as entity:
            entity.used = True
            return whole.constant(ctx, size, span)
        case Bound(node=node) as entity:
            entity.used = True
            return build.at_span(node, span)
        case Axis(name=axis):
            return build.position(axis, axis=True, span=span)
        case CallValue() as entity:
            entity.used = True
            return _single(ctx, entity.results, span)
        case LayerValue() | LayerOption():
            raise ctx.fail(
                "E0107",
                f"`{name}` is a layer, not a value",
                span,
                f"apply it: `{name}(…)`",
            )
        case None:
            return _unbound(ctx, scope, name, span)


def _unbound(ctx: Context, scope: Scope, name: str, span: Span) -> ir.Node:
    if scope.is_copy(name):
        ctx.copies[name] = None
        return build.position(name, axis=True, span=span)
    inner = _hidden_in_repeat(ctx, name)
    if inner is not None and inner.status == "failed":
        raise Poisoned
    if inner is not None:
        axis = inner.scope[-1]
        raise ctx.fail(
            "E0120",
            f"`{name}` has one value for every `{axis}`",
            span,
            f"say which: `{name}[{axis} = …]`, or `stack[{axis} as M]({name})` for all",
        )
    found = scope.file.lookup(name)
    if found is not None:
        kind = "layer or def" if isinstance(found, Binding) else "imported file"
        raise ctx.fail(
            "E0107",
            f"`{name}` is a {kind}, not a value",
            span,
            f"apply it: `{name}(…)`",
        )
    known = [*scope.known(), *ctx_values(ctx)]
    if name in calls.BUILTINS:
        raise ctx.fail(
            "E0107",
            f"`{name}` is an operator, not a value",
            span,
            f"apply it: `{name}(x)`",
        )
    raise ctx.unknown(name, span, known, "name")


def ctx_values(ctx: Context) -> list[str]:
    """Names of values in repeats, for suggestions."""
    return [name for name, v in ctx.inner.items() if v.kind != "param"]


def _hidden_in_repeat(ctx: Context, name: str) -> Value | None:
    return ctx.inner.get(name)


def _reference(ctx: Context, scope: Scope, entity: Value, span: Span) -> ir.Ref:
    hidden = [axis for axis in entity.scope if axis not in scope.axes]
    if hidden:
        axis = hidden[-1]
        raise ctx.fail(
            "E0120",
            f"`{entity.name}` has one value for every `{axis}`",
            span,
            f"say which: `{entity.name}[{axis} = …]`",
        )
    return reference(ctx, entity, span)


def reference(ctx: Context, entity: Value, span: Span) -> ir.Ref:
    """A `Ref` to `entity`, which is elaborated first where its type is not known."""
    entity.used = True
    if entity.type is None:
        equations.elaborate_equation(ctx, entity, span)
    return build.ref(entity.name, ctx.type_of(entity), span)


def _single(ctx: Context, result: ir.Node | dict[str, ir.Node], span: Span) -> ir.Node:
    if not isinstance(result, dict):
        return result
    if len(result) == 1:
        return next(iter(result.values()))
    names = ", ".join(result)
    raise ctx.fail(
        "E0409",
        f"this call has {len(result)} outputs: {names}",
        span,
        f"take one by name: `(…).{next(iter(result))}`, or all: `{names} = …`",
    )


def _comparison(ctx: Context, scope: Scope, site: Site, expr: ast.Compare) -> ir.Node:
    operands = values(ctx, scope, site, expr.operands)
    parts = [
        build.map_(COMPARE[op], operands[i], operands[i + 1], span=expr.span)
        for i, op in enumerate(expr.ops)
    ]
    result: ir.Node = parts[0]
    for part in parts[1:]:
        result = build.map_("and", result, part, span=expr.span)
    return result


def _conditional(
    ctx: Context, scope: Scope, site: Site, expr: ast.Conditional
) -> ir.Node:
    size = statics.static(ctx, scope, expr.condition)
    if size is None:
        raise ctx.fail(
            "E0406",
            "the condition of `if … else` must be known when the layer is made",
            expr.condition.span,
            "for a choice at run time write `where(condition, a, b)`",
        )
    branches = expr.otherwise, expr.then
    taken = bool(ctx.settle(size, expr.condition.span))
    for name in names_in(branches[not taken]):
        # what the other choice needs is not superfluous
        if isinstance(entity := scope.find(name), Static | LayerOption):
            entity.used = True
    return value(ctx, scope, site, branches[taken])


def _member(ctx: Context, scope: Scope, site: Site, expr: ast.Member) -> ir.Node:
    results = call_results(ctx, scope, site, expr.value)
    if results is None:
        raise ctx.fail(
            "E0408",
            f"`.{expr.name}` works on the result of a layer with named outputs",
            expr.span,
        )
    if expr.name not in results:
        from seqdsl.elaborate.program import suggest

        raise ctx.fail(
            "E0410",
            f"there is no output `{expr.name}`",
            expr.span,
            suggest(expr.name, results) or f"it has: {', '.join(results)}",
        )
    return results[expr.name]


def call_results(
    ctx: Context, scope: Scope, site: Site, expr: ast.Expr
) -> dict[str, ir.Node] | None:
    """The named outputs of a layer call, or of a name bound to one; None for other values."""
    if isinstance(expr, ast.Name):
        entity = scope.find(expr.id)
        if isinstance(entity, Value) and entity.statement is not None:
            reference_of_call(ctx, entity, expr.span)
            entity = (entity.place or scope).find(expr.id)
        if isinstance(entity, CallValue):
            entity.used = True
            return entity.results
    if isinstance(expr, ast.Call):
        result = calls.call(ctx, scope, site, expr)
        return result if isinstance(result, dict) else None
    return None


def reference_of_call(ctx: Context, entity: Value, span: Span) -> None:
    """Elaborate the equation behind `entity`, so that its scope knows what it is."""
    if entity.type is None and entity.status == "waiting":
        equations.elaborate_equation(ctx, entity, span)


def values(
    ctx: Context, scope: Scope, site: Site, exprs: Sequence[ast.Expr]
) -> list[ir.Node]:
    """Nodes of several expressions; all their mistakes are reported."""
    nodes: list[ir.Node | None] = []
    for expr in exprs:
        try:
            nodes.append(value(ctx, scope, site, expr))
        except Poisoned:
            nodes.append(None)
    if None in nodes:
        raise Poisoned
    return cast(list[ir.Node], nodes)


def integer(node: ir.Node) -> int | None:
    """The value of a literal whole number."""
    match node:
        case ir.Const(value=Lit(int(number))) if not isinstance(number, bool):
            return number
        case _:
            return None
