"""Initial values inside repeats in terms of what is known outside of them."""

from __future__ import annotations

from dataclasses import replace

from seqdsl.ir import nodes as ir
from seqdsl.ir.types import TIME
from seqdsl.ir.walk import subtree, transform


def open_initials(model: ir.Model) -> ir.Model:
    """`model` where states that start along time read no equation of their repeat.

    What such an equation stands for takes its place, so that an initial value can be
    had before the repeat runs. Equations that look at some other steps stay names.
    """

    def opened(node: ir.Node) -> ir.Node:
        if not isinstance(node, ir.Ref) or node.name in model.state:
            return node
        equation = model.equation.get(node.name)
        if equation is None or not equation.scope or not _stays(equation.expr):
            return node
        return transform(equation.expr, opened)

    states = tuple(
        replace(s, initial=transform(s.initial, opened)) if TIME in s.carried else s
        for s in model.states
    )
    return replace(model, states=states)


def _stays(expr: ir.Node) -> bool:
    """Whether `expr` is a function of what it names, at this step or over all time."""
    return not any(
        isinstance(n, ir.Shift | ir.Stack | ir.Copy | ir.Result | ir.Sample)
        or (isinstance(n, ir.Conv) and TIME in n.axes)
        or (isinstance(n, ir.At) and n.axis != TIME)
        for n in subtree(expr)
    )
