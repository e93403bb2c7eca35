"""The buffers and nests of a kernel, statement by statement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from seqdsl.backends.mlir.grouping import group, read_later
from seqdsl.backends.mlir.kernel import Buffer, Nest, Role, Write
from seqdsl.backends.mlir.layout import Layout
from seqdsl.backends.mlir.products import is_product
from seqdsl.backends.mlir.statements import Statement, reads
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import BATCH, TIME, DType
from seqdsl.ir.walk import subtree
from seqdsl.schedule.region import Region


@dataclass
class Planner:
    region: Region
    found: Sequence[Statement]
    again: Sequence[Statement]
    layout: Layout
    twice: frozenset[str]
    rows: int
    threads: int = 1

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
            groups, _ = group(found, states, self.layout)
            place = {s.name: i for i, g in enumerate(groups) for s in g}
            for statement in found:
                later = statement.op or read_later(statement, found, place)
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
        if self.layout.still:
            return 0
        users = [
            s for s in (*self.found, *self.again) if (name, False) in reads(s.expr)
        ]
        for statement in users:
            lane = self.layout.lane_of(statement)
            plain = reads(statement.expr)[name, False]
            if not is_product(statement, self.region) or lane != dims[-1] or not plain:
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
        lane = layout.lane_of(group_[0])
        sums = [s for s in group_ if s.op]
        rest = [d for d in space if d != lane]
        rest.sort(key=lambda d: (sum(d in s.over for s in sums), layout.rank[d]))
        over_lane = [s for s in sums if lane in s.over]
        inside = bool(over_lane) and len(over_lane) == len(sums)
        width = layout.width(lane) if lane is not None else 1
        vectors = 1 if lane is None else -(-layout.extents[lane] // width)
        dense = any(is_product(s, self.region) for s in group_)
        copies = (self.rows if dense else 1) * max(1, len(sums))
        room = layout.machine.registers * 3 // 4
        if dense:
            most = min(8, room // copies)
        else:
            most = min(4, room // self._held(group_, lane, rest))
        most = max(1, most)
        if dense:
            # no fewer parts than there are threads to share them
            most = min(most, max(1, vectors // self.threads))
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

    def _held(
        self, group_: Sequence[Statement], lane: str | None, inner: Sequence[str]
    ) -> int:
        """Registers that one vector of a nest takes while its inner loops run.

        Sums, what is read once before these loops, and a value on its way.
        """
        sums = sum(s.op is not None for s in group_)
        if not inner:
            return max(2, sums)
        outside = {
            n.name
            for s in group_
            for n in subtree(s.expr)
            if isinstance(n, ir.Ref)
            and lane in n.type.dims
            and not set(n.type.dims) & set(inner)
        }
        # a sum across lanes is stored for each turn of the inner loops
        across = sum(s.over == (lane,) for s in group_)
        return sums - across + len(outside) + 1
