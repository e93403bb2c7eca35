"""Copies of the time axis in the form that is differentiated.

What has a value for every `s` is written where it is summed over `s`, and a softmax
over `s` as a quotient: with its log-sum-exp, which has a value per step, as a name.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from seqdsl.diagnostics import UnsupportedError
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import TIME
from seqdsl.ir.walk import children, map_roots, subtree, transform


def require_known_copies(model: ir.Model) -> None:
    """Raise `UnsupportedError` where a copy of time runs over what it is read for.

    Only the weights then say that later steps take no part, and derivatives of products
    with weights of 0 read those steps.
    """
    for equation in model.equations:
        for node in subtree(equation.expr):
            if not isinstance(node, ir.Copy) or not isinstance(node.arg, ir.Ref):
                continue
            if equation.name in _upstream(model, node.arg.name):
                raise UnsupportedError(
                    f"`{equation.name}` reads a copy of `{node.arg.name}`, which it is "
                    "itself read for: that has no derivative as a model"
                )


def _upstream(model: ir.Model, name: str) -> set[str]:
    """What `name` is computed from at any step of time, earlier steps of repeats left out."""
    seen: set[str] = set()
    todo = [name]
    while todo:
        current = todo.pop()
        if current in seen or current not in model.equation:
            continue
        seen.add(current)
        exprs = [model.equation[current].expr]
        if current in model.state:
            exprs.append(model.state[current].initial)
        todo.extend(r for e in exprs for r in _beside(e))
    return seen


def _beside(node: ir.Node) -> Iterator[str]:
    """Names that `node` reads at its own step of every repeat."""
    match node:
        case ir.Ref(name=name):
            yield name
        case ir.Shift(axis=axis) if axis != TIME:
            return
        case _:
            for child in children(node):
                yield from _beside(child)


def flatten_copies(model: ir.Model) -> ir.Model:
    """`model` in which equations have no copy of time, nor is a softmax over one left.

    Raises `UnsupportedError` for a state with a value for every step of a copy.
    """
    copies = frozenset(model.copies)
    wide = {
        e.name: e.expr
        for e in model.equations
        if e.expr.type.axes & copies or e.name in _wide_states(model, copies)
    }
    for name in wide:
        if name in model.state:
            raise UnsupportedError(f"state `{name}` has a value for every copy of time")

    def rule(node: ir.Node) -> ir.Node:
        if any(isinstance(c, ir.Ref) and c.name in wide for c in _indexed(node)):
            raise UnsupportedError("another step of a value with a copy of time")
        if isinstance(node, ir.Ref) and node.name in wide:
            return transform(wide[node.name], rule)
        if isinstance(node, ir.Along) and set(node.over) & copies:
            return _quotient(node)
        return node

    kept = tuple(e for e in model.equations if e.name not in wide)
    kept_model = replace(model, equations=kept)
    return map_roots(kept_model, lambda root: transform(root, rule))


def _wide_states(model: ir.Model, copies: frozenset[str]) -> frozenset[str]:
    return frozenset(s.name for s in model.states if s.type.axes & copies)


def _indexed(node: ir.Node) -> tuple[ir.Node, ...]:
    """What `node` reads at another index."""
    if isinstance(node, ir.Shift | ir.At | ir.Stack | ir.Copy):
        return children(node)[:1]
    return ()


def _quotient(node: ir.Along) -> ir.Node:
    """softmax as `exp(a - lse)`, log_softmax as `a - lse`; others as they are."""
    if node.op not in ("softmax", "log_softmax"):
        return node
    nothing = build.const(-math.inf)
    total = build.reduce("logsumexp", node.arg, node.over, node.where, node.span)
    safe = build.map_(
        "where", build.map_("eq", total, nothing), build.const(0.0), total
    )
    power: ir.Node = build.map_("sub", node.arg, safe)
    if node.op == "log_softmax":
        empty = build.map_("eq", total, nothing)
        power = build.map_("where", empty, nothing, power)
        return _where(node.where, power, nothing)
    if node.where is not None:
        power = build.map_("where", node.where, power, build.const(0.0))
    return _where(node.where, build.map_("exp", power), build.const(0.0))


def _where(condition: ir.Node | None, value: ir.Node, otherwise: ir.Node) -> ir.Node:
    if condition is None:
        return value
    return build.map_("where", condition, value, otherwise)
