"""Jacobian-vector products: from a node and the tangents of what it reads to its own.

Most nodes are linear in each operand. What is not takes its slopes from the rules for
cotangents, so that every derivative stands in one place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from seqdsl.differentiate.broadcast import (
    ONE,
    ZERO,
    Dims,
    add,
    conjugate,
    masked,
    mul,
    pointwise,
    select,
    summed,
    typed,
)
from seqdsl.differentiate.partials import partial
from seqdsl.differentiate.readings import Leaf
from seqdsl.differentiate.vjp import refusal, vjp
from seqdsl.differentiate.vjp_along import pull_along, push_along
from seqdsl.differentiate.vjp_reduce import pull_reduce
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import Type
from seqdsl.ir.walk import children, subtree, with_children

Read = Callable[[Leaf], ir.Node | None]
"""The tangent of what is read by name, None where it is 0."""


def jvp(node: ir.Node, read: Read, dims: Dims) -> ir.Node | None:
    """The tangent of `node`, perhaps without dims along which it is constant; None is 0.

    Raises `build.Issue` (E0315) where an operator cannot be differentiated.
    """
    if isinstance(node, Leaf):
        return read(node)
    old = children(node)
    tangents = [
        jvp(c, read, dims) if c.type.dtype in ("float", "complex") else None
        for c in old
    ]
    if all(t is None for t in tangents):
        return None
    match node:
        case ir.Map():
            return _map(node, tangents)
        case ir.Reduce() | ir.Along():
            assert tangents[0] is not None
            return _entries(node, _whole(tangents[0], node.arg), dims)
        case ir.Contract() | ir.Conv():
            return _each(node, tangents)
        case ir.ExternCall() | ir.Grad():
            raise refusal(node)
        case ir.OneHot():
            return None
        case ir.Gather():
            return _gathered(node, tangents)
        case ir.Concat():
            return with_children(node, tuple(map(_whole, tangents, old)))
        case _:
            return with_children(node, (_whole(tangents[0], old[0]), *old[1:]))


def _whole(tangent: ir.Node | None, of: ir.Node) -> ir.Node:
    """A tangent with the dtype, all dims and all axes of what it is of."""
    if tangent is None:
        tangent = ZERO
    if of.type.dtype == "complex" and tangent.type.dtype != "complex":
        tangent = build.map_("complex", tangent, ZERO)
    return typed(tangent, of.type)


def _gathered(node: ir.Gather, tangents: list[ir.Node | None]) -> ir.Node | None:
    if tangents[0] is None:
        return None
    return with_children(node, (_whole(tangents[0], node.arg), node.index))


def _each(node: ir.Contract | ir.Conv, tangents: list[ir.Node | None]) -> ir.Node:
    """What is linear in every operand: a sum with each of them moved."""
    total: ir.Node | None = None
    old = children(node)
    for i, tangent in enumerate(tangents):
        if tangent is not None:
            new = (*old[:i], _whole(tangent, old[i]), *old[i + 1 :])
            total = add(total, with_children(node, new))
    assert total is not None
    return total


# ---- Pointwise


def _map(node: ir.Map, tangents: list[ir.Node | None]) -> ir.Node | None:
    parts = [ZERO if t is None else t for t in tangents]
    match node.op:
        case "where":
            return select(node.args[0], parts[1], parts[2])
        case "complex":
            return pointwise("complex", *parts)
        case "real" | "imag" | "conj":
            return build.map_(node.op, _whole(parts[0], node.args[0]))
        case "abs" if node.args[0].type.dtype == "complex":
            return _length(node, _whole(parts[0], node.args[0]))
        case _:
            return _by_table(node, tangents)


def _by_table(node: ir.Map, tangents: list[ir.Node | None]) -> ir.Node | None:
    total: ir.Node | None = None
    for i, tangent in enumerate(tangents):
        slope = None if tangent is None else partial(node, i)
        if tangent is not None and slope is not None:
            total = add(total, mul(slope, tangent))
    return total


def _length(node: ir.Map, tangent: ir.Node) -> ir.Node:
    """The length of a complex number grows with what points its way."""
    zero = pointwise("eq", node, ZERO)
    length = select(zero, ONE, node)
    along = mul(conjugate(node.args[0]), tangent)
    return pointwise("div", build.map_("real", along), length)


# ---- Over entries


def _entries(
    node: ir.Reduce | ir.Along, tangent: ir.Node, dims: Dims
) -> ir.Node | None:
    match node:
        case ir.Reduce(op="sum" | "mean") | ir.Along(op="cumsum"):
            return replace(node, arg=tangent)
        case ir.Reduce():
            slope = pull_reduce(node, ONE, dims)
            if slope is None:
                return None
            return summed(mul(conjugate(slope), tangent), node.over)
        case ir.Along(op="softmax" | "top"):
            return pull_along(node, tangent, dims)
        case ir.Along(op="log_softmax"):
            share = mul(build.map_("exp", node), tangent)
            mean = summed(share, node.over)
            return masked(node.where, pointwise("sub", tangent, mean))
        case ir.Along(op="cummax" | "cummin" | "logcumsumexp"):
            return push_along(node, tangent, dims)
        case _:
            return _transposed(node, tangent, dims)


def _transposed(node: ir.Along, tangent: ir.Node, dims: Dims) -> ir.Node:
    """The adjoint of the cotangent's rule, which is linear in the cotangent."""
    ct = ir.Ref(name="", type=node.type)
    pulled = pull_along(node, ct, dims)
    total: ir.Node | None = None

    def holds(part: ir.Node) -> bool:
        return any(sub == ct for sub in subtree(part))

    stack = [(pulled, tangent)]
    while stack:
        part, own = stack.pop()
        if part == ct:
            total = add(total, own)
            continue
        below = vjp(part, own, dims, holds)
        stack.extend((c, b) for c, b in zip(children(part), below, strict=True) if b)
    assert total is not None
    return typed(total, Type(node.type.dtype, node.type.dims, total.type.axes))
