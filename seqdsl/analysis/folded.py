"""Arithmetic on bounds that are numbers, for showing them."""

from __future__ import annotations

import math

from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit


def folded(node: ir.Node) -> ir.Node:
    """A sum, maximum or minimum without what changes nothing."""
    if not isinstance(node, ir.Map) or node.op not in ("add", "max", "min"):
        return node
    values = [_number(a) for a in node.args]
    if None not in values:
        a, b = (v for v in values if v is not None)
        found = (
            a + b if node.op == "add" else max(a, b) if node.op == "max" else min(a, b)
        )
        return ir.Const(value=Lit(found), type=node.type)
    neutral = {"add": 0, "max": -math.inf, "min": math.inf}[node.op]
    for value, this, other in zip(values, node.args, node.args[::-1], strict=True):
        if value == neutral:
            return other
        if value is not None and math.isinf(value):
            return this
    return node


def _number(node: ir.Node) -> float | None:
    match node:
        case ir.Const(value=Lit(value)) if isinstance(value, int | float):
            return value
        case ir.Map(op="neg", args=(arg,)):
            inner = _number(arg)
            return None if inner is None else -inner
        case _:
            return None
