"""States whose dims a step splits, held in parts: where structure shows that a merge hides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from seqdsl.analysis.graph import behind
from seqdsl.analysis.verdict import Recurrence
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.walk import children, subtree, with_children

Parting = tuple[str, tuple[str, ...]]
"""A dim and what it is split into."""


def in_parts(
    model: ir.Model, recurrence: Recurrence
) -> tuple[ir.Model, Mapping[str, Parting]] | None:
    """`model` with those states of a recurrence split that its step reads split.

    Only the equations of the recurrence are right in it. None where there is no such
    state, or its parts have names that clash.
    """
    found = dict(_partings(model, recurrence))
    if not found:
        return None
    try:
        parts = _Parts(model, frozenset(recurrence.members), found)
        equations = tuple(map(parts.equation, model.equations))
    except build.Issue:
        return None
    return replace(model, equations=equations), found


def _partings(model: ir.Model, recurrence: Recurrence) -> Iterator[tuple[str, Parting]]:
    """States that are read split, with the split."""
    members = [m for m in recurrence.members if m in model.equation]
    splits = [
        n
        for m in members
        for n in subtree(model.equation[m].expr)
        if isinstance(n, ir.Split)
    ]
    for split in splits:
        read = behind(model, split.arg, states=False)
        if isinstance(read, ir.Shift) and isinstance(read.arg, ir.Ref):
            name = read.arg.name
            clash = set(split.into) & set(read.type.dims)
            if name in recurrence.states and not clash:
                yield name, (split.dim, split.into)


@dataclass(frozen=True)
class _Parts:
    model: ir.Model
    members: frozenset[str]
    table: Mapping[str, Parting]

    def equation(self, equation: ir.Equation) -> ir.Equation:
        """An equation with states in parts; that of a state gives its parts."""
        if equation.name not in self.members:
            return equation
        if equation.name in self.table:
            dim, into = self.table[equation.name]
            return replace(equation, expr=self.split(equation.expr, dim, into))
        return replace(equation, expr=self.of(equation.expr))

    def of(self, node: ir.Node) -> ir.Node:
        """The same value, made of the states in parts."""
        state = self._state(node)
        if state is not None:
            dim, into = self.table[state]
            return build.merge(self._read(node), into, dim, node.span)
        match node:
            case ir.Split(arg=arg, dim=dim, into=into):
                return self.split(arg, dim, into)
            case ir.Shift() | ir.At() | ir.Stack() | ir.Copy():
                return node
            case _:
                below = children(node)
                return with_children(node, tuple(map(self.of, below)))

    def split(self, node: ir.Node, dim: str, into: tuple[str, ...]) -> ir.Node:
        """`node.(dim -> into)`, with the split where it meets what was merged."""
        if dim not in node.type.dims:
            return self.of(node)
        state = self._state(node)
        if state is not None and self.table[state][0] == dim:
            pairs = list(zip(self.table[state][1], into, strict=True))
            return build.rename(self._read(node), pairs, node.span)
        match node:
            case ir.Ref(name=name) if name in self.members and state is None:
                return self.split(self.model.equation[name].expr, dim, into)
            case ir.Merge(arg=arg, dims=dims, into=merged) if (
                merged == dim and self._same(dims, into)
            ):
                pairs = list(zip(dims, into, strict=True))
                return build.rename(self.of(arg), pairs, node.span)
            case ir.Map(op=op, args=args):
                parts = [self.split(a, dim, into) for a in args]
                return build.map_(op, *parts, span=node.span)
            case ir.Contract(args=args, over=over) if dim not in over:
                parts = [self.split(a, dim, into) for a in args]
                return build.contract(parts, over, span=node.span)
            case ir.Reduce(op=op, arg=arg, over=over, where=None) if dim not in over:
                return build.reduce(
                    op, self.split(arg, dim, into), over, None, node.span
                )
            case _:
                return build.split(self.of(node), dim, into, node.span)

    def _state(self, node: ir.Node) -> str | None:
        """The state in parts that `node` reads."""
        read = node.arg if isinstance(node, ir.Shift) else node
        named = isinstance(read, ir.Ref) and read.name in self.table
        return read.name if named and isinstance(read, ir.Ref) else None

    def _read(self, node: ir.Node) -> ir.Node:
        state = self._state(node)
        assert state is not None
        dim, into = self.table[state]
        dims = tuple(p for d in node.type.dims for p in (into if d == dim else (d,)))
        type_ = replace(node.type, dims=dims)
        if isinstance(node, ir.Shift):
            return replace(node, type=type_, arg=replace(node.arg, type=type_))
        return replace(node, type=type_)

    def _same(self, dims: tuple[str, ...], into: tuple[str, ...]) -> bool:
        known = self.model.dims
        pairs = zip(dims, into, strict=False)
        return len(dims) == len(into) and all(
            a == b or (a in known and known[a] == known.get(b)) for a, b in pairs
        )
