"""What tells two operators apart, apart from their operands."""

from __future__ import annotations

from dataclasses import fields, replace

from seqdsl.ir import nodes as ir


def narrow(node: ir.Node, names: tuple[str, ...]) -> ir.Node:
    """`node` typed with the dims along which it really varies.

    Nonlinear factors are only compared and shown, never evaluated.
    """
    return replace(node, type=replace(node.type, dims=names))


def operator(node: ir.Node) -> str:
    """The name of what a node does."""
    match node:
        case ir.Map(op=op) | ir.Reduce(op=op) | ir.Along(op=op):
            return op
        case _:
            return type(node).__name__.lower()


_OPERANDS = ("args", "arg", "where", "index", "weight", "of", "wrt", "span", "type")


def facts(node: ir.Node) -> tuple[object, ...]:
    """Everything about a node but its operands."""
    own = (getattr(node, f.name) for f in fields(node) if f.name not in _OPERANDS)
    return (type(node).__name__, node.type, *own)
