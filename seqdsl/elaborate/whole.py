"""Which options are whole numbers, read off their places before anything is elaborated.

An option that stands as a dim anywhere in its layer is the extent of something, so
arithmetic over it is int wherever else it is used: `t % N` can then be an index.
"""

from __future__ import annotations

from collections.abc import Iterator

from seqdsl.elaborate.context import Context
from seqdsl.elaborate.order import nodes_in
from seqdsl.elaborate.program import File
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Apply, Lit, Opt, Size
from seqdsl.ir.types import DType, Type
from seqdsl.source import NOWHERE, Span
from seqdsl.syntax import ast

_WHOLE = ("+", "-", "*", "//", "%", "min", "max", "neg", "abs")
_ROUNDED = ("floor", "ceil", "round")
_BOOL = ("<", "<=", ">", ">=", "==", "!=", "and", "or", "not")
_SHAPE_AT = {"linear": 1, "conv": 1, "embed": 1}


def names_of_dims(file: File, decl: ast.LayerDecl) -> frozenset[str]:
    """Names that stand where only a dim can stand."""
    found = {name.id for name in decl.brackets}
    for node in nodes_in(decl.body):
        found.update(e.id for e in _places(file, node) if isinstance(e, ast.Name))
    return frozenset(found)


def _places(file: File, node: ast.Ast) -> Iterator[ast.Expr | None]:
    """Expressions directly below `node` that are dims."""
    match node:
        case ast.DimItem(expr=expr):
            yield expr
        case ast.DimMap(source=source, target=target):
            yield from (*source, *target)
        case ast.RepeatStmt(count=count):
            yield count
        case ast.Index(value=ast.Name(id="index"), items=items):
            yield from (item.expr for item in items)
        case ast.Call(func=ast.Name(id=name), brackets=items, args=args):
            yield from (item.expr for item in items or ())
            if name in _SHAPE_AT and file.lookup(name) is None:
                yield from args[_SHAPE_AT[name] :]
        case _:
            pass


def constant(ctx: Context, size: Size, span: Span = NOWHERE) -> ir.Const:
    """A scalar known when the layer is made: bool, int or float by what it is made of."""
    return ir.Const(value=size, type=Type(_dtype(ctx, size)), span=span)


def _dtype(ctx: Context, size: Size) -> DType:
    match size:
        case Lit(bool()):
            return "bool"
        case Apply(op=op) if op in _BOOL:
            return "bool"
        case _:
            return "int" if _is_whole(ctx, size) else "float"


def _is_whole(ctx: Context, size: Size) -> bool:
    match size:
        case Lit(value):
            return isinstance(value, int)
        case Opt(name):
            return name in ctx.whole
        case Apply(op, args):
            return op in _ROUNDED or (
                op in _WHOLE and all(_is_whole(ctx, a) for a in args)
            )
