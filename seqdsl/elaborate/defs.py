"""Calls of defs (written out in place) and of extern ops."""

from __future__ import annotations

from seqdsl.elaborate import arguments, declare, dims, expressions, late, statics
from seqdsl.elaborate.context import Context
from seqdsl.elaborate.program import Binding, suggest
from seqdsl.elaborate.scope import Axis, Bound, Scope, Site, Static
from seqdsl.elaborate.unify import fit, item_name, shape_text
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import TIME, Type, promote
from seqdsl.source import Span
from seqdsl.syntax import ast


def inline(
    ctx: Context, scope: Scope, site: Site, expr: ast.Call, found: Binding
) -> ir.Node:
    """The result of a def, its equations added to the layer's."""
    decl = found.decl
    assert isinstance(decl, ast.DefDecl)
    ctx.enter(expr.span)
    ctx.grow(1, expr.span)
    if decl.name in ctx.chain:
        raise ctx.fail(
            "E0115",
            f"`{decl.name}` calls itself",
            expr.span,
            "a def is written out in place and cannot recur; use `repeat`",
        )

    place = Scope(
        found.file,
        axes=scope.axes,
        copies=declare.collect_copies(decl.body, found.file),
        late=late.collect(decl.body),
    )
    place.names[TIME] = Axis(TIME, decl.header)
    bound = bracket_dims(ctx, scope, expr, decl.brackets, decl.name, place)
    given = _given(ctx, expr, decl)
    for arg in decl.args:
        _bind(ctx, scope, site, place, bound, expr, arg, given.get(arg.name))
    old = ctx.chain
    ctx.chain = (*old, decl.name)
    try:
        declare.declare_equations(
            ctx, place, decl.body, prefix=f"{site.name}_", span=expr.span
        )
        result = next((s for s in decl.body if isinstance(s, ast.Result)), None)
        if result is None:
            raise ctx.fail(
                "E0118",
                f"the def `{decl.name}` has no result",
                decl.header,
                "end it with a line that holds just the result",
            )
        inner = Site(ctx.fresh(f"{site.name}_{decl.name}"), 0, expr.span)
        return expressions.value(ctx, place, inner, result.value)
    finally:
        ctx.chain = old


def bracket_dims(
    ctx: Context,
    scope: Scope,
    expr: ast.Call,
    names: tuple[ast.Name, ...],
    callee: str,
    place: Scope,
) -> dict[str, str]:
    """Dims given between brackets, by the callee's names."""
    items = expr.brackets or ()
    if len(items) != len(names) or any(i.expr is None for i in items):
        wanted = f"[{', '.join(n.id for n in names)}]" if names else "no brackets"
        code = "E0404" if names else "E0405"
        raise ctx.fail(
            code,
            f"`{callee}` takes {wanted}",
            expr.span,
            f"usage: `{callee}{wanted if names else ''}(…)`",
        )
    bound: dict[str, str] = {}
    for name, item in zip(names, items, strict=True):
        assert item.expr is not None
        dim = dims.dim_name(ctx, scope, item.expr)
        bound[name.id] = dim
        place.names[name.id] = Static(ctx.dims[dim], name.span, dim, used=True)
    return bound


def _given(ctx: Context, expr: ast.Call, decl: ast.DefDecl) -> dict[str, ast.Expr]:
    names = [a.name for a in decl.args]
    if len(expr.args) > len(names):
        raise ctx.fail(
            "E0401",
            f"`{decl.name}` takes {len(names)} arguments, not {len(expr.args)}",
            expr.span,
            f"it takes: {', '.join(names)}",
        )
    given = dict(zip(names, expr.args, strict=False))
    for keyword in expr.keywords:
        if keyword.name not in names or keyword.name in given:
            raise ctx.fail(
                "E0402",
                f"`{decl.name}` has no argument `{keyword.name}` left to give",
                keyword.span,
                suggest(keyword.name, names),
            )
        given[keyword.name] = keyword.value
    missing = [a.name for a in decl.args if a.default is None and a.name not in given]
    if missing:
        raise ctx.fail(
            "E0401",
            f"`{decl.name}` also needs `{missing[0]}`",
            expr.span,
            f"it takes: {', '.join(names)}",
        )
    return given


