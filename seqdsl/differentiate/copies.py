"""Copies of the time axis in the form that is differentiated.

What has a value for every `s` is written where it is summed over `s`, states aside, and a
softmax over `s` as a quotient: with its log-sum-exp, which has a value per step, as a name.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from seqdsl.diagnostics import UnsupportedError
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import TIME
from seqdsl.ir.walk import children, map_roots, roots, subtree, transform


def require_known_rows(model: ir.Model) -> None:
    """Raise `UnsupportedError` where rows of a state start from what they are read for.

    Only its update then says that a row is not read before its step, and its derivative
    at the first step is that of values at all later ones.
    """
    copies = frozenset(model.copies)
    for state in model.states:
        if not state.type.axes & copies:
            continue
        for node in subtree(state.initial):
            if not isinstance(node, ir.Copy) or not isinstance(node.arg, ir.Ref):
                continue
            if state.name in upstream(model, node.arg.name):
                raise UnsupportedError(
                    f"`{state.name}` starts from a copy of `{node.arg.name}`, which it "
                    "is itself read for: that has no derivative as a model"
                )


def upstream(model: ir.Model, name: str) -> set[str]:
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
    """`model` in which only states, and what is read of another step, vary along copies.

    Other equations are written out where they are read, and no softmax over a copy is left.
    """
    copies = frozenset(model.copies)
    elsewhere = {
        read.arg.name
        for root in roots(model)
        for read in subtree(root)
        if isinstance(read, ir.Shift | ir.At | ir.Stack | ir.Copy)
        and isinstance(read.arg, ir.Ref)
    }
    wide = {
        e.name: e.expr
        for e in model.equations
        if e.expr.type.axes & copies
        and e.name not in model.state
        and e.name not in elsewhere
    }

    def rule(node: ir.Node) -> ir.Node:
        if isinstance(node, ir.Ref) and node.name in wide:
            return transform(wide[node.name], rule)
        if isinstance(node, ir.Along) and set(node.over) & copies:
            return _quotient(node)
        return node

    kept = tuple(e for e in model.equations if e.name not in wide)
    kept_model = replace(model, equations=kept)
    return map_roots(kept_model, lambda root: transform(root, rule))


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
