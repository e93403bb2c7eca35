"""Dims named where they first arise: `D as O`, `x[K = 0:2 as J]`, `stack[n as M](h)`.

Order in the file does not matter, so such a dim may be used above the line that names
it. A name that is not known yet is looked up here and declared from what is written.
"""

from __future__ import annotations

from collections.abc import Mapping

from seqdsl.elaborate import dims, indexing
from seqdsl.elaborate.context import Context, Scope
from seqdsl.elaborate.order import nodes_in
from seqdsl.ir.sizes import Lit, Size, apply
from seqdsl.syntax import ast


def collect(body: tuple[ast.Stmt, ...]) -> dict[str, ast.Ast]:
    """The node that names each such dim; counts of repeats by their axis."""
    found: dict[str, ast.Ast] = {}
    for node in nodes_in(body):
        name = _named(node)
        if name is not None:
            found.setdefault(name, node)
        if isinstance(node, ast.RepeatStmt):
            found.setdefault(f"{node.axis} in", node)
    return found


def _named(node: ast.Ast) -> str | None:
    match node:
        case ast.DimItem(rename=str(name)) | ast.Item(slice=ast.Slice(), rename=name):
            return name
        case ast.Call(func=ast.Name(id="concat" | "stack"), brackets=(item,)):
            new = item.expr if isinstance(item.expr, ast.Name) else None
            fresh = new.id if new and isinstance(node.func, ast.Name) else None
            return item.rename or (fresh if _function(node) == "stack" else None)
        case _:
            return None


def _function(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else ""


def declare(ctx: Context, scope: Scope, name: str) -> str | None:
    """The IR name of the dim `name` if some line of this layer or def names it."""
    root = dims.layer_scope(scope)
    node = root.late.get(name)
    if node is None or name in root.pending:
        return None
    root.pending.add(name)
    size = _extent(ctx, root, node, root.late)
    if size is None or root.find(name) is not None:
        return None
    return dims.declare_dim(ctx, root, name, size, node.span)


def _extent(
    ctx: Context, scope: Scope, node: ast.Ast, late: Mapping[str, ast.Ast]
) -> Size | None:
    match node:
        case ast.DimItem(expr=expr) if expr is not None:
            return dims.static(ctx, scope, expr)
        case ast.Item():
            return indexing.sliced(ctx, scope, node).extent
        case ast.Call(brackets=(item,), args=args):
            axis = item.expr.id if isinstance(item.expr, ast.Name) else ""
            repeat = late.get(f"{axis} in")
            if isinstance(repeat, ast.RepeatStmt):
                return dims.static(ctx, scope, repeat.count)
            if _function(node) == "stack":
                return Lit(len(args))
            each = None if item.expr is None else dims.static(ctx, scope, item.expr)
            return None if each is None else total(each, len(args))
        case _:
            return None


def total(extent: Size, count: int) -> Size:
    """`count` extents one after another."""
    result = extent
    for _ in range(count - 1):
        result = apply("+", result, extent)
    return result
