"""Derivatives of pointwise operators, from the table's own text to nodes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from seqdsl.differentiate.broadcast import mul, neg, pointwise, select
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.ops import MAPS
from seqdsl.syntax import ast
from seqdsl.syntax.parse import parse_expression

_BINARY = {
    row.symbol: row.name for row in MAPS.values() if row.symbol and row.arity == 2
}


@cache
def _parsed(text: str) -> ast.Expr:
    return parse_expression(text)


def partial(node: ir.Map, index: int) -> ir.Node | None:
    """The derivative of `node` with respect to argument `index`; None if it is zero."""
    text = MAPS[node.op].partials[index]
    if text is None:
        return None
    names = dict(zip("abc", node.args, strict=False)) | {"y": node}
    return _translate(_parsed(text), names)


def _translate(expr: ast.Expr, names: Mapping[str, ir.Node]) -> ir.Node:
    match expr:
        case ast.Name(id=name):
            return names[name]
        case ast.Number(value=value):
            return build.const(value)
        case ast.Unary(operand=operand):
            return neg(_translate(operand, names))
        case ast.Binary(op="*", left=left, right=right):
            return mul(_translate(left, names), _translate(right, names))
        case ast.Binary(op=op, left=left, right=right):
            return _binary(op, left, right, names)
        case ast.Compare(ops=(op,), operands=(left, right)):
            return _binary(op, left, right, names)
        case ast.Call(func=ast.Name(id=op), args=args):
            return pointwise(op, *(_translate(a, names) for a in args))
        case _:
            raise AssertionError(f"not a derivative: {expr}")


def _binary(
    op: str, left: ast.Expr, right: ast.Expr, names: Mapping[str, ir.Node]
) -> ir.Node:
    a, b = _translate(left, names), _translate(right, names)
    return pointwise(_BINARY[op], a, b)


def pull_back(node: ir.Map, index: int, ct: ir.Node) -> ir.Node | None:
    """The cotangent of argument `index`, before it is fitted to that argument.

    Complex numbers follow torch: the cotangent times the conjugate of the derivative.
    """
    match node.op, index:
        case "where", 1:
            return select(node.args[0], ct, build.const(0.0))
        case "where", 2:
            return select(node.args[0], build.const(0.0), ct)
        case "real", _:
            return build.map_("complex", ct, build.const(0.0))
        case "imag", _:
            return build.map_("complex", build.const(0.0), ct)
        case "conj", _:
            return build.map_("conj", ct)
        case "abs", _ if node.args[0].type.dtype == "complex":
            return _complex_abs(node, ct)
        case _:
            return _by_table(node, index, ct)


def _by_table(node: ir.Map, index: int, ct: ir.Node) -> ir.Node | None:
    slope = partial(node, index)
    if slope is None:
        return None
    if slope.type.dtype == "complex":
        slope = build.map_("conj", slope)
    return mul(slope, ct)


def _complex_abs(node: ir.Map, ct: ir.Node) -> ir.Node:
    zero = pointwise("eq", node, build.const(0.0))
    length = select(zero, build.const(1.0), node)
    return mul(pointwise("div", node.args[0], length), ct)
