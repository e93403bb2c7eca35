"""Calls of layers: options, dims and inputs of the callee in the caller's terms."""

from __future__ import annotations

from dataclasses import dataclass, field

from seqdsl.elaborate import dims, expressions, keys
from seqdsl.elaborate.context import (
    Context,
    Entity,
    LayerValue,
    Poisoned,
    Scope,
    Site,
    Static,
    Value,
)
from seqdsl.elaborate.program import Binding, suggest
from seqdsl.elaborate.unify import fit, item_name, shape_text
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit, Scalar, Size, substitute
from seqdsl.ir.types import BATCH, TIME, Type
from seqdsl.source import Span
from seqdsl.syntax import ast


@dataclass
class Callee:
    """A layer on its way to be called.

    `options` are sizes in the caller's terms, `dims` the caller's dims by the callee's names,
    `shapes` the callee-side shape of each input (with the caller's extra dims for `...`).
    """

    decl: ast.LayerDecl
    binding: Binding
    options: dict[str, Size]
    dims: dict[str, str]
    extra: dict[str, Size] = field(default_factory=lambda: dict[str, Size]())
    shapes: dict[str, tuple[str, ...]] = field(
        default_factory=lambda: dict[str, tuple[str, ...]]()
    )


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
            return isinstance(entity, LayerValue)
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
        case ast.Name(id=name) if scope.find(name) is None:
            found = scope.file.lookup(name)
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
    callee = Callee(found.decl, found, {}, {})
    declared = [o.name for o in found.decl.options]
    if len(expr.args) > len(declared):
        raise ctx.fail(
            "E0401",
            f"`{found.decl.name}` has {len(declared)} options, not {len(expr.args)}",
            expr.span,
            f"they are: {', '.join(declared)}",
        )
    for option, value in zip(declared, expr.args, strict=False):
        _option(ctx, scope, callee, option, value)
    for keyword in expr.keywords:
        if keyword.name not in declared or keyword.name in callee.options:
            raise ctx.fail(
                "E0402",
                f"`{found.decl.name}` has no option `{keyword.name}` left to give",
                keyword.span,
                suggest(keyword.name, declared),
            )
        _option(ctx, scope, callee, keyword.name, keyword.value)
    local = name or keys.local_name(site, expr, keys.snake(found.decl.name), expr.key)
    return LayerValue(
        keys.prefixed(scope, expr.key or local),
        found,
        callee.options,
        callee.dims,
        scope.axes,
        expr.span,
    )


def _option(
    ctx: Context, scope: Scope, callee: Callee, name: str, value: ast.Expr
) -> None:
    size = dims.require_static(ctx, scope, value, f"the option `{name}`")
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
    callee = Callee(decl, found, {}, {})
    _bracket_dims(ctx, scope, expr, callee)
    options = [o.name for o in decl.options]
    args = _inputs_given(ctx, scope, expr, callee, inputs, options)
    local = keys.local_name(site, expr, keys.snake(decl.name), expr.key)
    made = LayerValue(
        keys.prefixed(scope, local),
        found,
        callee.options,
        callee.dims,
        scope.axes,
        expr.span,
    )
    return _apply(ctx, scope, site, made, args, expr)


def _bracket_dims(ctx: Context, scope: Scope, expr: ast.Call, callee: Callee) -> None:
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
    callee: Callee,
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
    callee = Callee(decl, made.binding, {}, {})
    args = _inputs_given(ctx, scope, expr, callee, inputs, [])
    hidden = [a for a in made.scope if a not in scope.axes]
    if hidden:
        raise ctx.fail(
            "E0120",
            f"this layer is one per step of `{hidden[-1]}`",
            expr.span,
            "make it outside the repeat to share it",
        )
    return _apply(ctx, scope, site, made, args, expr)