def _bind(
    ctx: Context,
    scope: Scope,
    site: Site,
    place: Scope,
    bound: dict[str, str],
    expr: ast.Call,
    arg: ast.ArgDecl,
    given: ast.Expr | None,
) -> None:
    """Bind one argument: a compile-time value as such, others as a shared node."""
    source, where = (given, scope) if given is not None else (arg.default, place)
    assert source is not None
    if isinstance(source, ast.String):
        place.names[arg.name] = Static(
            statics.require_static(ctx, where, source, ""), arg.span, used=True
        )
        return
    size = statics.static(ctx, where, source)
    if size is not None:
        dim = None
        if isinstance(source, ast.Name):
            entity = where.find(source.id)
            dim = entity.dim if isinstance(entity, Static) else None
        place.names[arg.name] = Static(size, arg.span, dim)
        return
    node = expressions.value(ctx, where, site, source)
    if arg.type is not None and arg.type.dtype is not None:
        check_dtype(ctx, arg, node, source.span)
    if arg.type is not None and arg.type.shape is not None:
        fit_shape(ctx, place, bound, arg, node, source.span)
    place.names[arg.name] = Bound(shared(ctx, scope, site, arg.name, node), arg.span)


def check_dtype(ctx: Context, arg: ast.ArgDecl, node: ir.Node, span: Span) -> None:
    declared, came = dims.dtype_of(arg.type), node.type.dtype
    if promote(declared, came) != declared:
        message = f"`{arg.name}` is declared {declared} and got {came}"
        raise ctx.fail("E0407", message, span)


def fit_shape(
    ctx: Context,
    place: Scope,
    bound: dict[str, str],
    arg: ast.ArgDecl,
    node: ir.Node,
    span: Span,
) -> tuple[str, ...]:
    """Bind the dims that an argument declares to those of `node`; the dims left over."""
    assert arg.type is not None and arg.type.shape is not None
    shape = arg.type.shape

    def fail(why: str) -> Exception:
        actual = f"[{', '.join(node.type.dims)}]"
        message = f"`{arg.name}` is declared {shape_text(shape)} and got {actual}"
        return ctx.fail("E0407", message + (f": {why}" if why else ""), span)

    fitted = fit(shape, node.type.dims, bound, True, fail)
    for item, dim in fitted.pairs:
        name = item_name(item)
        bound[name] = dim
        if isinstance(item.expr, ast.Name) and name not in place.names:
            place.names[name] = Static(ctx.dims[dim], item.span, dim, used=True)
    return fitted.rest


def shared(ctx: Context, scope: Scope, site: Site, name: str, node: ir.Node) -> ir.Node:
    """`node` if it is a leaf, else a reference to a new equation, so that it stands once."""
    if isinstance(node, ir.Ref | ir.Result | ir.Const | ir.Position):
        return node
    return ctx.hold(scope, f"{site.name}_{name}", node)


# ---- extern ops


def extern(
    ctx: Context, scope: Scope, site: Site, expr: ast.Call, found: Binding
) -> ir.Node:
    """A call of an extern op; its declared dims are found from the arguments."""
    decl = found.decl
    assert isinstance(decl, ast.ExternDecl)
    arguments.no_brackets(ctx, expr, f"{decl.name}(…)")
    arguments.check_keywords(ctx, expr, ())
    n = len(decl.args)
    arguments.check_count(
        ctx, expr, n, n, f"{decl.name}({', '.join(a.name for a in decl.args)})"
    )
    nodes = expressions.values(ctx, scope, site, expr.args)
    bound: dict[str, str] = {}
    place = Scope(found.file)
    signature: list[tuple[str, Type]] = []
    for arg, node, source in zip(decl.args, nodes, expr.args, strict=True):
        shape = arg.type.shape if arg.type and arg.type.shape else ()

        def fail(
            why: str,
            arg: ast.ArgDecl = arg,
            node: ir.Node = node,
            source: ast.Expr = source,
            shape: tuple[ast.DimItem, ...] = shape,
        ) -> Exception:
            actual = f"[{', '.join(node.type.dims)}]"
            message = f"`{arg.name}` is declared {shape_text(shape)} and got {actual}"
            return ctx.fail("E0407", message + (f": {why}" if why else ""), source.span)

        check_dtype(ctx, arg, node, source.span)
        fitted = fit(shape, node.type.dims, bound, False, fail)
        bound.update((item_name(item), dim) for item, dim in fitted.pairs)
        signature.append(
            (arg.name, Type(dims.dtype_of(arg.type), tuple(d for _, d in fitted.pairs)))
        )
    for name, dim in bound.items():
        place.names[name] = Static(ctx.dims[dim], decl.span, dim, used=True)
    result = dims.type_of(ctx, place, decl.result)
    axes = frozenset[str]().union(*(node.type.axes for node in nodes))
    ctx.externs[decl.name] = ir.Extern(
        name=decl.name, args=tuple(signature), result=result, span=decl.span
    )
    return ir.ExternCall(
        name=decl.name,
        args=tuple(nodes),
        span=expr.span,
        type=Type(result.dtype, result.dims, axes),
    )
