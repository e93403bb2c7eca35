"""Initial values inside repeats in terms of what is known outside of them."""

from __future__ import annotations

from dataclasses import replace

from seqdsl.ir import nodes as ir
from seqdsl.ir.types import TIME
from seqdsl.ir.walk import children, subtree, with_children


def open_initials(model: ir.Model) -> ir.Model:
    """`model` where states that start along time read no equation of their repeat.

    What such an equation stands for takes its place, so that an initial value can be
    had before the repeat runs. What is read at other steps, and equations that look at some,
    stay names.
    """

    def opened(node: ir.Node) -> ir.Node:
        match node:
            case ir.Shift() | ir.At() | ir.Stack() | ir.Copy():
                return node
            case ir.Ref(name=name):
                equation = model.equation.get(name)
                if equation is None or name in model.state:
                    return node
                stays = not equation.scope or not _stays(equation.expr)
                return node if stays else opened(equation.expr)
            case _:
                old = children(node)
                new = tuple(map(opened, old))
                same = all(a is b for a, b in zip(old, new, strict=True))
                return node if same else with_children(node, new)

    states = tuple(
        replace(s, initial=opened(s.initial)) if TIME in s.carried else s
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