def _apply(
    ctx: Context,
    scope: Scope,
    site: Site,
    made: LayerValue,
    args: dict[str, ast.Expr],
    expr: ast.Call,
) -> dict[str, ir.Node]:
    decl = made.binding.decl
    assert isinstance(decl, ast.LayerDecl)
    statements = [s for s in decl.body if isinstance(s, ast.InputStmt)]
    missing = [s.name for s in statements if s.name not in args]
    if missing:
        raise ctx.fail(
            "E0401",
            f"`{decl.name}` also needs the input `{missing[0]}`",
            expr.span,
            f"inputs: {', '.join(s.name for s in statements)}",
        )
    nodes = dict(
        zip(args, expressions.values(ctx, scope, site, [*args.values()]), strict=True)
    )
    callee = Callee(decl, made.binding, dict(made.options), dict(made.dims))
    for statement in statements:
        source = args[statement.name].span
        _fit_input(ctx, callee, statement, nodes[statement.name], source)
    _require_options(ctx, callee, expr)
    model = _elaborate(ctx, callee, expr.span)
    for name, dim in callee.dims.items():
        if name in model.dims and name not in callee.options:
            size = substitute(model.dims[name], callee.options)
            ctx.require_equal(
                size,
                ctx.dims[dim],
                expr.span,
                f"`{decl.name}` needs another extent for `{name}`",
            )
    _register(ctx, made, callee, model, expr.span)
    return _results(ctx, scope, made, callee, model, nodes, expr.span)


def _fit_input(
    ctx: Context, callee: Callee, statement: ast.InputStmt, node: ir.Node, span: Span
) -> None:
    shape = statement.type.shape or ()
    actual = f"[{', '.join(node.type.dims)}]"
    name = f"`{statement.name}` of `{callee.decl.name}`"

    def fail(why: str) -> Exception:
        message = f"{name} is declared {shape_text(shape)} and got {actual}"
        return ctx.fail(
            "E0407",
            message + (f": {why}" if why else ""),
            span,
            "rename or project the argument so that it fits",
        )

    declared = statement.type.dtype or "float"
    if (declared == "int") != (node.type.dtype == "int") and not (
        declared in ("float", "complex") and node.type.dtype in ("int", "float")
    ):
        raise ctx.fail(
            "E0407", f"{name} is declared {declared} and got {node.type.dtype}", span
        )
    _check_axes(ctx, statement, name, node, span)
    fitted = fit(shape, node.type.dims, callee.dims, False, fail)
    inside: dict[str, str] = {}
    for item, dim in fitted.pairs:
        own = item_name(item)
        inside[dim] = own
        _bind_dim(ctx, callee, item, own, dim, span)
    for dim in fitted.rest:
        own = dim
        while (
            own in callee.dims and callee.dims[own] != dim or _names_option(callee, own)
        ):
            own = f"{own}_rest"
        inside[dim] = own
        callee.dims[own] = dim
        callee.extra[own] = ctx.dims[dim]
    callee.shapes[statement.name] = tuple(inside[d] for d in node.type.dims)


def _names_option(callee: Callee, name: str) -> bool:
    return any(o.name == name for o in callee.decl.options) or any(
        b.id == name for b in callee.decl.brackets
    )


def _bind_dim(
    ctx: Context, callee: Callee, item: ast.DimItem, own: str, dim: str, span: Span
) -> None:
    callee.dims[own] = dim
    size = ctx.dims[dim]
    message = f"`{own}` of `{callee.decl.name}` does not have the extent of `{dim}`"
    match item.expr:
        case ast.Number(value=number):
            ctx.require_equal(Lit(number), size, span, message)
        case _ if _names_option(callee, own):
            dims.note_integral(ctx, size)
            ctx.require_equal(callee.options.setdefault(own, size), size, span, message)
        case _:
            pass


def _check_axes(
    ctx: Context, statement: ast.InputStmt, name: str, node: ir.Node, span: Span
) -> None:
    allowed = {"step": {BATCH, TIME}, "batch": {BATCH}, "call": set[str]()}
    extra = (node.type.axes & {BATCH, TIME}) - allowed.get(statement.per, set())
    if extra:
        raise ctx.fail(
            "E0412",
            f"{name} is one value per {statement.per}, and this changes "
            f"along `{sorted(extra)[-1]}`",
            span,
        )
    copies = [c for c in ctx.copies if c in node.type.axes]
    if copies:
        raise ctx.fail(
            "E0424",
            f"{name} would get one value for every `{copies[0]}`",
            span,
            "sum the copy of time away first",
        )


def _require_options(ctx: Context, callee: Callee, expr: ast.Call) -> None:
    for option in callee.decl.options:
        if option.default is None and option.name not in callee.options:
            raise ctx.fail(
                "E0403",
                f"the option `{option.name}` of `{callee.decl.name}` is not given",
                expr.span,
                f"write `{option.name} = …` in the call",
            )


