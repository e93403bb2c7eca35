"""Shorter forms of derivatives while they are built: zeros, ones, signs, numbers.

Only products of differentiation pass through here, never what the user wrote, so that
`0 * x` may be 0 whatever x is: the derivative of what x does not influence.
"""

from __future__ import annotations

from collections.abc import Sequence

from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit

_Number = int | float


def number(node: ir.Node) -> _Number | None:
    """The value of a literal number."""
    match node:
        case ir.Const(value=Lit(bool())):
            return None
        case ir.Const(value=Lit(int(value) | float(value))):
            return value
        case _:
            return None


def factored(node: ir.Node) -> tuple[_Number, ir.Node]:
    """`node` as a number times the rest, which is 1 for a number itself."""
    value = number(node)
    if value is not None:
        return value, build.const(1.0 if isinstance(value, float) else 1)
    match node:
        case ir.Map(op="neg", args=(arg,)):
            value, rest = factored(arg)
            return -value, rest
        case ir.Map(op="mul", args=(left, right)):
            value, rest = factored(left)
            if value == 1:
                return 1, node
            return value, _times(rest, right)
        case _:
            return 1, node


def _times(a: ir.Node, b: ir.Node) -> ir.Node:
    """`a * b` without a factor 1 that changes no dtype."""
    if number(a) == 1 and b.type.dtype in ("float", "complex"):
        return b
    if number(b) == 1 and a.type.dtype in ("float", "complex"):
        return a
    if isinstance(b, ir.Map) and b.op == "mul":
        return build.map_("mul", _times(a, b.args[0]), b.args[1])
    return build.map_("mul", a, b)


def scaled(value: _Number, node: ir.Node) -> ir.Node:
    """`value * node` with the number in front of the first factor."""
    if value == 0:
        return build.const(0.0)
    known = number(node)
    if known is not None:
        return build.const(value * known)
    if node.type.dtype in ("float", "complex"):
        if value == 1:
            return node
        value = _short(value)
    if value == -1:
        return build.map_("neg", node)
    match node:
        case ir.Map(op="mul", args=(left, right)):
            return build.map_("mul", scaled(value, left), right)
        case _:
            return build.map_("mul", build.const(value), node)


def _short(value: _Number) -> _Number:
    """A whole number as an int, which reads better and promotes to the same."""
    whole = isinstance(value, float) and value.is_integer() and abs(value) < 2**53
    return int(value) if whole else value


def simpler(op: str, args: Sequence[ir.Node]) -> ir.Node | None:
    """A shorter form of `op(*args)`, which may lack dims; None where there is none."""
    values = [number(a) for a in args]
    match op, args:
        case "mul", (a, b):
            (left, rest), (right, other) = factored(a), factored(b)
            return scaled(left * right, _times(rest, other))
        case "neg", (a,):
            value, rest = factored(a)
            return scaled(-value, rest)
        case "add" | "sub", (a, b):
            return _simpler_sum(op, a, b)
        case "div", (a, _) if values[1] == 1 or values[0] == 0:
            return build.const(0.0) if values[0] == 0 else _as_float(a)
        case "pow", (a, _) if values[1] == 1:
            return a
        case "where", (_, a, _) if values[1] is not None and values[1] == values[2]:
            return a
        case _:
            return None


def _as_float(node: ir.Node) -> ir.Node | None:
    return node if node.type.dtype in ("float", "complex") else None


def _simpler_sum(op: str, a: ir.Node, b: ir.Node) -> ir.Node | None:
    left, right = number(a), number(b)
    if left is not None and right is not None:
        return build.const(left + right if op == "add" else left - right)
    if right == 0:
        return _as_float(a)
    if left == 0 and _as_float(b):
        return b if op == "add" else simpler("neg", (b,))
    match b:
        case ir.Map(op="neg", args=(inner,)) if _one_holds(a, inner):
            return build.map_("sub" if op == "add" else "add", a, inner)
        case _:
            return None


def _one_holds(a: ir.Node, b: ir.Node) -> bool:
    left, right = set(a.type.dims), set(b.type.dims)
    return left <= right or right <= left
