"""Gives every convolution along time an equation of its own.

Such a convolution remembers its last inputs when a layer streams; the name says where.
"""

from __future__ import annotations

from dataclasses import replace

from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.names import fresh, names_of
from seqdsl.ir.types import TIME
from seqdsl.ir.walk import transform


def name_convs(model: ir.Model) -> ir.Model:
    """`model` in which a `Conv` along time is always the whole of an equation."""
    taken = names_of(model)
    added: list[ir.Equation] = []

    def named(expr: ir.Node, owner: str, scope: tuple[str, ...]) -> ir.Node:
        def rule(node: ir.Node) -> ir.Node:
            if not isinstance(node, ir.Conv) or TIME not in node.axes:
                return node
            name = fresh(f"{owner}_conv", taken)
            added.append(
                ir.Equation(
                    name=name, expr=node, scope=scope, written=False, span=node.span
                )
            )
            return build.ref(name, node.type, node.span)

        return transform(expr, rule)

    equations: list[ir.Equation] = []
    for equation in model.equations:
        expr = equation.expr
        if isinstance(expr, ir.Conv) and TIME in expr.axes:
            arg = named(expr.arg, equation.name, equation.scope)
            expr = expr if arg is expr.arg else replace(expr, arg=arg)
        else:
            expr = named(expr, equation.name, equation.scope)
        kept = equation if expr is equation.expr else replace(equation, expr=expr)
        equations.extend([*added, kept])
        added.clear()
    calls = tuple(
        replace(c, args=tuple((n, named(a, c.name, c.scope)) for n, a in c.args))
        for c in model.calls
    )
    outputs = tuple(replace(o, expr=named(o.expr, o.name, ())) for o in model.outputs)
    return replace(model, equations=(*equations, *added), calls=calls, outputs=outputs)
