"""Cotangents through convolutions along dims and, for the current step, along time."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from seqdsl.differentiate.broadcast import (
    Dims,
    conjugate,
    mul,
    ones,
    pointwise,
    select,
    spread,
    typed,
)
from seqdsl.differentiate.vjp_index import whole
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit, apply
from seqdsl.ir.types import BATCH, TIME

Steps = Literal["own", "all"]
"""Of what a convolution reads along time: the current step, or all of them."""


def pull_conv(
    node: ir.Conv, index: int, ct: ir.Node, dims: Dims, steps: Steps
) -> ir.Node:
    """The cotangent of the argument (0) or of the weight (1).

    Along time an output reads several steps of the argument. Where only the current one
    is the operand, its cotangent takes the last tap of that axis.
    """
    spatial = [a for a in node.axes if a != TIME]
    ct = spread(ct, spatial)
    if index == 1:
        return mul(conjugate(_windows(node, dims)), ct)
    if steps == "all" and node.axes == (TIME,):
        return _back_in_time(node, ct)
    weight = conjugate(node.weight if steps == "all" else _last_tap(node, dims))
    if steps == "all" and TIME in node.axes:
        ct = _from_later(node, ct, dims)
    for axis in spatial:
        ct, weight = _transpose(node, axis, ct, weight, dims)
    return mul(weight, ct)


def _back_in_time(node: ir.Conv, ct: ir.Node) -> ir.Node:
    """The cotangents of all outputs that read the argument, in one convolution."""
    read, weight = node.arg.type.dims, conjugate(node.weight)
    made = [d for d in weight.type.dims if d not in (*read, *node.taps)]
    ct = _along_time(spread(ct, made))
    return build.conv(
        ct,
        weight,
        node.axes,
        node.taps,
        made,
        node.dilation,
        node.pad,
        ahead=not node.ahead,
    )


def _from_later(node: ir.Conv, ct: ir.Node, dims: Dims) -> ir.Node:
    """The cotangent of the output that reads the argument through each tap of time."""
    tap = node.taps[node.axes.index(TIME)]
    inner = dims.fresh(tap)
    unit = build.one_hot(build.position(tap, axis=False), inner)
    far = node.dilation, node.pad
    return build.conv(
        _along_time(ct), unit, (TIME,), (inner,), (), *far, ahead=not node.ahead
    )


def _along_time(node: ir.Node) -> ir.Node:
    axes = node.type.axes | {TIME, BATCH}
    return typed(node, replace(node.type, axes=axes))


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
        ahead = node.ahead and axis == TIME
        far = node.dilation, node.pad
        arg = build.conv(arg, unit, (axis,), (inner,), (), *far, ahead=ahead)
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
