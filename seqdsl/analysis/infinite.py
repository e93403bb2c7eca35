"""Which values may be minus infinity: where nothing was seen, or what was left out."""

from __future__ import annotations

import math
from collections.abc import Mapping

from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit
from seqdsl.ir.walk import children

_FINITE = frozenset(
    [
        "sigmoid",
        "tanh",
        "erf",
        "sin",
        "cos",
        "sign",
        "lt",
        "le",
        "gt",
        "ge",
        "eq",
        "ne",
        "and",
        "or",
        "not",
        "bool",
        "index",
    ]
)
"""Operators whose results are finite whatever they are given."""
_LOGARITHMS = frozenset(("log", "logaddexp"))


def may_be_infinite(
    model: ir.Model, node: ir.Node, others: Mapping[str, ir.Node]
) -> bool:
    """Whether an infinity or a logarithm has part in `node`; inputs and parameters are finite.

    `others` are values by name that the model does not have.
    """
    equations = {**others, **{e.name: e.expr for e in model.equations}}
    return _infinite(model, node, equations, set())


def _infinite(
    model: ir.Model, node: ir.Node, equations: Mapping[str, ir.Node], seen: set[str]
) -> bool:
    match node:
        case ir.Const(value=Lit(value=float() as value)):
            return math.isinf(value)
        case ir.Map(op=op) if op in _FINITE:
            return False
        case ir.Map(op=op) if op in _LOGARITHMS:
            return True
        case ir.Reduce(op="logsumexp") | ir.Along(op="log_softmax" | "logcumsumexp"):
            return True
        case ir.Reduce(op="max" | "min", where=where) if where is not None:
            return True
        case ir.Along(op="softmax"):
            return False
        case ir.Ref(name=name) if name in equations:
            if name in seen:
                return False
            seen.add(name)
            parts = [equations[name]]
            if name in model.state:
                parts.append(model.state[name].initial)
        case ir.Result():
            return True
        case _:
            parts = list(children(node))
    return any(_infinite(model, part, equations, seen) for part in parts)
