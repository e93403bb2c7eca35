"""Calls: which operator, def, layer or extern a name means, and its arguments."""

from __future__ import annotations

from collections.abc import Mapping

from seqdsl.elaborate import (
    convolution,
    defs,
    layers,
    monoids,
    operators,
    parametric,
)
from seqdsl.elaborate.arguments import Operator
from seqdsl.elaborate.context import Context
from seqdsl.elaborate.program import Binding, File, suggest
from seqdsl.elaborate.scope import LayerOption, LayerValue, Scope, Site
from seqdsl.ir import nodes as ir
from seqdsl.syntax import ast
from seqdsl.syntax.format import format_expr

Results = dict[str, ir.Node]

BUILTINS: Mapping[str, Operator] = {
    **operators.OPERATORS,
    **parametric.OPERATORS,
    **convolution.OPERATORS,
}


def call(
    ctx: Context, scope: Scope, site: Site, expr: ast.Call | ast.ParamExpr
) -> ir.Node | Results:
    """The value of a call; a dict of outputs where a layer is called."""
    if isinstance(expr, ast.ParamExpr):
        return parametric.param_expression(ctx, scope, site, expr)
    match expr.func:
        case ast.Name(id=name):
            return _named(ctx, scope, site, expr, name)
        case ast.Member(value=ast.Name(id=prefix), name=name):
            module = scope.file.lookup(prefix) if scope.find(prefix) is None else None
            if isinstance(module, File):
                return _member(ctx, scope, site, expr, module, prefix, name)
        case ast.Call():
            # `Block(D)(x)`: options first, then inputs
            made = layers.instance(ctx, scope, site, expr.func)
            return layers.apply_instance(ctx, scope, site, made, expr)
        case _:
            pass
    raise ctx.fail(
        "E0408",
        f"`{format_expr(expr.func)}` cannot be called",
        expr.func.span,
        "only operators, defs and layers can",
    )


def _member(
    ctx: Context,
    scope: Scope,
    site: Site,
    expr: ast.Call,
    module: File,
    prefix: str,
    name: str,
) -> ir.Node | Results:
    found = module.scope.get(name)
    if not isinstance(found, Binding):
        hint = suggest(name, module.scope) or f"it has: {', '.join(module.scope)}"
        raise ctx.fail(
            "E0114", f"`{prefix}` has no layer or def `{name}`", expr.func.span, hint
        )
    return _declared(ctx, scope, site, expr, found)


def _named(
    ctx: Context, scope: Scope, site: Site, expr: ast.Call, name: str
) -> ir.Node | Results:
    entity = layers.find_instance(ctx, scope, name, expr.span)
    if isinstance(entity, LayerValue):
        entity.used = True
        return layers.apply_instance(ctx, scope, site, entity, expr)
    if isinstance(entity, LayerOption):
        return layers.call(ctx, scope, site, expr, entity.choice.binding)
    if entity is not None:
        raise ctx.fail(
            "E0408",
            f"`{name}` is a value and cannot be called",
            expr.func.span,
            f"a product is written with `*`: `{name} * (…)`",
        )
    found = scope.file.lookup(name)
    if isinstance(found, Binding):
        return _declared(ctx, scope, site, expr, found)
    if name in BUILTINS:
        return BUILTINS[name](ctx, scope, site, expr)
    known = [*BUILTINS, *scope.file.names()]
    raise ctx.unknown(name, expr.func.span, known, "operator, def or layer")


def _declared(
    ctx: Context, scope: Scope, site: Site, expr: ast.Call, found: Binding
) -> ir.Node | Results:
    match found.decl:
        case ast.LayerDecl():
            return layers.call(ctx, scope, site, expr, found)
        case ast.DefDecl():
            return defs.inline(ctx, scope, site, expr, found)
        case ast.MonoidDecl():
            return monoids.call(ctx, scope, site, expr, found)
        case ast.ExternDecl():
            return defs.extern(ctx, scope, site, expr, found)
