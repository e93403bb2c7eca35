"""Drops conditions that always hold: `t - s < inf`."""

from __future__ import annotations

from dataclasses import replace

from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit
from seqdsl.ir.types import DTYPES
from seqdsl.ir.walk import transform


def fold_conditions(model: ir.Model) -> ir.Model:
    """`model` without comparisons of whole numbers with infinity."""
    return replace(
        model,
        equations=tuple(
            replace(e, expr=transform(e.expr, _fold)) for e in model.equations
        ),
        outputs=tuple(replace(o, expr=transform(o.expr, _fold)) for o in model.outputs),
        calls=tuple(
            replace(c, args=tuple((n, transform(a, _fold)) for n, a in c.args))
            for c in model.calls
        ),
    )


def _fold(node: ir.Node) -> ir.Node:
    match node:
        case ir.Map(op="lt" | "le", args=(a, b)) if _finite(a) and _infinite(b):
            return build.const(True, node.span)
        case ir.Map(op="gt" | "ge", args=(a, b)) if _infinite(a) and _finite(b):
            return build.const(True, node.span)
        case ir.Map(op="and", args=(a, b)) if _true(a):
            return b
        case ir.Map(op="and", args=(a, b)) if _true(b):
            return a
        case _:
            return node


def _true(node: ir.Node) -> bool:
    return (
        isinstance(node, ir.Const)
        and node.value == Lit(True)
        and (node.type.dtype == "bool")
    )


def _finite(node: ir.Node) -> bool:
    return DTYPES.index(node.type.dtype) <= DTYPES.index("int")


def _infinite(node: ir.Node) -> bool:
    return isinstance(node, ir.Const) and node.value == Lit(float("inf"))
