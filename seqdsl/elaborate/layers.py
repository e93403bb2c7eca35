"""Calls of layers: options, dims and inputs of the callee in the caller's terms."""

from __future__ import annotations

from seqdsl.elaborate import application, choices, dims, expressions, keys, statics
from seqdsl.elaborate.context import Context
from seqdsl.elaborate.program import Binding, suggest
from seqdsl.elaborate.scope import (
    Entity,
    LayerOption,
    LayerValue,
    Scope,
    Site,
    Static,
    Value,
)
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit
from seqdsl.source import Span
from seqdsl.syntax import ast


def find_instance(ctx: Context, scope: Scope, name: str, span: Span) -> Entity | None:
    """What `name` means here; an equation that makes a layer instance is elaborated first."""
    entity = scope.find(name) or ctx.inner.get(name)
    if isinstance(entity, Value) and entity.statement is not None:
        expressions.reference_of_call(ctx, entity, span)
        entity = (entity.place or scope).find(name)
    return entity


def is_instance(scope: Scope, expr: ast.Expr) -> Binding | None:
    """The layer that `expr` makes an instance of: a call with options only."""
    if not isinstance(expr, ast.Call) or expr.brackets is not None:
        return None
    found = callee_of(scope, expr.func)
    if found is None or not isinstance(found.decl, ast.LayerDecl):
        return None
    inputs = [s.name for s in found.decl.body if isinstance(s, ast.InputStmt)]
    if any(k.name in inputs for k in expr.keywords) or not inputs:
        return None
    known = all(_is_static(scope, a) for a in expr.args)
    return found if known else None


def calls_layer(ctx: Context, scope: Scope, expr: ast.Expr) -> bool:
    """Whether `expr` applies a layer, and so may have several outputs."""
    if not isinstance(expr, ast.Call):
        return False
    if isinstance(expr.func, ast.Call):
        return is_instance(scope, expr.func) is not None
    if isinstance(expr.func, ast.Name):
        entity = find_instance(ctx, scope, expr.func.id, expr.span)
        if entity is not None:
            return isinstance(entity, LayerValue | LayerOption)
    found = callee_of(scope, expr.func)
    return found is not None and isinstance(found.decl, ast.LayerDecl)


def _is_static(scope: Scope, expr: ast.Expr) -> bool:
    match expr:
        case ast.Number() | ast.Bool() | ast.String():
            return True
        case ast.Name(id=name):
            return isinstance(scope.find(name), Static)
        case ast.Binary(left=left, right=right):
            return _is_static(scope, left) and _is_static(scope, right)
        case ast.Unary(operand=operand):
            return _is_static(scope, operand)
        case _:
            return False


def callee_of(scope: Scope, func: ast.Expr) -> Binding | None:
    """The declaration that a called expression names, if it is one."""
    match func:
        case ast.Name(id=name):
            entity = scope.find(name)
            if isinstance(entity, LayerOption):
                return entity.choice.binding
            found = scope.file.lookup(name) if entity is None else None
        case ast.Member(value=ast.Name(id=prefix), name=name):
            module = scope.file.lookup(prefix) if scope.find(prefix) is None else None
            if module is None or isinstance(module, Binding):
                return None
            found = module.scope.get(name)
        case _:
            return None
    return found if isinstance(found, Binding) else None


def instance(
    ctx: Context, scope: Scope, site: Site, expr: ast.Call, name: str | None = None
) -> LayerValue:
    """`Block(D, heads)`: a layer with its options, to be called later."""
    found = callee_of(scope, expr.func)
    if found is None or not isinstance(found.decl, ast.LayerDecl):
        raise ctx.fail("E0408", "only a layer can be made with options", expr.span)
    callee = made_with(ctx, scope, expr, found, found.decl)
    local = name or keys.local_name(site, expr, _kind(scope, expr), expr.key)
    return LayerValue(
        keys.prefixed(scope, expr.key or local),
        found,
        callee.options,
        callee.dims,
        scope.axes,
        expr.span,
        callee.layers,
    )


