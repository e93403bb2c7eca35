"""The known monoids: how two steps make one, and what steps make of a state.

A step is its verdict's `leaf`. For `clamp` that is (a, low, high), which stands for
min(max(state + a, low), high). For `table` it is what the step makes of each value that
the state can have, as `automata.py` says; an index that is out of range was already so
for the loop.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

from seqdsl.analysis.verdict import Monoid
from seqdsl.differentiate.broadcast import pointwise
from seqdsl.ir import build
from seqdsl.ir import nodes as ir

Leaf = tuple[ir.Node, ...]


def combine(monoid: Monoid, entries: str | None, first: Leaf, second: Leaf) -> Leaf:
    """The one step that is `first` and then `second`."""
    match monoid:
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
