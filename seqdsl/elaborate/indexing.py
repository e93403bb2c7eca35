"""What stands in brackets behind a value: shifts, copies of time, steps, slices."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from seqdsl.elaborate import dims, expressions, links, statics
from seqdsl.elaborate.context import Context, Poisoned
from seqdsl.elaborate.scope import Axis, Scope, Site, Static, Value
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit, Size, apply
from seqdsl.ir.types import TIME
from seqdsl.source import Span
from seqdsl.syntax import ast
from seqdsl.syntax.format import format_expr


def index(ctx: Context, scope: Scope, site: Site, expr: ast.Index) -> ir.Node:
    """`value[items]`, item by item from the left."""
    named_index = isinstance(expr.value, ast.Name) and expr.value.id == "index"
    if named_index and scope.find("index") is None:
        return _position(ctx, scope, expr)
    node = _indexed_value(ctx, scope, site, expr)
    for item in expr.items:
        node = build.at_span(_apply(ctx, scope, site, node, item), expr.span)
    return node


def _position(ctx: Context, scope: Scope, expr: ast.Index) -> ir.Node:
    if len(expr.items) != 1 or expr.items[0].expr is None:
        raise ctx.fail("E0405", "`index[K]` takes one dim", expr.span)
    dim = dims.dim_name(ctx, scope, expr.items[0].expr)
    return build.position(dim, axis=False, span=expr.span)


def _indexed_value(ctx: Context, scope: Scope, site: Site, expr: ast.Index) -> ir.Node:
    """The value before the brackets; a value of a repeat may be read from outside."""
    fixed = {item.axis for item in expr.items}
    match expr.value:
        case ast.Name(id=name) | ast.Member(value=ast.Name(id=name)):
            entity = scope.find(name) or ctx.inner.get(name)
        case _:
            entity = None
    if isinstance(entity, Value) and entity.status == "failed":
        raise Poisoned
    if isinstance(entity, Value) and entity.place is not None:
        left = [a for a in entity.scope if a not in scope.axes]
        if left and all(a in fixed for a in left):
            return expressions.value(ctx, entity.place, site, expr.value)
    return expressions.value(ctx, scope, site, expr.value)


def all_steps(
    ctx: Context, scope: Scope, site: Site, expr: ast.Expr, axis: str
) -> ir.Ref | ir.Result:
    """A value of the repeat `axis` read from outside, at every step."""
    item = ast.Item(axis=axis, span=expr.span)
    whole = ast.Index(value=expr, items=(item,), span=expr.span)
    node = _indexed_value(ctx, scope, site, whole)
    _require_axis(ctx, node, axis, expr.span)
    return named(ctx, site, scope, node)


def _apply(
    ctx: Context, scope: Scope, site: Site, node: ir.Node, item: ast.Item
) -> ir.Node:
    if item.slice is not None:
        return _slice(ctx, scope, node, item)
    if item.axis is not None:
        return _at(ctx, scope, site, node, item)
    match item.expr:
        case ast.Name(id=name) if is_copy_name(scope, name):
            ctx.copies[name] = None
            _require_axis(ctx, node, TIME, item.span)
            source = named(ctx, site, scope, node)
            if isinstance(source, ir.Ref):
                ctx.copied.add(source.name)
            return build.copy(source, name)
        case ast.Name(id=name) if isinstance(scope.find(name), Axis):
            return node
        case ast.Binary(op="+" | "-" as op, left=ast.Name(id=axis), right=by) if (
            isinstance(scope.find(axis), Axis)
        ):
            return _shift(ctx, scope, site, node, item, axis, op, by)
        case _:
            shown = format_expr(item.expr) if item.expr else ""
            raise ctx.fail(
                "E0423",
                f"`[{shown}]` is neither a shift nor an index",
                item.span,
                "write `x[t-1]` for one step earlier, `k[s]` for a second copy of time, "
                "`h[n = N]` for one step of a repeat, `x[K = 2]` for one entry of a dim",
            )


def is_copy_name(scope: Scope, name: str) -> bool:
    """Whether `name` means a copy of the time axis, and nothing declared."""
    return scope.find(name) is None and scope.is_copy(name)


def named(ctx: Context, site: Site, scope: Scope, node: ir.Node) -> ir.Ref | ir.Result:
    """`node` itself if it is a reference, else one to a new equation that holds it."""
    if isinstance(node, ir.Ref | ir.Result):
        return node
    return ctx.hold(scope, f"{site.name}_part", node)


def _require_axis(ctx: Context, node: ir.Node, axis: str, span: Span) -> None:
    if axis not in node.type.axes:
        raise ctx.fail(
            "E0423",
            f"this value is the same for every `{axis}`",
            span,
            "leave the index away",
        )


def _shift(
    ctx: Context,
    scope: Scope,
    site: Site,
    node: ir.Node,
    item: ast.Item,
    axis: str,
    op: str,
    by: ast.Expr,
) -> ir.Node:
    size = statics.static(ctx, scope, by)
    steps = None if size is None else ctx.settle(size, by.span)
    if not isinstance(steps, int) or isinstance(steps, bool):
        raise ctx.fail(
            "E0421",
            f"a shift along `{axis}` must be by a constant whole number of steps",
            item.span,
            f"write for instance `[{axis}-1]`",
        )
    _require_axis(ctx, node, axis, item.span)
    offset = steps if op == "+" else -steps
    if axis != TIME and offset > 0:
        raise ctx.fail(
            "E0428",
            f"step `{axis}+{offset}` has not run yet",
            item.span,
            f"read an earlier step, such as `[{axis}-1]`",
        )
    source = named(ctx, site, scope, node)
    if isinstance(source, ir.Ref):
        ctx.shifts.setdefault(source.name, {}).setdefault(axis, set()).add(offset)
    return build.shift(source, axis, offset)


def _at(
    ctx: Context, scope: Scope, site: Site, node: ir.Node, item: ast.Item
) -> ir.Node:
    axis = item.axis or ""
    assert item.expr is not None
    if axis == TIME or axis in ctx.repeats:
        return _step(ctx, scope, site, node, item, axis)
    dim = dims.dim_name(ctx, scope, ast.Name(id=axis, span=item.span))
    position = expressions.value(ctx, scope, site, item.expr)
    entries = apply("-", ctx.dims[dim], Lit(1))
    _check_inside(ctx, position, entries, "dim", item.span)
    return build.gather(node, dim, _whole(ctx, position, item.span))


def _check_inside(
    ctx: Context, position: ir.Node, last: Size, what: str, span: Span
) -> None:
    """Refuse (E0413), or note for when sizes are known, an index out of 0 … last."""
    if isinstance(position, ir.Const):
        message = f"this index does not lie inside the {what}"
        _require_order(ctx, (Lit(0), position.value, last), message, span)


def _whole(ctx: Context, node: ir.Node, span: Span) -> ir.Node:
    """A compile-time number as an int; other nodes as they are."""
    if isinstance(node, ir.Const):
        if isinstance(node.value, Lit) and not isinstance(node.value.value, int):
            raise ctx.fail("E0214", "an index is a whole number", span)
        return build.map_("int", node, span=span) if node.type.dtype != "int" else node
    return node


def _step(
    ctx: Context, scope: Scope, site: Site, node: ir.Node, item: ast.Item, axis: str
) -> ir.Node:
    _require_axis(ctx, node, axis, item.span)
    assert item.expr is not None
    source = named(ctx, site, scope, node)
    match item.expr:
        case ast.Name(id="last") if scope.find("last") is None:
            return build.at(source, axis, None)
        case _:
            position = expressions.value(ctx, scope, site, item.expr)
    if axis != TIME:
        count = ctx.repeats[axis].count
        last = position.value if isinstance(position, ir.Const) else position
        if last == count:
            return build.at(source, axis, None)
        if not isinstance(count, ir.Base):
            _check_inside(ctx, position, count, "repeat", item.span)
        step = expressions.integer(position)
        if axis in scope.axes and step in (0, 1):
            return links.carried(ctx, scope, source, axis, step)
    return build.at(source, axis, _whole(ctx, position, item.span))


@dataclass(frozen=True)
class Sliced:
    """A slice of the dim `dim`: its bounds, and how many entries it has."""

    dim: str
    start: Size
    step: Size
    extent: Size


def sliced(ctx: Context, scope: Scope, item: ast.Item) -> Sliced:
    """What the slice `K = start:stop:step` takes."""
    assert item.slice is not None and item.axis is not None
    dim = dims.dim_name(ctx, scope, ast.Name(id=item.axis, span=item.span))
    what = "a bound of a slice"
    start, stop, step = (
        default if part is None else statics.require_whole(ctx, scope, part, what)
        for part, default in (
            (item.slice.start, Lit(0)),
            (item.slice.stop, ctx.dims[dim]),
            (item.slice.step, Lit(1)),
        )
    )
    _check_slice(ctx, (start, stop, step), ctx.dims[dim], item.span)
    extent = stop if start == Lit(0) else apply("-", stop, start)
    if step != Lit(1):
        up = apply("-", apply("+", extent, step), Lit(1))
        extent = apply("//", up, step)
    return Sliced(dim, start, step, extent)


def _slice(ctx: Context, scope: Scope, node: ir.Node, item: ast.Item) -> ir.Node:
    if item.rename is None:
        raise ctx.fail(
            "E0204",
            "a slice has another extent and needs a name of its own",
            item.span,
            f"write `[{item.axis} = a:b as J]`",
        )
    taken = sliced(ctx, scope, item)
    into = dims.declare_dim(ctx, scope, item.rename, taken.extent, item.span)
    return build.slice_dim(node, taken.dim, taken.start, taken.step, into)


def _check_slice(
    ctx: Context, bounds: tuple[Size, Size, Size], extent: Size, span: Span
) -> None:
    start, stop, step = bounds
    message = "this slice does not lie inside the dim"
    _require_order(ctx, (Lit(0), start, stop, extent), message, span)
    _require_order(ctx, (Lit(1), step), message, span)


def _require_order(
    ctx: Context, sizes: tuple[Size, ...], message: str, span: Span
) -> None:
    """Refuse (E0413), or note for later, sizes of which one is less than the last."""
    for low, high in pairwise(sizes):
        if low == high:
            continue
        inside = apply("<=", low, high)
        if ctx.value_of(inside) is False:
            raise ctx.fail("E0413", message, span, "bounds count from 0 to the extent")
        ctx.require_equal(inside, Lit(True), span, message)


def axis_or_dim(ctx: Context, scope: Scope, expr: ast.Expr) -> str:
    """The name of what a reduction runs over: a dim, `t`, `batch`, a repeat or a copy."""
    match expr:
        case ast.Name(id=name):
            entity = scope.find(name)
            if isinstance(entity, Axis):
                return entity.name
            if isinstance(entity, Static):
                return dims.dim_name(ctx, scope, expr)
            if entity is None and (name == "batch" or is_copy_name(scope, name)):
                return name
        case _:
            pass
    return dims.dim_name(ctx, scope, expr)
