"""A cotangent handed down an expression to everything that the expression reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from seqdsl.differentiate.broadcast import Dims
from seqdsl.differentiate.vjp import Wanted, vjp
from seqdsl.ir import nodes as ir
from seqdsl.ir.walk import children

Leaf = ir.Ref | ir.Shift | ir.At | ir.Stack | ir.Copy


@dataclass(frozen=True)
class Reading:
    """That `leaf` is read, once for each index of `around`, with the cotangent `ct`.

    `ct` may lack dims and axes along which it is constant.
    """

    leaf: Leaf
    ct: ir.Node
    around: frozenset[str]


def readings(
    node: ir.Node, ct: ir.Node, around: frozenset[str], dims: Dims, wanted: Wanted
) -> Iterator[Reading]:
    """What `node`, whose cotangent is `ct`, reads of what is wanted.

    Raises `build.Issue` (E0315) where an operator cannot be differentiated.
    """
    if isinstance(node, Leaf):
        if wanted(node):
            yield Reading(node, ct, around)
        return
    if isinstance(node, ir.Reduce | ir.Contract):
        known = node.type.dims, *(c.type.dims for c in children(node))
        held = {d for shape in known for d in shape} | dims.copies
        around |= {a for a in node.over if a not in held}
    pulled = vjp(node, ct, dims, wanted, steps="all")
    for child, own in zip(children(node), pulled, strict=True):
        if own is not None:
            yield from readings(child, own, around, dims, wanted)