def made_with(
    ctx: Context, scope: Scope, expr: ast.Call, found: Binding, decl: ast.LayerDecl
) -> application.Callee:
    """The options that `Block(D, heads = 4)` gives to the layer `decl`."""
    callee = _preset(scope, expr.func, found, decl)
    declared = [o.name for o in decl.options]
    if len(expr.args) > len(declared):
        raise ctx.fail(
            "E0401",
            f"`{decl.name}` has {len(declared)} options, not {len(expr.args)}",
            expr.span,
            f"they are: {', '.join(declared)}",
        )
    for option, value in zip(declared, expr.args, strict=False):
        _option(ctx, scope, callee, option, value)
    for keyword in expr.keywords:
        if keyword.name not in declared or keyword.name in callee.options:
            raise ctx.fail(
                "E0402",
                f"`{decl.name}` has no option `{keyword.name}` left to give",
                keyword.span,
                suggest(keyword.name, declared),
            )
        _option(ctx, scope, callee, keyword.name, keyword.value)
    return callee


def _preset(
    scope: Scope, func: ast.Expr, found: Binding, decl: ast.LayerDecl
) -> application.Callee:
    """With the options given where the layer was chosen; they hold wherever it is called."""
    entity = scope.find(func.id) if isinstance(func, ast.Name) else None
    if not isinstance(entity, LayerOption):
        return application.Callee(decl, found, {}, {})
    entity.used = True
    choice = entity.choice
    return application.Callee(
        decl, found, dict(choice.options), {}, dict(choice.layers)
    )


def _kind(scope: Scope, expr: ast.Call) -> str:
    """What a sub-layer is called in keys: an option's own name, whatever was chosen."""
    if isinstance(expr.func, ast.Name) and isinstance(
        scope.find(expr.func.id), LayerOption
    ):
        return expr.func.id
    found = callee_of(scope, expr.func)
    assert found is not None
    return keys.snake(found.decl.name)


def _option(
    ctx: Context, scope: Scope, callee: application.Callee, name: str, value: ast.Expr
) -> None:
    declared = next(o for o in callee.decl.options if o.name == name)
    if choices.names_layer(callee.binding.file, declared.default):
        choice = choices.settled(ctx, choices.choice(ctx, scope, value), value.span)
        callee.layers[name] = choice
        callee.options[name] = Lit(choice.text)
        return
    size = statics.require_static(ctx, scope, value, f"the option `{name}`")
    callee.options[name] = size
    if isinstance(value, ast.Name):
        entity = scope.find(value.id)
        if isinstance(entity, Static) and _is_dim(callee.decl, name):
            callee.dims[name] = dims.dim_name(ctx, scope, value)


def _is_dim(decl: ast.LayerDecl, option: str) -> bool:
    """Whether an option stands in the shape of an input or as a dim anywhere in the layer."""
    return any(_reads_dim(s, option) for s in decl.body)


def _reads_dim(node: object, name: str) -> bool:
    match node:
        case ast.DimItem(expr=ast.Name(id=found)):
            return found == name
        case ast.Call(func=ast.Name(id="linear" | "embed" | "conv"), args=args):
            named = any(isinstance(a, ast.Name) and a.id == name for a in args[1:])
            return named or any(_reads_dim(a, name) for a in args)
        case ast.Ast():
            parts = (getattr(node, f) for f in node.__dataclass_fields__)
            return any(_reads_dim(p, name) for p in parts if p is not node)
        case tuple():
            return any(_reads_dim(p, name) for p in node)  # pyright: ignore
        case _:
            return False


