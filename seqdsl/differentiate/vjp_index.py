"""Cotangents through slices, concatenation and look-ups."""

from __future__ import annotations

from seqdsl.differentiate.broadcast import ZERO, Dims, pointwise, select, spread
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit, Size, apply


def whole(size: Size) -> ir.Node:
    """A size as an int value."""
    node = build.const(size)
    return node if node.type.dtype == "int" else build.map_("int", node)


def pull_slice(node: ir.SliceDim, ct: ir.Node, dims: Dims) -> ir.Node:
    """The cotangent with 0 in the entries that the slice left out."""
    ct = spread(ct, (node.into,))
    at = build.position(node.dim, axis=False)
    offset = build.map_("sub", at, whole(node.start))
    step = whole(node.step)
    index = build.map_("floordiv", offset, step)
    last = whole(apply("-", dims.extent(node.into), Lit(1)))
    exact = build.map_("eq", build.map_("mul", index, step), offset)
    inside = build.map_("and", build.map_("ge", index, build.const(0)), exact)
    inside = build.map_("and", inside, build.map_("le", index, last))
    index = build.map_("max", build.map_("min", index, last), build.const(0))
    if node.into != node.dim and node.dim not in ct.type.dims:
        return select(inside, build.gather(ct, node.into, index), ZERO)
    # The slice kept the dim's name, which is also the index's: look up under another.
    other = dims.fresh(node.into)
    ct = build.rename(ct, [(node.into, other)])
    return select(inside, build.gather(ct, other, index), ZERO)


def pull_concat(node: ir.Concat, index: int, ct: ir.Node, dims: Dims) -> ir.Node:
    """The part of the cotangent that stands where argument `index` stands."""
    if node.into not in ct.type.dims:
        return ct
    start: Size = Lit(0)
    for dim in node.dims[:index]:
        start = apply("+", start, dims.extent(dim) if dim else Lit(1))
    if not node.dims[index]:
        return build.gather(ct, node.into, whole(start))
    return build.slice_dim(ct, node.into, start, Lit(1), node.dims[index])


def pull_gather(node: ir.Gather, ct: ir.Node, dims: Dims) -> ir.Node:
    """The cotangent added up at every entry over the indices that read it."""
    index = node.index
    ct = spread(ct, index.type.dims)
    if node.dim in index.type.dims:
        other = dims.fresh(node.dim)
        index = build.rename(index, [(node.dim, other)])
        ct = build.rename(ct, [(node.dim, other)])
    picked = build.one_hot(index, node.dim)
    over = [d for d in index.type.dims if d not in node.arg.type.dims]
    product = pointwise("mul", picked, ct)
    return build.reduce("sum", product, over) if over else product
