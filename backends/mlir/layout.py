"""Which dim of a kernel runs by vectors, and which dims are parallel tasks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from seqdsl.backends.mlir.machine import Machine
from seqdsl.backends.mlir.statements import Statement
from seqdsl.backends.mlir.vector_math import FUNCTIONS
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import evaluate
from seqdsl.ir.walk import subtree
from seqdsl.schedule.region import Region


@dataclass(frozen=True)
class Layout:
    """Choices that hold for a whole kernel.

    `rank` orders dims: the best of those that a nest (or a buffer) has is its lane. With
    `still`, for single steps, buffers lie as their dims are declared, and each statement
    runs along the dim along which most of what it reads is dense.
    """

    extents: Mapping[str, int]
    rank: Mapping[str, int]
    tasks: tuple[str, ...]
    tiled: str | None
    machine: Machine
    still: bool = False

    def width(self, dim: str) -> int:
        """Entries of `dim` in one vector."""
        lanes, extent = self.machine.lanes, self.extents[dim]
        while lanes // 2 >= extent and lanes > 1:
            lanes //= 2
        return lanes

    def lane(self, space: frozenset[str]) -> str | None:
        """The dim of a nest that runs by vectors."""
        dims = [d for d in space if d not in self.tasks]
        return min(dims, key=lambda d: self.rank[d], default=None)

    def lane_of(self, statement: Statement) -> str | None:
        """The dim of a statement that runs by vectors."""
        if self.still:
            return _densest(statement, self.extents)
        return self.lane(statement.space - set(self.tasks))

    def ordered(self, dims: Sequence[str]) -> tuple[str, ...]:
        """`dims` of a buffer in memory order: its lane last."""
        if self.still:
            return tuple(dims)
        lane = self.lane(frozenset(dims))
        tasks = [d for d in dims if d in self.tasks]
        rest = [d for d in dims if d not in self.tasks and d != lane]
        return (*tasks, *rest, *([] if lane is None else [lane]))


def still_layout(
    found: Sequence[Statement], extents: Mapping[str, int], machine: Machine
) -> Layout:
    """The layout for one step of all sequences, whose weights lie as torch has them."""
    dims = dict.fromkeys(d for s in found for d in (*s.dims, *s.over))
    rank = {d: i for i, d in enumerate(dims)}
    return Layout(extents, rank, (), None, machine, still=True)


def _densest(statement: Statement, extents: Mapping[str, int]) -> str | None:
    """The last dim of what is written, or a dim summed over, whichever is last in more."""
    able = [*statement.dims[-1:], *statement.over]
    size = dict.fromkeys(able, 0)
    for dims in (statement.dims, *_views(statement.expr)):
        if dims and dims[-1] in size:
            size[dims[-1]] += math.prod(extents[d] for d in dims)
    return max(able, key=lambda d: size[d], default=None)


def _views(node: ir.Node) -> list[tuple[str, ...]]:
    """Dims of everything that an expression reads, as it reads it."""
    match node:
        case ir.Map(args=args):
            return [dims for arg in args for dims in _views(arg)]
        case ir.Const() | ir.Position():
            return []
        case _:
            return [node.type.dims]


def choose_layout(
    region: Region,
    found: Sequence[Statement],
    extents: Mapping[str, int],
    machine: Machine,
    together: bool,
) -> Layout:
    """The lane and the tasks of a kernel.

    `together`: there are enough sequences, so that what is small may stay in one task
    where that gives vectors to functions that would else be computed number by number.
    """
    dims = list(dict.fromkeys(d for s in found for d in (*s.dims, *s.over)))
    for state in region.model.states:
        dims += [d for d in state.type.dims if d not in dims]
    for read in region.model.inputs:
        dims += [d for d in read.type.dims if d not in dims]
    gain = {d: _gain(d, found, extents, machine) for d in dims}
    places = {d: i for i, d in enumerate(dims)}
    for state in region.model.states:
        places |= {d: len(dims) + i for i, d in enumerate(state.type.dims)}
    best = sorted(dims, key=lambda d: (-gain[d], -places[d]))
    rank = {d: i for i, d in enumerate(best)}
    apart = [d for d in dims if _parallel(d, region, found)]
    state_dims = frozenset(d for s in region.model.states for d in s.type.dims)
    lane = min(state_dims, key=lambda d: rank[d], default=None)
    tasks = tuple(d for d in apart if d != lane)
    if together and _small(region, extents) and _lonely(found, tasks):
        tasks = ()
    return Layout(extents, rank, tasks, lane if lane in apart else None, machine)


def _small(region: Region, extents: Mapping[str, int]) -> bool:
    """Whether the states of a sequence fit into a part of the innermost cache."""
    entries = (math.prod(extents[d] for d in s.type.dims) for s in region.model.states)
    return sum(entries) <= 2048


def _lonely(found: Sequence[Statement], tasks: Sequence[str]) -> bool:
    """Whether a task computes functions of single numbers."""
    return any(
        s.dims
        and s.space <= set(tasks)
        and any(isinstance(n, ir.Map) and n.op in FUNCTIONS for n in subtree(s.expr))
        for s in found
    )


def _gain(
    dim: str, found: Sequence[Statement], extents: Mapping[str, int], machine: Machine
) -> float:
    """How much work would run well by vectors along `dim`."""
    total = 0.0
    for statement in found:
        if dim not in statement.space:
            continue
        work = 1
        for other in statement.space:
            work *= extents[other]
        # a sum across lanes costs something, but less than short vectors do
        total += -work / 2 if dim in statement.over else work
    return total * min(extents[dim], machine.lanes) / machine.lanes


def _parallel(dim: str, region: Region, found: Sequence[Statement]) -> bool:
    """Whether nothing at one index of `dim` reads anything of another index."""
    states, outputs = region.model.states, {o.name for o in region.model.outputs}
    if any(dim not in s.type.dims for s in states) or not states:
        return False
    for statement in found:
        kept = statement.name in outputs or statement.name in region.states
        if dim in statement.over or (kept and dim not in statement.dims):
            return False
        if any(_moves(n, dim) for n in subtree(statement.expr)):
            return False
    return True


def _moves(node: ir.Node, dim: str) -> bool:
    match node:
        case ir.Rename(pairs=pairs):
            return any(dim in pair for pair in pairs)
        case ir.Split(dim=whole, into=into):
            return dim == whole or dim in into
        case ir.SliceDim(dim=whole, into=into):
            return dim in (whole, into)
        case ir.Merge(dims=dims, into=whole):
            return dim == whole or dim in dims
        case _:
            return False


def extents_of(region: Region) -> dict[str, int]:
    """Extents of all dims of a region; a dim may also be a plain number."""
    model = region.model
    named = {d: evaluate(s, {}) for d, s in model.dims.items()}
    values = [*model.inputs, *model.states]
    types = [v.type for v in values]
    types += [n.type for e in model.equations for n in subtree(e.expr)]
    found = {d: int(d) for t in types for d in t.dims if d.isdigit()}
    return found | {d: int(e) for d, e in named.items() if isinstance(e, int | float)}
