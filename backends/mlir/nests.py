"""Statements → kernel: which loops run together, what runs by vectors, what by tasks."""

from __future__ import annotations

from seqdsl.backends.mlir.grouping import group, is_product
from seqdsl.backends.mlir.kernel import Kernel
from seqdsl.backends.mlir.layout import choose_layout, extents_of, still_layout
from seqdsl.backends.mlir.machine import Machine
from seqdsl.backends.mlir.planner import Planner
from seqdsl.backends.mlir.statements import statements
from seqdsl.schedule.region import Region


def make_kernel(
    region: Region,
    machine: Machine,
    rows: int,
    together: bool = False,
) -> Kernel:
    """The kernel of `region`, all of whose extents are known."""
    extents = extents_of(region)
    again = statements(region, region.replay)
    found = statements(region, region.steps)
    if region.still:
        layout = still_layout(found, extents, machine)
    else:
        layout = choose_layout(region, (*again, *found), extents, machine, together)
    groups, twice = group(found, region.states, layout)
    planner = Planner(region, found, again, layout, twice, rows)
    step = tuple(planner.nest(g) for g in groups)
    replay, _ = group(again, region.replayed, layout)
    before = tuple(planner.nest([s]) for s in planner.first())
    commit = tuple(planner.nest([s]) for s in planner.commit())
    after = tuple(planner.nest([s], last=True) for s in planner.last())
    widths = [
        n.width * n.unroll
        for n in (*step, *commit)
        if n.lane is not None and n.lane == layout.tiled
    ]
    return Kernel(
        name=_symbol(region.name),
        extents=extents,
        direction=region.direction,
        arguments=planner.arguments(),
        locals=planner.locals(),
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
        chunk=planner.chunk(),
        replay=tuple(planner.nest(g) for g in replay),
        save=tuple(planner.nest([s], last=True) for s in planner.save()),
        restore=tuple(planner.nest([s]) for s in planner.restore()),
    )


def _symbol(name: str) -> str:
    """`name` as a name in MLIR and C."""
    return "".join(c if c.isascii() and c.isalnum() else "_" for c in name)


def has_products(region: Region) -> bool:
    """Whether a step multiplies with a matrix that all sequences share."""
    return any(is_product(s, region) for s in statements(region, region.steps))
