"""From where to where an int input may be drawn: what it indexes in the model."""

from __future__ import annotations

from seqdsl.ir import nodes as ir
from seqdsl.ir.bind import Bound, bind_instance
from seqdsl.ir.walk import references, roots, subtree

FREE = (0, 5)
"""Where an int that indexes nothing is drawn, half-open."""
COUNT = (0, 4)
"""Steps of a `repeat` whose count comes at run time."""


def int_range(model: ir.Model, bound: Bound, name: str) -> tuple[int, int]:
    """A half-open range in which the input `name` is a valid index wherever it is one.

    Follows equations and sub-layers; arithmetic on the way is taken as the identity, so
    a spec that indexes by `token + 1` needs to say its own range.
    """
    found = _ends(model, bound, {name})
    if any(_counts(model, name)):
        found.append(COUNT[1])
    return (0, min(found, default=FREE[1]))


def _ends(model: ir.Model, bound: Bound, names: set[str]) -> list[int]:
    names = _readers(model, names)
    found: list[int] = []
    for root in roots(model):
        for node in subtree(root):
            match node:
                case ir.Gather(dim=dim, index=index) if _reads(index, names):
                    found.append(bound.dims[dim])
                case ir.OneHot(index=index, dim=dim) if _reads(index, names):
                    found.append(bound.dims[dim])
                case _:
                    pass
    for call in model.calls:
        inner = {callee for callee, arg in call.args if _reads(arg, names)}
        if inner:
            instance = model.instance[call.instance]
            found += _ends(instance.model, bind_instance(instance, bound), inner)
    return found


def _readers(model: ir.Model, names: set[str]) -> set[str]:
    """`names` and the int equations that are made of them."""
    grown = True
    while grown:
        grown = False
        for equation in model.equations:
            whole = equation.expr.type.dtype == "int"
            if whole and equation.name not in names and _reads(equation.expr, names):
                names = names | {equation.name}
                grown = True
    return names


def _reads(node: ir.Node, names: set[str]) -> bool:
    return any(isinstance(r, ir.Ref) and r.name in names for r in references(node))


def _counts(model: ir.Model, name: str) -> list[ir.Repeat]:
    return [
        r
        for r in model.repeats
        if isinstance(r.count, ir.Base) and _reads(r.count, {name})
    ]
