"""Dims named where they first arise: `D as O`, `x[K = 0:2 as J]`, `stack[n as M](h)`.

Order in the file does not matter, so such a dim may be used above the line that names
it. A name that is not known yet is looked up here and declared from what is written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial, reduce

from seqdsl.elaborate import dims, indexing, statics
from seqdsl.elaborate.context import Context
from seqdsl.elaborate.order import nodes_in
from seqdsl.elaborate.scope import Scope
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
        case ast.Call(func=ast.Name(id="concat"), brackets=(*_, item)):
            return item.rename
        case ast.Call(func=ast.Name(id="stack"), brackets=(item,)):
            fresh = item.expr.id if isinstance(item.expr, ast.Name) else None
            return item.rename or fresh
        case _:
            return None


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
            return statics.static(ctx, scope, expr)
        case ast.Item():
            return indexing.sliced(ctx, scope, node).extent
        case ast.Call(func=ast.Name(id="stack"), brackets=(item,), args=args):
            axis = item.expr.id if isinstance(item.expr, ast.Name) else ""
            repeat = late.get(f"{axis} in")
            if isinstance(repeat, ast.RepeatStmt):
                return statics.static(ctx, scope, repeat.count)
            return Lit(len(args))
        case ast.Call(brackets=items, args=args):
            parts = [i.expr for i in items or () if i.expr is not None]
            sizes = [statics.static(ctx, scope, part) for part in parts]
            known = [size for size in sizes if size is not None]
            if len(known) < len(sizes) or not known or not args:
                return None
            return total(known * len(args) if len(known) == 1 else known)
        case _:
            return None


def total(extents: Sequence[Size]) -> Size:
    """The extent of several dims one after another."""
    return reduce(partial(apply, "+"), extents)
