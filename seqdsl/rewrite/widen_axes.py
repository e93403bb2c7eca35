"""Completes the axes in the types of nodes where inlining has made values vary."""

from __future__ import annotations

from dataclasses import replace

from seqdsl.ir import nodes as ir
from seqdsl.ir.types import BATCH, TIME
from seqdsl.ir.values import type_of
from seqdsl.ir.walk import children, map_roots, transform


def widen_axes(model: ir.Model) -> ir.Model:
    """`model` in which every node's type has all axes of what the node reads.

    An argument of a sub-layer, or a parameter that is untied outside of it, may vary
    along more axes than the sub-layer's own expressions say.
    """
    names = (*model.input, *model.param, *model.equation)
    while True:
        known = {name: type_of(model, name).axes for name in names}

        def rule(node: ir.Node, known: dict[str, frozenset[str]] = known) -> ir.Node:
            axes = node.type.axes | _axes(node, known)
            if axes == node.type.axes:
                return node
            return replace(node, type=replace(node.type, axes=axes))

        wide = map_roots(model, lambda root: transform(root, rule))
        if all(type_of(wide, name).axes == axes for name, axes in known.items()):
            return wide
        model = wide


def _axes(node: ir.Node, known: dict[str, frozenset[str]]) -> frozenset[str]:
    """The axes of a node whose operands are complete."""
    below = frozenset[str]().union(*(c.type.axes for c in children(node)))
    match node:
        case ir.Ref(name=name):
            return known[name]
        case ir.Reduce(over=over) | ir.Contract(over=over):
            return below - set(over)
        case ir.Shift(axis=axis):
            return below | {axis} | ({BATCH} if axis == TIME else set[str]())
        case ir.At(arg=arg, axis=axis, index=index):
            of_index = frozenset[str]() if index is None else index.type.axes
            return (arg.type.axes - {axis}) | of_index
        case ir.Stack(axis=axis):
            return below - {axis}
        case ir.Copy(copy=copy):
            return below - {TIME} | {copy}
        case _:
            return below
