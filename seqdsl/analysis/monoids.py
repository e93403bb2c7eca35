"""Monoids: how two steps make one, and what steps make of a state.

A step is its verdict's `leaf`, with the types that `element_types` gives. For `clamp`
that is (a, low, high), which stands for min(max(state + a, low), high). For `table` it is
what the step makes of each value that the state can have, as `automata.py` says; an index
that is out of range was already so for the loop. A declared monoid says for itself what
its elements are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import assert_never

from seqdsl.analysis.verdict import Monoid
from seqdsl.differentiate.broadcast import pointwise, shaped
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import Type
from seqdsl.ir.walk import children, with_children

Leaf = tuple[ir.Node, ...]


def element_types(
    monoid: Monoid, entries: str | None, states: Sequence[Type]
) -> tuple[Type, ...]:
    """Dtype and dims of each part of an element, given the types of the states."""
    first, *_ = states
    match monoid:
        case ir.Monoid(fields=fields):
            return tuple(t for _, t in fields)
        case "clamp":
            return (first,) * 3
        case "table" if entries is not None:
            return (Type(first.dtype, (*first.dims, entries), first.axes),)
        case "table":
            return (first,) * (len(states) * 2 ** len(states))
        case _:
            assert_never(monoid)


def identity(monoid: Monoid, entries: str | None, states: int) -> Leaf:
    """The step that changes none of `states` states; it may lack dims."""
    match monoid:
        case ir.Monoid(identity=found):
            return found
        case "clamp":
            return build.const(0.0), build.const(-math.inf), build.const(math.inf)
        case "table" if entries is not None:
            return (build.position(entries, axis=False),)
        case "table":
            rows = range(2**states)
            bits = range(states - 1, -1, -1)
            return tuple(
                build.const(bool(row >> bit & 1)) for row in rows for bit in bits
            )
        case _:
            assert_never(monoid)


def combine(monoid: Monoid, entries: str | None, first: Leaf, second: Leaf) -> Leaf:
    """The one step that is `first` and then `second`."""
    match monoid:
        case ir.Monoid(combine=nodes):
            return _filled(nodes, {"first": first, "second": second})
        case "clamp":
            shift, low, high = second
            return (
                pointwise("add", first[0], shift),
                *(_clamp(bound, shift, low, high) for bound in first[1:]),
            )
        case "table" if entries is not None:
            return (build.gather(second[0], entries, first[0]),)
        case "table":
            return _through(first, second)
        case _:
            assert_never(monoid)


def apply(
    monoid: Monoid, entries: str | None, leaf: Leaf, state: Mapping[str, ir.Node]
) -> dict[str, ir.Node]:
    """The values of all states after the step `leaf`, given those before."""
    names = list(state)
    match monoid:
        case ir.Monoid():
            before = tuple(state[s] for s in monoid.states)
            left, right = ("first", "second") if monoid.free else ("before", "element")
            after = _filled(monoid.read, {left: before, right: leaf})
            return dict(zip(monoid.states, after, strict=True))
        case "clamp":
            (name,) = names
            return {name: _clamp(state[name], *leaf)}
        case "table" if entries is not None:
            (name,) = names
            return {name: build.gather(leaf[0], entries, state[name])}
        case "table":
            after = _through(tuple(state.values()), leaf)
            return dict(zip(names, after, strict=True))
        case _:
            assert_never(monoid)


def _filled(nodes: Leaf, given: Mapping[str, Leaf]) -> Leaf:
    """`nodes` with elements in place of the names that stand for any; they may lack dims."""

    def fill(node: ir.Node) -> ir.Node:
        match node:
            case ir.Ref(name=name):
                element, _, number = name.partition(".")
                known = element in given and number.isdecimal()
                return given[element][int(number)] if known else node
            case ir.Map(op=op, args=args):
                return build.at_span(pointwise(op, *map(fill, args)), node.span)
            case _:
                old = children(node)
                new = (shaped(fill(c), c.type.dims) for c in old)
                return with_children(node, tuple(new))

    return tuple(map(fill, nodes))


def _clamp(value: ir.Node, shift: ir.Node, low: ir.Node, high: ir.Node) -> ir.Node:
    raised = pointwise("max", pointwise("add", value, shift), low)
    return pointwise("min", raised, high)


def _through(first: Leaf, second: Leaf) -> Leaf:
    """Rows of bools looked up in a table of bools, one row after another."""
    bits = len(second).bit_length() - 1
    while bits * 2**bits > len(second):
        bits -= 1
    rows = [first[i : i + bits] for i in range(0, len(first), bits)]
    return tuple(_chosen(row, second[j::bits]) for row in rows for j in range(bits))


def _chosen(row: Leaf, column: Leaf) -> ir.Node:
    """The entry of `column` whose number has the bits `row`, the highest first."""
    if not row:
        return column[0]
    half = len(column) // 2
    low, high = _chosen(row[1:], column[:half]), _chosen(row[1:], column[half:])
    return pointwise("where", row[0], high, low)
