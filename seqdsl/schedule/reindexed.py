"""A read of a state under splits, merges and the like, and how to undo them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from seqdsl.analysis.graph import name_of
from seqdsl.differentiate.broadcast import spread
from seqdsl.ir import build
from seqdsl.ir import nodes as ir

Moved = ir.Rename | ir.Split | ir.Merge | ir.SliceDim | ir.Roll


@dataclass(frozen=True)
class Reindexed:
    """`read` after `moves`, first ones first; `ends` are the dims that come out."""

    read: ir.Ref | ir.Shift
    moves: tuple[Moved, ...]
    ends: tuple[str, ...]

    @property
    def state(self) -> str:
        """The name of what is read."""
        return name_of(self.read.arg if isinstance(self.read, ir.Shift) else self.read)

    @property
    def dims(self) -> tuple[str, ...]:
        """The state's own dims."""
        return self.read.type.dims

    def held(self, dim: str) -> frozenset[str]:
        """The dims at the end that a dim of the state has become (part of)."""
        found = {dim}
        for move in self.moves:
            found = after(move, found)
        return frozenset(found)

    def back(self, query: ir.Node, rows: Collection[str]) -> ir.Node | None:
        """What multiplies the state, given what multiplies `rows` at the end."""
        here = set(rows)
        for move in reversed(self.moves):
            sources, results = move_ends(move)
            touched = here & set(results)
            if not touched:
                continue
            found = _undone(move, query)
            if found is None:
                return None
            query = found
            here = here - set(results) | set(sources)
        return query

    def on(self, value: ir.Node) -> ir.Node:
        """The moves of those dims that `value` has."""
        for move in self.moves:
            sources, _ = move_ends(move)
            if all(d in value.type.dims for d in sources):
                value = _moved(move, value)
        return value


def reindexed(node: ir.Node) -> Reindexed | None:
    """What `node` does to a read; None where it is anything else."""
    moves: list[Moved] = []
    current = node
    while isinstance(current, ir.Rename | ir.Split | ir.Merge | ir.SliceDim | ir.Roll):
        single = current
        if isinstance(current, ir.Rename) and len(current.pairs) > 1:
            return None
        moves.append(single)
        current = current.arg
    match current:
        case ir.Ref() | ir.Shift():
            return Reindexed(current, tuple(reversed(moves)), node.type.dims)
        case _:
            return None


def move_ends(move: Moved) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The dims that a move takes and those it makes of them."""
    match move:
        case ir.Rename(pairs=((old, new),)):
            return (old,), (new,)
        case ir.Rename():
            return (), ()
        case ir.Split(dim=dim, into=into):
            return (dim,), into
        case ir.Merge(dims=dims, into=into):
            return dims, (into,)
        case ir.SliceDim(dim=dim, into=into):
            return (dim,), (into,)
        case ir.Roll(dim=dim):
            return (dim,), (dim,)


def after(move: Moved, dims: set[str]) -> set[str]:
    """What some dims have become behind a move."""
    sources, results = move_ends(move)
    touched = dims & set(sources)
    return dims - touched | set(results) if touched else dims


def _undone(move: Moved, query: ir.Node) -> ir.Node | None:
    """A query for what the move is applied to, given one for its result."""
    _, results = move_ends(move)
    if not set(results) & set(query.type.dims):
        return None if isinstance(move, ir.SliceDim) else query
    match move:
        case ir.Rename(pairs=((old, new),)):
            return build.rename(query, [(new, old)])
        case ir.Split(dim=dim, into=into):
            return build.merge(spread(query, into), into, dim)
        case ir.Merge(dims=dims, into=into):
            return build.split(query, into, dims)
        case _:
            return None


def _moved(move: Moved, value: ir.Node) -> ir.Node:
    match move:
        case ir.Rename(pairs=pairs):
            return build.rename(value, pairs)
        case ir.Split(dim=dim, into=into):
            return build.split(value, dim, into)
        case ir.Merge(dims=dims, into=into):
            return build.merge(value, dims, into)
        case ir.SliceDim(dim=dim, start=start, step=step, into=into):
            return build.slice_dim(value, dim, start, step, into)
        case ir.Roll(dim=dim, offset=moved, wrap=wrap):
            return build.roll(value, dim, moved, wrap)
