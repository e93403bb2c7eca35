"""Arithmetic on cotangents that may lack dims along which they are constant.

A cotangent stands for a value of its operand's dims even where it names only some of
them. That keeps derivatives as short as a person would write them; `spread` adds the
dims that an operator needs to see.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from seqdsl.differentiate.simple import factored, scaled, simpler
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.names import fresh
from seqdsl.ir.sizes import Lit, Size
from seqdsl.ir.types import BATCH, TIME, Type, merge_dims
from seqdsl.ir.walk import transform
from seqdsl.source import NOWHERE, Span

ZERO = build.const(0.0)
ONE = build.const(1.0)
INFINITY = build.const(math.inf)


@dataclass
class Dims:
    """Extents of dims by name, to which derivatives add second names of the same size.

    `copies` are the copies of time, the only axes over which a cotangent is summed; those
    that derivatives add are in `more` too, under names that are not `taken`.
    """

    extents: Mapping[str, Size]
    copies: frozenset[str] = frozenset()
    added: dict[str, Size] = field(default_factory=dict[str, Size])
    taken: set[str] = field(default_factory=set[str])
    more: list[str] = field(default_factory=list[str])

    def extent(self, dim: str) -> Size:
        """How many entries `dim` has."""
        if dim in self.added:
            return self.added[dim]
        return self.extents[dim] if dim in self.extents else Lit(int(dim))

    def fresh(self, dim: str, extent: Size | None = None) -> str:
        """A new name for a dim of the size of `dim` (or of `extent`)."""
        number = 2
        while f"{dim}_{number}" in self.extents or f"{dim}_{number}" in self.added:
            number += 1
        name = f"{dim}_{number}"
        self.added[name] = self.extent(dim) if extent is None else extent
        return name

    def another(self, copy: str) -> str:
        """One more copy of time, called after `copy`."""
        name = fresh(f"{copy}_later", self.taken)
        self.copies |= {name}
        self.more.append(name)
        return name


def ones(dim: str) -> ir.Node:
    """1 along `dim`."""
    position = build.position(dim, axis=False)
    return build.map_("float", build.map_("ge", position, build.const(0)))


def spread(node: ir.Node, dims: Iterable[str]) -> ir.Node:
    """`node` with all of `dims` present."""
    for dim in dims:
        if dim not in node.type.dims:
            node = _spread_one(node, dim)
    return node


def shaped(node: ir.Node, dims: Sequence[str]) -> ir.Node:
    """`node` with exactly `dims`, in that order."""
    node = spread(node, dims)
    if node.type.dims == tuple(dims):
        return node
    if not isinstance(node, ir.Map | ir.Contract):
        # Only of these is the order of the result's dims a free choice.
        node = _again(node)
    return replace(node, type=replace(node.type, dims=tuple(dims)))


def _again(node: ir.Node) -> ir.Node:
    """`node` as an operator of itself."""
    if node.type.dtype == "bool":
        return build.map_("and", node, node)
    return build.map_("mul", build.const(1), node)


def typed(node: ir.Node, type_: Type) -> ir.Node:
    """`node` with exactly this type: the order of its dims, and all of its axes.

    A result that happens to be constant must not change the shape of an output.
    """
    node = shaped(node, type_.dims)
    if node.type == type_:
        return node
    if not isinstance(node, ir.Map | ir.Contract):
        node = _again(node)
    return replace(node, type=type_)


def _spread_one(node: ir.Node, dim: str) -> ir.Node:
    here = build.map_("ge", build.position(dim, axis=False), build.const(0))
    if node.type.dtype == "bool":
        # As a product, since only a product may be an outer one.
        both = build.map_("mul", build.map_("int", here), build.map_("int", node))
        return build.map_("ne", both, build.const(0))
    whole = node.type.dtype == "int"
    return build.map_("mul", build.map_("int" if whole else "float", here), node)


def pointwise(op: str, *args: ir.Node) -> ir.Node:
    """`op` of `args`, simplified; spread where none has all dims but no product is."""
    short = simpler(op, args)
    if short is not None:
        return short
    dims = merge_dims(*(a.type.dims for a in args))
    if op != "mul" and all(len(a.type.dims) < len(dims) for a in args):
        widest = max(range(len(args)), key=lambda i: len(args[i].type.dims))
        args = tuple(spread(a, dims) if i == widest else a for i, a in enumerate(args))
    return build.map_(op, *args)


def add(a: ir.Node | None, b: ir.Node) -> ir.Node:
    """`a + b`, where None is nothing."""
    return b if a is None else pointwise("add", a, b)


def mul(*args: ir.Node) -> ir.Node:
    """The product of `args`, from the left, numbers first."""
    result = args[0]
    for arg in args[1:]:
        result = pointwise("mul", result, arg)
    return result


def neg(a: ir.Node) -> ir.Node:
    """`-a`."""
    return pointwise("neg", a)


def conjugate(a: ir.Node) -> ir.Node:
    """`a` with the sign of its imaginary part turned, where it has one."""
    return build.map_("conj", a) if a.type.dtype == "complex" else a


def select(condition: ir.Node, then: ir.Node, otherwise: ir.Node) -> ir.Node:
    """`then` where `condition`, else `otherwise`."""
    return pointwise("where", condition, then, otherwise)


def masked(where: ir.Node | None, node: ir.Node) -> ir.Node:
    """`node` where `where` holds, else 0."""
    return node if where is None else select(where, node, ZERO)


def total(node: ir.Node, over: Sequence[str], dims: Dims) -> ir.Node:
    """The sum over `over`, also along those of them on which `node` does not depend."""
    here = [d for d in over if d in node.type.dims or d in node.type.axes]
    node = summed(node, here)
    for name in over:
        if name not in here:
            node = mul(extent(name, dims), node)
    return node


def summed(node: ir.Node, over: Sequence[str]) -> ir.Node:
    """The sum over dims and axes of `node`, if any; a factor in front stays there."""
    if not over:
        return node
    value, rest = factored(node)
    return scaled(value, build.reduce("sum", rest, over))


def extent(name: str, dims: Dims) -> ir.Node:
    """How many entries a dim or a copy of time has, as a float."""
    if name in dims.copies:
        position = build.position(name, axis=True)
        every = build.map_("float", build.map_("ge", position, build.const(0)))
        return build.reduce("sum", every, (name,))
    size = dims.extent(name)
    match size:
        case Lit(int(value)):
            return build.const(float(value))
        case _:
            return build.map_("float", build.const(size))


def fit(ct: ir.Node, operand: ir.Node, dims: Dims) -> ir.Node:
    """A cotangent made to fit `operand`: sums over what broadcasting added, dtype."""
    extra = [d for d in ct.type.dims if d not in operand.type.dims]
    lost = ct.type.axes - operand.type.axes - {TIME, BATCH}
    extra.extend(sorted(a for a in lost if a in dims.copies))
    ct = summed(ct, extra)
    if ct.type.dtype == "complex" and operand.type.dtype != "complex":
        ct = build.map_("real", ct)
    return ct


def placed(node: ir.Node, span: Span) -> ir.Node:
    """`node` with `span` wherever it has no place in the spec of its own."""

    def rule(sub: ir.Node) -> ir.Node:
        return build.at_span(sub, span) if sub.span is NOWHERE else sub

    return transform(node, rule)
