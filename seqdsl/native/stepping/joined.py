"""Values side by side along a dim, each written to its place by the block that computes it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.walk import children, with_children
from seqdsl.schedule.sized import cast

if TYPE_CHECKING:
    from seqdsl.native.stepping.layer import Layer


def joined(layer: Layer, name: str, node: ir.Node) -> ir.Node:
    """`node`, of the equation `name`, with what is put side by side in it in memory."""
    old = children(node)
    if isinstance(node, ir.Shift | ir.At) or not old:
        return node
    new = tuple(joined(layer, name, c) for c in old)
    if any(a is not b for a, b in zip(old, new, strict=True)):
        node = with_children(node, new)
    wide = node.type.dtype == "complex"
    return (
        _placed(layer, name, node) if isinstance(node, ir.Concat) and not wide else node
    )


def _placed(layer: Layer, name: str, node: ir.Concat) -> ir.Node:
    """The joined dim comes first in memory, so that its parts lie one after another."""
    rest = tuple(d for d in node.type.dims if d != node.into)
    dims, dtype = (node.into, *rest), node.type.dtype
    whole = layer.at.work.store.fixed(layer.at.extents(dims), dtype)
    size = whole.stride // whole.shape[0]
    start = 0
    for number, (arg, dim) in enumerate(zip(node.args, node.dims, strict=True)):
        own = (dim or "1", *rest)
        shape = tuple(layer.at.extents(own))
        place = replace(whole, offset=whole.offset + start * size, shape=shape)
        base = f"{name}.part{len(layer.at.env)}.{number}"
        layer.force(base, cast(arg, dtype), own, place)
        start += shape[0]
    layer.flush()
    made = f"{name}.joined{len(layer.at.env)}"
    layer.at.env["ref", made] = whole
    return build.ref(made, replace(node.type, dims=dims))