def _elaborate(ctx: Context, callee: Callee, span: Span) -> ir.Model:
    from seqdsl.elaborate.statements import Request, layer_model

    known: dict[str, Scalar] = {}
    for name, size in {**callee.options, **callee.extra}.items():
        value = ctx.value_of(size)
        if value is not None:
            known[name] = value
    if callee.decl.name in ctx.chain:
        raise ctx.fail(
            "E0115",
            f"the layer `{callee.decl.name}` contains itself",
            span,
            "repeat it over depth with `repeat n in N:`",
        )
    request = Request(
        callee.binding.file,
        callee.decl,
        known,
        callee.shapes,
        tuple(callee.extra),
        (*ctx.chain, callee.decl.name),
    )
    result = layer_model(request, ctx.models)
    if isinstance(result, ir.Model):
        return result
    ctx.diagnostics.extend(d for d in result if d not in ctx.diagnostics)
    raise Poisoned


def _register(
    ctx: Context, made: LayerValue, callee: Callee, model: ir.Model, span: Span
) -> None:
    given = {**callee.options, **callee.extra}
    names = [o.name for o in model.options]
    options = tuple((n, given[n]) for n in names if n in given)
    new = ir.Instance(
        name=made.name, model=model, options=options, scope=made.scope, span=made.span
    )
    old = ctx.instances.get(made.name)
    if old is None:
        keys.check_unique(ctx, made.name, span)
        for axis in made.scope:
            _require_count(ctx, axis, span)
        ctx.instances[made.name] = new
    elif old != new:
        raise ctx.fail(
            "E0408",
            f"`{made.name}` is already applied to values of other shapes",
            span,
            "make a second instance for these",
        )


def _require_count(ctx: Context, axis: str, span: Span) -> None:
    if isinstance(ctx.repeats[axis].count, ir.Base):
        raise ctx.fail(
            "E0427",
            f"a layer made inside `repeat {axis}` is one per step, but the "
            "count is only known at run time",
            span,
            "make the layer outside the repeat, so that all steps share it",
        )


def _results(
    ctx: Context,
    scope: Scope,
    made: LayerValue,
    callee: Callee,
    model: ir.Model,
    nodes: dict[str, ir.Node],
    span: Span,
) -> dict[str, ir.Node]:
    options = {**callee.options, **callee.extra}
    for output in model.outputs:
        for dim in output.expr.type.dims:
            if dim not in callee.dims:
                callee.dims[dim] = _result_dim(ctx, scope, model, dim, options)
    base = made.name.split(".")[-1]
    name = ctx.fresh(f"{base}_call" if f"{base}" in ctx.names else base)
    args = tuple((i.name, nodes[i.name]) for i in model.inputs if i.name in nodes)
    pairs = tuple(sorted(callee.dims.items()))
    ctx.calls[name] = ir.CallSite(
        name=name,
        instance=made.name,
        args=args,
        dims=pairs,
        scope=scope.axes,
        span=span,
    )
    outer = frozenset[str]().union(*(n.type.axes for n in nodes.values())) - {
        BATCH,
        TIME,
    }
    results: dict[str, ir.Node] = {}
    for output in model.outputs:
        kind = output.expr.type
        shape = tuple(callee.dims[d] for d in kind.dims)
        if len(set(shape)) != len(shape):
            raise ctx.fail(
                "E0203",
                f"the output `{output.name}` would have a dim twice",
                span,
                f"its dims are [{', '.join(shape)}] here; give the layer dims of "
                "different names",
            )
        type_ = Type(kind.dtype, shape, kind.axes | outer | set(made.scope))
        results[output.name] = ir.Result(
            call=name, output=output.name, type=type_, span=span
        )
    return results


def _result_dim(
    ctx: Context, scope: Scope, model: ir.Model, dim: str, options: dict[str, Size]
) -> str:
    """The caller's name for a dim that only the callee's outputs have."""
    defaults = {o.name: o.default for o in model.options if o.default is not None}
    for name, default in defaults.items():
        if name not in options:
            options[name] = substitute(default, options)
    size = substitute(model.dims[dim], options)
    entity = scope.find(dim)
    if isinstance(entity, Static) and entity.size == size:
        return dims.dim_name(ctx, scope, ast.Name(id=dim))
    return ctx.fresh_dim(dim, size)
