"""Applying a layer: inputs and dims of the callee in the caller's terms, and its results."""

from __future__ import annotations

from dataclasses import dataclass, field

from seqdsl.elaborate import dims, expressions, keys, layer, statics
from seqdsl.elaborate.context import Context, Poisoned
from seqdsl.elaborate.program import Binding
from seqdsl.elaborate.scope import Choice, LayerValue, Scope, Site, Static
from seqdsl.elaborate.unify import fit, item_name, shape_text
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit, Scalar, Size, substitute
from seqdsl.ir.types import BATCH, TIME, Type, promote
from seqdsl.source import Span
from seqdsl.syntax import ast


@dataclass
class Callee:
    """A layer on its way to be called.

    `options` are sizes in the caller's terms, `layers` those of them that are layers, `dims`
    the caller's dims by the callee's names, `shapes` the callee-side shape of each input
    (with the caller's extra dims for `...`).
    """

    decl: ast.LayerDecl
    binding: Binding
    options: dict[str, Size]
    dims: dict[str, str]
    layers: dict[str, Choice] = field(default_factory=dict[str, Choice])
    extra: dict[str, Size] = field(default_factory=dict[str, Size])
    shapes: dict[str, tuple[str, ...]] = field(
        default_factory=dict[str, tuple[str, ...]]
    )


def apply(
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
    callee = Callee(
        decl, made.binding, dict(made.options), dict(made.dims), made.layers
    )
    for statement in statements:
        source = args[statement.name].span
        _fit_input(ctx, callee, statement, nodes[statement.name], source)
    _require_options(ctx, callee, expr)
    model = _elaborate(ctx, callee, expr.span)
    for name, dim in callee.dims.items():
        if name in model.dims and name not in callee.options:
            size = substitute(model.dims[name], {**callee.extra, **callee.options})
            ctx.require_equal(
                size,
                ctx.dims[dim],
                expr.span,
                f"`{decl.name}` needs another extent for `{name}`",
            )
    _register(ctx, made, callee, model, expr.span)
    axes = scope.axes
    if site.initial is not None:
        # a state starts before the first step of the repeat in which it is declared
        axes = _needed(axes, made, nodes)
    return _results(ctx, scope, axes, made, callee, model, nodes, expr.span)


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

    declared = dims.dtype_of(statement.type)
    if promote(declared, node.type.dtype) != declared:
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
            f"along `{max(extra)}`",
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

    known: dict[str, Scalar] = {}
    for name, size in {**callee.options, **callee.extra}.items():
        value = ctx.value_of(size)
        if value is not None:
            known[name] = value
    ctx.enter(span)
    link = _link(callee)
    if link in ctx.chain:
        raise ctx.fail(
            "E0115",
            f"the layer `{callee.decl.name}` contains itself",
            span,
            "repeat it over depth with `repeat n in N:`",
        )
    request = layer.Request(
        callee.binding.file,
        callee.decl,
        known,
        callee.shapes,
        callee.layers,
        tuple(callee.extra),
        (*ctx.chain, link),
    )
    entry = layer.layer_model(request, ctx.models)
    ctx.grow(entry.written, span)
    if isinstance(entry.result, ir.Model):
        return entry.result
    ctx.diagnostics.extend(d for d in entry.result if d not in ctx.diagnostics)
    raise Poisoned


def _link(callee: Callee) -> str:
    """The layer with the layers that it is given: with others of these it may contain itself."""
    given = (f"{c.binding.file.key}:{c.text}" for _, c in sorted(callee.layers.items()))
    return " ".join((callee.decl.name, *given))


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


def _needed(
    axes: tuple[str, ...], made: LayerValue, nodes: dict[str, ir.Node]
) -> tuple[str, ...]:
    """The repeats around a call that it cannot stand outside of."""
    inside = set(made.scope).union(*(n.type.axes for n in nodes.values()))
    while axes and axes[-1] not in inside:
        axes = axes[:-1]
    return axes


def _results(
    ctx: Context,
    scope: Scope,
    axes: tuple[str, ...],
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
        scope=axes,
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
    statics.bounded(ctx, size, model.span)
    entity = scope.find(dim)
    if isinstance(entity, Static) and entity.size == size:
        return dims.dim_name(ctx, scope, ast.Name(id=dim))
    new = ctx.fresh_dim(dim, size)
    if entity is None and new == dim:
        # from here on the caller can name it too
        names = dims.layer_scope(scope).names
        names[dim] = Static(size, model.span, dim, used=True)
    return new
