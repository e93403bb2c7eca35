"""Statements → kernel: which loops run together, what runs by vectors, what by tasks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from seqdsl.backends.mlir.kernel import Buffer, Kernel, Nest, Role, Write
from seqdsl.backends.mlir.machine import Machine
from seqdsl.backends.mlir.statements import Statement, reads, statements
from seqdsl.backends.mlir.vector_math import FUNCTIONS
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import evaluate
from seqdsl.ir.types import BATCH, TIME, DType
from seqdsl.ir.walk import subtree
from seqdsl.schedule.region import Region


@dataclass(frozen=True)
class Layout:
    """Choices that hold for a whole kernel.

    `rank` orders dims: the best of those that a nest (or a buffer) has is its lane.
    """

    extents: Mapping[str, int]
    rank: Mapping[str, int]
    tasks: tuple[str, ...]
    tiled: str | None
    machine: Machine

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

    def ordered(self, dims: Sequence[str]) -> tuple[str, ...]:
        """`dims` of a buffer in memory order: its lane last."""
        lane = self.lane(frozenset(dims))
        tasks = [d for d in dims if d in self.tasks]
        rest = [d for d in dims if d not in self.tasks and d != lane]
        return (*tasks, *rest, *([] if lane is None else [lane]))


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
        case _:
            return False


# ---- Which statements share loops


@dataclass
class _Group:
    """A nest while statements are added to it."""

    space: frozenset[str]
    found: list[Statement] = field(default_factory=list[Statement])


def group(
    found: Sequence[Statement], states: Sequence[str], tasks: Sequence[str]
) -> tuple[list[list[Statement]], frozenset[str]]:
    """Statements in groups that share loops, and the states kept twice.

    A statement joins the first group it can: sums are over when their group is, and
    what reads a state of the step before comes no later than the update.
    """
    groups: list[_Group] = []
    place: dict[str, int] = {}
    old: dict[str, int] = {}
    sums = {s.name for s in found if s.op}
    for statement in found:
        space = statement.space - set(tasks)
        known = reads(statement.expr)
        first = old.get(statement.name, 0) if statement.name in states else 0
        for (name, shifted), plain in known.items():
            if not shifted and name in place:
                same = plain and name not in sums and groups[place[name]].space == space
                first = max(first, place[name] + (0 if same else 1))
        chosen = next(
            (i for i in range(first, len(groups)) if groups[i].space == space), None
        )
        if chosen is None:
            groups.append(_Group(space))
            chosen = len(groups) - 1
        groups[chosen].found.append(statement)
        place[statement.name] = chosen
        for (name, shifted), plain in known.items():
            if shifted and name in states:
                old[name] = max(old.get(name, 0), chosen + (0 if plain else 1))
    twice = frozenset(n for n in states if n in place and old.get(n, 0) > place[n])
    return [g.found for g in groups], twice


# ---- The kernel


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
    layout = choose_layout(region, (*again, *found), extents, machine, together)
    groups, twice = group(found, region.states, layout.tasks)
    planner = _Planner(region, found, again, layout, twice, rows)
    step = tuple(planner.nest(g) for g in groups)
    replay, _ = group(again, region.replayed, layout.tasks)
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


def extents_of(region: Region) -> dict[str, int]:
    """Extents of all dims of a region; a dim may also be a plain number."""
    model = region.model
    named = {d: evaluate(s, {}) for d, s in model.dims.items()}
    values = [*model.inputs, *model.states]
    types = [v.type for v in values]
    types += [n.type for e in model.equations for n in subtree(e.expr)]
    found = {d: int(d) for t in types for d in t.dims if d.isdigit()}
    return found | {d: int(e) for d, e in named.items() if isinstance(e, int | float)}


def _symbol(name: str) -> str:
    """`name` as a name in MLIR and C."""
    return "".join(c if c.isascii() and c.isalnum() else "_" for c in name)


@dataclass
class _Planner:
    region: Region
    found: Sequence[Statement]
    again: Sequence[Statement]
    layout: Layout
    twice: frozenset[str]
    rows: int

    def __post_init__(self) -> None:
        self.outputs = {o.name for o in self.region.model.outputs}
        self.inputs = {i.name: i for i in self.region.model.inputs}
        self.kept: dict[str, Buffer] = {}
        for state in self.region.model.states:
            role = "history" if state.name in self.region.replayed else "local"
            self._keep(state.name, state.type.dims, state.type.dtype, role)
            if role == "history":
                name = f"{state.name}.border"
                self._keep(name, state.type.dims, state.type.dtype, "border")
            if state.name in self.twice:
                self._keep(f"{state.name}.new", state.type.dims, state.type.dtype)
        for found, states in (
            (self.found, self.region.states),
            (self.again, self.region.replayed),
        ):
            groups, _ = group(found, states, self.layout.tasks)
            place = {s.name: i for i, g in enumerate(groups) for s in g}
            for statement in found:
                later = statement.op or _read_later(statement, found, place)
                if later and statement.name not in self.region.model.state:
                    self._keep(statement.name, statement.dims, statement.dtype)

    def _keep(
        self, name: str, dims: Sequence[str], dtype: DType, role: Role = "local"
    ) -> None:
        inner = [d for d in dims if d not in self.layout.tasks]
        self.kept[name] = Buffer(name, role, self.layout.ordered(inner), dtype)

    def chunk(self) -> int:
        """Steps that are run again at a time: what fits a cache of the second level."""
        size = 0
        for name in self.region.replayed:
            entries = self.layout.machine.bits // 8
            for dim in self.kept[name].dims:
                entries *= self.layout.extents[dim]
            size += entries
        return min(64, max(8, (1 << 19) // size)) if size else 0

    def save(self) -> list[Statement]:
        """States at the border of a chunk, to be run again from there."""
        return [
            self._copied(n, f"{n}.border", earlier=True) for n in self.region.replayed
        ]

    def restore(self) -> list[Statement]:
        """The same back."""
        return [
            self._copied(f"{n}.border", n, earlier=False) for n in self.region.replayed
        ]

    def _copied(self, source: str, target: str, earlier: bool) -> Statement:
        state = self.region.model.state[source if earlier else target]
        read = build.ref(source, state.type)
        expr = ir.Shift(arg=read, axis=TIME, offset=-1, type=state.type)
        return Statement(
            target, state.type.dims, state.type.dtype, expr if earlier else read
        )

    def locals(self) -> tuple[Buffer, ...]:
        """What a task keeps."""
        return tuple(self.kept.values())

    def arguments(self) -> tuple[Buffer, ...]:
        """Inputs, outputs of every step, states after the last."""
        found: list[Buffer] = []
        for read in self.region.model.inputs:
            axes = tuple(a for a in (BATCH, TIME) if a in read.type.axes)
            dims = self.layout.ordered(read.type.dims)
            block = self._block(read.name, dims) if not axes else 0
            found.append(Buffer(read.name, "input", dims, read.type.dtype, axes, block))
        types = {s.name: s for s in self.found}
        for output in self.region.model.outputs:
            made = types[output.name]
            dims = self.layout.ordered(made.dims)
            found.append(
                Buffer(f"{output.name}.out", "output", dims, made.dtype, (BATCH, TIME))
            )
        for name in self.region.states:
            state = self.region.model.state[name]
            dims = self.layout.ordered(state.type.dims)
            found.append(
                Buffer(f"{state.name}.last", "output", dims, state.type.dtype, (BATCH,))
            )
        return tuple(found)

    def _block(self, name: str, dims: tuple[str, ...]) -> int:
        """Entries of a vector where all that reads a matrix reads it by vectors."""
        users = [
            s for s in (*self.found, *self.again) if (name, False) in reads(s.expr)
        ]
        for statement in users:
            lane = self.layout.lane(statement.space - set(self.layout.tasks))
            plain = reads(statement.expr)[name, False]
            if not _dense(statement, self.region) or lane != dims[-1] or not plain:
                return 0
        return self.layout.width(dims[-1]) if users and len(dims) > 1 else 0

    def first(self) -> list[Statement]:
        """States before the first step."""
        return [
            Statement(
                s.name,
                s.type.dims,
                s.type.dtype,
                build.ref(f"{s.name}_0", self.inputs[f"{s.name}_0"].type),
            )
            for s in self.region.model.states
        ]

    def commit(self) -> list[Statement]:
        """States that are kept twice take their new values."""
        return [
            Statement(
                s.name, s.type.dims, s.type.dtype, build.ref(f"{s.name}.new", s.type)
            )
            for s in self.region.model.states
            if s.name in self.twice
        ]

    def last(self) -> list[Statement]:
        """States after the last step."""
        return [
            Statement(
                f"{s.name}.last",
                s.type.dims,
                s.type.dtype,
                ir.Shift(
                    arg=build.ref(s.name, s.type), axis=TIME, offset=-1, type=s.type
                ),
            )
            for s in map(self.region.model.state.__getitem__, self.region.states)
        ]

    def _write(self, statement: Statement, last: bool) -> Write:
        name = statement.name
        if last:
            return Write(statement, (name,))
        into: list[str] = []
        plain = statement.expr
        committed = isinstance(plain, ir.Ref) and plain.name in (
            f"{name}.new",
            f"{name}_0",
            f"{name}.border",
        )
        if name in self.twice and not committed:
            into.append(f"{name}.new")
        elif name in self.kept:
            into.append(name)
        if name in self.outputs and not committed:
            into.append(f"{name}.out")
        return Write(statement, tuple(into))

    def nest(self, group_: Sequence[Statement], last: bool = False) -> Nest:
        """The loops of a group."""
        layout = self.layout
        space = group_[0].space - set(layout.tasks)
        lane = layout.lane(space)
        sums = [s for s in group_ if s.op]
        rest = [d for d in space if d != lane]
        rest.sort(key=lambda d: (sum(d in s.over for s in sums), layout.rank[d]))
        over_lane = [s for s in sums if lane in s.over]
        inside = bool(over_lane) and len(over_lane) == len(sums)
        width = layout.width(lane) if lane is not None else 1
        vectors = 1 if lane is None else -(-layout.extents[lane] // width)
        dense = any(_dense(s, self.region) for s in group_)
        copies = (self.rows if dense else 1) * max(1, len(sums))
        room = layout.machine.registers * 3 // 4
        most = max(
            1, min(8 if dense else 4, room // max(1, copies * (1 if dense else 2)))
        )
        unroll = 1
        while unroll * 2 <= most and unroll < vectors:
            unroll *= 2
        repeat = 1
        inner = rest[-1] if rest and not inside else None
        if sums and inner is not None and all(inner in s.over for s in sums):
            extent = layout.extents[inner]
            while copies * unroll * repeat < 8 and extent % (repeat * 2) == 0:
                repeat *= 2
        return Nest(
            writes=tuple(self._write(s, last) for s in group_),
            lane=lane,
            width=width,
            order=tuple(rest),
            lane_inside=inside,
            unroll=unroll,
            repeat=min(repeat, 4),
            dense=dense,
        )


def _read_later(
    statement: Statement, found: Sequence[Statement], place: Mapping[str, int]
) -> bool:
    """Whether another nest reads the value."""
    mine = place[statement.name]
    return any(
        (statement.name, False) in reads(s.expr) and place[s.name] != mine
        for s in found
    )


def has_products(region: Region) -> bool:
    """Whether a step multiplies with a matrix that all sequences share."""
    return any(_dense(s, region) for s in statements(region, region.steps))


def _dense(statement: Statement, region: Region) -> bool:
    """Whether a sum reads a weight at every index of its loops: a product with a matrix."""
    if not statement.op or not statement.dims:
        return False
    inputs = {i.name: i for i in region.model.inputs}
    for node in subtree(statement.expr):
        if isinstance(node, ir.Ref) and node.name in inputs:
            type_ = inputs[node.name].type
            if not type_.axes & {BATCH, TIME} and set(statement.over) <= set(
                type_.dims
            ):
                return len(type_.dims) > len(statement.over)
    return False
