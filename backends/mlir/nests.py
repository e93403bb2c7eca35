"""Statements → kernel: which loops run together, what runs by vectors, what by tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

from seqdsl.backends.mlir.grouping import group
from seqdsl.backends.mlir.jam import advance, jam, large
from seqdsl.backends.mlir.kernel import Buffer, How, Kernel
from seqdsl.backends.mlir.layout import choose_layout, extents_of, still_layout
from seqdsl.backends.mlir.machine import Machine
from seqdsl.backends.mlir.planner import Planner
from seqdsl.backends.mlir.products import is_product, joined
from seqdsl.backends.mlir.statements import addends, statements
from seqdsl.backends.mlir.team import members_of, workspace
from seqdsl.schedule.region import Region

_STATES = 1 << 18
"""Bytes of states of tasks that take turns: part of a cache of the second level."""


def make_kernel(
    region: Region,
    machine: Machine,
    rows: int,
    together: bool = False,
    how: How = "tasks",
    threads: int = 1,
) -> Kernel:
    """The kernel of `region`, all of whose extents are known.

    With `team` it is made for `threads` threads that share every step, where it can be,
    with `ranges` for a part of the steps.
    """
    extents = extents_of(region)
    again = joined(statements(region, region.replay), region)
    found = joined(statements(region, region.steps), region)
    if region.still:
        layout = still_layout(found, extents, machine)
    else:
        layout = choose_layout(region, (*again, *found), extents, machine, together)
    groups, twice = group(found, region.states, layout)
    alone = layout.tasks or layout.tiled is not None or region.replay or region.still
    team = how == "team" and not alone
    members = threads if team else 1
    planner = Planner(region, found, again, layout, twice, rows, members)
    step = tuple(planner.nest(g) for g in groups)
    replay, _ = group(again, region.replayed, layout)
    before = tuple(planner.nest([s]) for s in planner.first())
    commit = tuple(planner.nest([s]) for s in planner.commit())
    after = tuple(planner.nest([s], last=True) for s in planner.last())
    jammed = jam(region, found, layout, twice, rows)
    again_nests = tuple(planner.nest(g) for g in replay)
    advanced = advance(region, again, layout, rows, again_nests)
    widths = [
        n.width * n.unroll
        for n in (*step, *commit, *jammed.nests)
        if n.lane is not None and n.lane == layout.tiled
    ]
    kernel = Kernel(
        name=_symbol(region.name),
        extents=extents,
        direction=region.direction,
        arguments=planner.arguments(),
        locals=_merged(planner.locals(), (*jammed.locals, *advanced.locals)),
        tasks=layout.tasks,
        tiled=layout.tiled,
        grain=max(widths, default=1),
        rows=rows,
        before=before,
        step=(*step, *commit),
        after=after,
        bits=machine.bits,
        storage=machine.storage,
        states=region.states,
        chunk=planner.chunk() // advanced.count * advanced.count,
        replay=again_nests,
        save=tuple(planner.nest([s], last=True) for s in planner.save()),
        restore=tuple(planner.nest([s]) for s in planner.restore()),
        jammed=jammed.nests,
        count=jammed.count,
        phases=(*jammed.phases, *advanced.phases),
        advance=advanced.nests,
        stride=advanced.count,
    )
    alike = rows == 1 and not region.replay and bool(layout.tasks)
    if alike and not team and large(region, layout):
        kernel = replace(kernel, turns=_turns(kernel))
    if how == "ranges":
        assert not region.replay
        return replace(kernel, ranged=True)
    return _for_team(kernel) if team else kernel


def _turns(kernel: Kernel) -> int:
    """How many tasks take turns: those of one sequence, as long as a cache holds them."""
    states = (kernel.buffer(s) for s in kernel.states)
    size = (
        sum(prod(kernel.extents[d] for d in s.dims) for s in states) * kernel.bits // 8
    )
    heads = prod(kernel.extents[d] for d in kernel.tasks)
    return min(heads, max(1, _STATES // max(1, size)))


def _merged(own: Sequence[Buffer], more: Sequence[Buffer]) -> tuple[Buffer, ...]:
    """The buffers of a step and of a block; states are the same in both."""
    names = {b.name for b in own}
    return (*own, *(b for b in more if b.name not in names))


def _for_team(kernel: Kernel) -> Kernel:
    members, (_, work) = members_of(kernel), workspace(kernel)
    return replace(kernel, members=members, work=work) if members > 1 else kernel


def _symbol(name: str) -> str:
    """`name` as a name in MLIR and C."""
    return "".join(c if c.isascii() and c.isalnum() else "_" for c in name)


def products_of(region: Region) -> tuple[int, int]:
    """How many products with matrices a step has, and how many entries these have."""
    extents = extents_of(region)
    found = joined(statements(region, region.steps), region)
    sizes = [
        len(addends(s.expr)) * prod(extents[d] for d in s.space)
        for s in found
        if is_product(s, region)
    ]
    return len(sizes), sum(sizes)
