"""Steps unrolled and jammed: several pass over a matrix together, where it is large."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

from seqdsl.backends.mlir.grouping import group
from seqdsl.backends.mlir.kernel import Buffer, Nest
from seqdsl.backends.mlir.layout import Layout
from seqdsl.backends.mlir.planner import Planner
from seqdsl.backends.mlir.products import is_product
from seqdsl.backends.mlir.statements import Statement, addends, statements
from seqdsl.schedule.region import Region
from seqdsl.schedule.substituted import asks_itself
from seqdsl.schedule.unrolled import Unrolled, block_of

_VECTORS = 48
"""Vectors of a state from which on passing over it takes most of a step."""


_STEPS = 2
"""Steps of a block: two spare half of the loads and stores. Four are slower where all that
they read comes at once (gated linear attention), a tenth faster where they ask a state
first, and take twice as long to compile.
"""


@dataclass(frozen=True)
class Jammed:
    """The loops of `count` steps, with what a kernel keeps for them; none for one step."""

    nests: tuple[Nest, ...] = ()
    count: int = 1
    locals: tuple[Buffer, ...] = ()
    phases: tuple[Buffer, ...] = ()


_ONE = Jammed()


def jam(
    region: Region,
    found: Sequence[Statement],
    layout: Layout,
    twice: frozenset[str],
    rows: int,
) -> Jammed:
    """A block of steps of `region`; one step alone where more would gain nothing.

    `found` is what a step computes; states in `twice` are kept twice in it, and `rows`
    sequences run side by side.
    """
    if region.replay or region.still or not large(region, layout):
        return _ONE
    if rows > 1 or any(is_product(s, region, layout.tasks) for s in found):
        return _ONE
    own = asks_itself(region)
    made = block_of(region, _STEPS)
    if made is None or any(_crowded(made, s) for s in own):
        return _ONE
    body = statements(made.region, made.region.steps, f"{region.steps[0]}.jam")
    groups, again = group(body, region.states, layout)
    if not again <= twice:
        return _ONE
    planner = Planner(made.region, body, (), layout, again, 1)
    nests = [planner.nest(g) for g in groups]
    nests += [planner.nest([s]) for s in planner.commit()]
    return Jammed(
        tuple(nests),
        made.count,
        planner.locals(),
        tuple(_phases(made, planner.arguments())),
    )


def advance(
    region: Region,
    found: Sequence[Statement],
    layout: Layout,
    rows: int,
    nests: Sequence[Nest],
) -> Jammed:
    """Steps run again in place, to find what states are later; `nests` are those of one.

    None where a state is still read after it has changed.
    """
    _, twice = group(found, region.replayed, layout)
    if twice or not nests:
        return _ONE
    alone = replace(
        region,
        model=replace(region.model, outputs=()),
        states=region.replayed,
        steps=region.replay,
        replay=(),
        replayed=(),
    )
    jammed = jam(alone, found, layout, twice, rows)
    return jammed if jammed.nests else Jammed(tuple(nests))


def large(region: Region, layout: Layout) -> bool:
    """Whether a task has a state of rows and columns that registers do not hold."""
    for name in region.states:
        dims = region.model.state[name].type.dims
        own = [layout.extents[d] for d in dims if d not in layout.tasks]
        if len(own) > 1 and prod(own) >= _VECTORS * layout.machine.lanes:
            return True
    return False


def _crowded(made: Unrolled, state: str) -> bool:
    """Whether steps add several products to a state: enough to do for one pass each."""
    update = made.region.model.equation[state].expr
    return len(addends(update)) > made.count + 1


def _phases(made: Unrolled, arguments: Sequence[Buffer]) -> Iterator[Buffer]:
    """Those arguments that differ from step to step, at each step of a block."""
    model = made.region.model
    places: Mapping[str, tuple[str, int | None]] = {
        **dict(zip((i.name for i in model.inputs), made.inputs, strict=True)),
        **{
            f"{o.name}.out": (f"{name}.out", phase)
            for o, (name, phase) in zip(model.outputs, made.outputs, strict=True)
        },
    }
    for buffer in arguments:
        source, phase = places.get(buffer.name, (buffer.name, None))
        if phase is not None:
            yield replace(buffer, source=source, phase=phase)
