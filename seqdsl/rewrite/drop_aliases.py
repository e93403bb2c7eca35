"""Drops equations that only give another name to a value."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from seqdsl.ir import nodes as ir
from seqdsl.ir.values import type_of
from seqdsl.ir.walk import map_roots, transform


def drop_aliases(model: ir.Model, among: Collection[str]) -> ir.Model:
    """`model` in which whoever reads one of `among` that is a mere name reads what it names."""
    alias = {
        e.name: e.expr
        for e in model.equations
        if e.name in among and isinstance(e.expr, ir.Ref) and _same(model, e, e.expr)
    }

    def rule(node: ir.Node) -> ir.Node:
        while isinstance(node, ir.Ref) and node.name in alias:
            node = replace(alias[node.name], span=node.span)
        return node

    kept = replace(
        model, equations=tuple(e for e in model.equations if e.name not in alias)
    )
    return map_roots(kept, lambda root: transform(root, rule))


def _same(model: ir.Model, equation: ir.Equation, named: ir.Ref) -> bool:
    """Whether nothing tells the two apart, not even what lies outside a sequence."""
    states = {equation.name, named.name} & model.state.keys()
    return not states and type_of(model, named.name) == equation.expr.type
