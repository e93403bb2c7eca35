"""Values with more dims than all they are made of, such as `a[i] + B[i, j]` at every step.

To store them takes far more memory than to compute them again where they are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from seqdsl.differentiate.keep import spreads
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.names import fresh, names_of
from seqdsl.ir.types import BATCH, TIME
from seqdsl.ir.walk import (
    children,
    map_roots,
    references,
    roots,
    subtree,
    transform,
    with_children,
)


def inline_spread(model: ir.Model) -> ir.Model:
    """`model` in which such values have no names: what reads them computes them."""
    inlined = _all_inlined(_sums_named(_all_inlined(model)))
    return map_roots(inlined, lambda root: transform(root, _factored))


def _factored(node: ir.Node) -> ir.Node:
    """A sum of products with the factors outside of it that all its terms share."""
    if not isinstance(node, ir.Contract):
        return node
    factors = [f for arg in node.args for f in _factors(arg)]
    over = set(node.over)
    inner = [f for f in factors if over & {*f.type.dims, *f.type.axes}]
    outer = [f for f in factors if f not in inner]
    if not outer or not inner:
        return node
    result: ir.Node = build.contract(inner, node.over, node.span)
    for factor in reversed(outer):
        result = build.map_("mul", factor, result)
    return replace(result, type=node.type)


def _factors(node: ir.Node) -> Iterator[ir.Node]:
    if isinstance(node, ir.Map) and node.op == "mul" and node.type.dtype == "float":
        for arg in node.args:
            yield from _factors(arg)
    else:
        yield node


def _all_inlined(model: ir.Model) -> ir.Model:
    while (found := _next(model)) is not None:
        model = _inlined(model, found)
    return model


def _sums_named(model: ir.Model) -> ir.Model:
    """`model` with names for sums in the equations of such values, which keep them apart."""
    taken, fixed = names_of(model), _fixed(model)
    equations: list[ir.Equation] = []
    for equation in model.equations:
        sums = [n for n in _leaves(equation.expr) if not isinstance(n, ir.Ref)]
        small = all(
            set(n.type.dims) < set(equation.expr.type.dims)
            for n in _leaves(equation.expr)
            if n.type.axes & {BATCH, TIME}
        )
        if equation.name in fixed or not sums or not small:
            equations.append(equation)
            continue
        named = {n: fresh(f"{equation.name}_part", taken) for n in dict.fromkeys(sums)}
        new: dict[ir.Node, ir.Node] = {
            n: build.ref(name, n.type) for n, name in named.items()
        }
        equations += [
            ir.Equation(name=name, expr=n, span=n.span) for n, name in named.items()
        ]
        expr = _replaced(equation.expr, new)
        equations.append(replace(equation, expr=expr))
    return replace(model, equations=tuple(equations))


def _leaves(node: ir.Node) -> Iterator[ir.Node]:
    """What a value is pointwise made of: names, and sums over dims."""
    if isinstance(node, ir.Ref | ir.Contract | ir.Reduce | ir.Along):
        yield node
        return
    for child in children(node):
        yield from _leaves(child)


def _replaced(node: ir.Node, new: Mapping[ir.Node, ir.Node]) -> ir.Node:
    if node in new:
        return new[node]
    old = children(node)
    made = tuple(_replaced(c, new) for c in old)
    return node if made == old else with_children(node, made)


def _next(model: ir.Model) -> ir.Equation | None:
    fixed = _fixed(model)
    return next(
        (e for e in model.equations if e.name not in fixed and spreads(model, e.name)),
        None,
    )


def _fixed(model: ir.Model) -> set[str]:
    """What must keep its name: outputs, states, what is read at another index."""
    found = {*model.state, *(e.name for e in model.equations if e.scope)}
    for root in roots(model):
        for node in subtree(root):
            if isinstance(node, ir.Shift | ir.At | ir.Stack | ir.Copy):
                found |= {r.name for r in references(node.arg) if isinstance(r, ir.Ref)}
    return found | {
        r.name
        for o in model.outputs
        for r in references(o.expr)
        if isinstance(r, ir.Ref)
    }


def _inlined(model: ir.Model, equation: ir.Equation) -> ir.Model:
    def rule(node: ir.Node) -> ir.Node:
        own = isinstance(node, ir.Ref) and node.name == equation.name
        return equation.expr if own else node

    kept = tuple(e for e in model.equations if e is not equation)
    return map_roots(replace(model, equations=kept), lambda r: transform(r, rule))
