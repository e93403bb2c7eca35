"""Cotangents through convolutions along dims and, for the current step, along time."""

from __future__ import annotations

from seqdsl.differentiate.broadcast import Dims, mul, ones, pointwise, select, spread
from seqdsl.differentiate.vjp_index import whole
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit, apply
from seqdsl.ir.types import TIME


def pull_conv(node: ir.Conv, index: int, ct: ir.Node, dims: Dims) -> ir.Node:
    """The cotangent of the argument (0) or of the weight (1).

    Along time an output reads several steps of the argument; only the current one is
    the operand here, so its cotangent takes the last tap of that axis.
    """
    spatial = [a for a in node.axes if a != TIME]
    ct = spread(ct, spatial)
    if index == 1:
        return mul(_windows(node, dims), ct)
    weight = _last_tap(node, dims)
    for axis in spatial:
        ct, weight = _transpose(node, axis, ct, weight, dims)
    return mul(weight, ct)


def _last_tap(node: ir.Conv, dims: Dims) -> ir.Node:
    if TIME not in node.axes:
        return node.weight
    tap = node.taps[node.axes.index(TIME)]
    last = whole(apply("-", dims.extent(tap), Lit(1)))
    return build.gather(node.weight, tap, last)


def _windows(node: ir.Conv, dims: Dims) -> ir.Node:
    """What every tap reads: the argument convolved with unit filters."""
    arg = node.arg
    for axis, tap in zip(node.axes, node.taps, strict=True):
        inner = dims.fresh(tap)
        unit = build.one_hot(build.position(tap, axis=False), inner)
        arg = build.conv(arg, unit, (axis,), (inner,), (), node.dilation, node.pad)
    return arg


def _transpose(
    node: ir.Conv, axis: str, ct: ir.Node, weight: ir.Node, dims: Dims
) -> tuple[ir.Node, ir.Node]:
    """Cotangent over the argument's positions and the taps, still to be multiplied.

    `reads[i, tap, j]` says that output i reads input j through the tap; the sum over i
    of the cotangent is the adjoint for every kind of padding.
    """
    tap = node.taps[node.axes.index(axis)]
    other = dims.fresh(axis)
    moved = build.rename(ct, [(axis, other)])
    if node.pad in ("zero", "circular"):
        return _mirrored(node, axis, tap, ct, dims), weight
    place = _source(node, axis, tap, other, dims)
    reads = build.one_hot(place, axis)
    return build.contract((reads, moved), (other,)), weight


def _mirrored(node: ir.Conv, axis: str, tap: str, ct: ir.Node, dims: Dims) -> ir.Node:
    """The cotangent seen from the other side through every tap."""
    inner = dims.fresh(tap)
    last = whole(apply("-", dims.extent(tap), Lit(1)))
    turned = build.map_("sub", last, build.position(tap, axis=False))
    unit = build.one_hot(turned, inner)
    return build.conv(ct, unit, (axis,), (inner,), (), node.dilation, node.pad)


def _source(node: ir.Conv, axis: str, tap: str, other: str, dims: Dims) -> ir.Node:
    """The input entry that output `other` reads through `tap`, under padding."""
    half = whole(apply("//", apply("-", dims.extent(tap), Lit(1)), Lit(2)))
    at = build.map_("sub", build.position(tap, axis=False), half)
    offset = build.map_("mul", at, whole(node.dilation))
    row = mul(build.position(other, axis=False), build.map_("int", ones(tap)))
    place = pointwise("add", row, offset)
    last = whole(apply("-", dims.extent(axis), Lit(1)))
    if node.pad == "replicate":
        return build.map_("max", build.map_("min", place, last), build.const(0))
    place = build.map_("abs", place)
    beyond = build.map_("gt", place, last)
    back = build.map_("sub", build.map_("mul", build.const(2), last), place)
    return select(beyond, back, place)