def call(
    ctx: Context, scope: Scope, site: Site, expr: ast.Call, found: Binding
) -> dict[str, ir.Node]:
    """`GLA(x, heads = 4)`: a new instance, applied at once."""
    decl = found.decl
    assert isinstance(decl, ast.LayerDecl)
    inputs = [s.name for s in decl.body if isinstance(s, ast.InputStmt)]
    if is_instance(scope, expr) is not None:
        raise ctx.fail(
            "E0408",
            f"`{decl.name}` with options only is a layer, not a value",
            expr.span,
            f"give it a name and apply that: `block = {decl.name}(…)`, then `block(x)`",
        )
    callee = _preset(scope, expr.func, found, decl)
    _bracket_dims(ctx, scope, expr, callee)
    options = [o.name for o in decl.options]
    args = _inputs_given(ctx, scope, expr, callee, inputs, options)
    local = keys.local_name(site, expr, _kind(scope, expr), expr.key)
    made = LayerValue(
        keys.prefixed(scope, local),
        found,
        callee.options,
        callee.dims,
        scope.axes,
        expr.span,
        callee.layers,
    )
    return application.apply(ctx, scope, site, made, args, expr)


def _bracket_dims(
    ctx: Context, scope: Scope, expr: ast.Call, callee: application.Callee
) -> None:
    names, items = callee.decl.brackets, expr.brackets or ()
    if len(names) != len(items) or any(i.expr is None for i in items):
        wanted = f"[{', '.join(n.id for n in names)}]" if names else "no brackets"
        raise ctx.fail(
            "E0404" if names else "E0405",
            f"`{callee.decl.name}` takes {wanted}",
            expr.span,
            f"usage: `{callee.decl.name}{wanted if names else ''}(…)`",
        )
    for name, item in zip(names, items, strict=True):
        assert item.expr is not None
        dim = dims.dim_name(ctx, scope, item.expr)
        callee.dims[name.id] = dim
        callee.options[name.id] = ctx.dims[dim]


def _inputs_given(
    ctx: Context,
    scope: Scope,
    expr: ast.Call,
    callee: application.Callee,
    inputs: list[str],
    options: list[str],
) -> dict[str, ast.Expr]:
    decl = callee.decl
    if len(expr.args) > len(inputs):
        raise ctx.fail(
            "E0401",
            f"`{decl.name}` has {len(inputs)} inputs, not {len(expr.args)}",
            expr.span,
            f"inputs: {', '.join(inputs) or 'none'}; options go by name: "
            f"{', '.join(options) or 'none'}",
        )
    args = dict(zip(inputs, expr.args, strict=False))
    for keyword in expr.keywords:
        name = keyword.name
        if name in options and name not in callee.options:
            _option(ctx, scope, callee, name, keyword.value)
        elif name in inputs and name not in args:
            args[name] = keyword.value
        else:
            raise ctx.fail(
                "E0402",
                f"`{decl.name}` has no option or input `{name}` left to give",
                keyword.span,
                suggest(name, [*options, *inputs]),
            )
    return args


def apply_instance(
    ctx: Context, scope: Scope, site: Site, made: LayerValue, expr: ast.Call
) -> dict[str, ir.Node]:
    """`block(x)`: an instance applied to inputs."""
    decl = made.binding.decl
    assert isinstance(decl, ast.LayerDecl)
    inputs = [s.name for s in decl.body if isinstance(s, ast.InputStmt)]
    if expr.brackets is not None:
        raise ctx.fail("E0405", "a layer instance takes no brackets", expr.span)
    options = [o.name for o in decl.options]
    for keyword in expr.keywords:
        if keyword.name in options:
            raise ctx.fail(
                "E0402",
                f"the options of this `{decl.name}` are already given",
                keyword.span,
                "give options where the instance is made",
            )
    callee = application.Callee(decl, made.binding, {}, {})
    args = _inputs_given(ctx, scope, expr, callee, inputs, [])
    hidden = [a for a in made.scope if a not in scope.axes]
    if hidden:
        raise ctx.fail(
            "E0120",
            f"this layer is one per step of `{hidden[-1]}`",
            expr.span,
            "make it outside the repeat to share it",
        )
    return application.apply(ctx, scope, site, made, args, expr)
