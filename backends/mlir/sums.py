"""Sums of a nest: in registers where they stay open, else in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from seqdsl.backends.mlir.expressions import Expressions
from seqdsl.backends.mlir.kernel import Nest, Write
from seqdsl.backends.mlir.memory import Env
from seqdsl.backends.mlir.writer import Val

_IDENTITY = {
    "sum": 0.0,
    "prod": 1.0,
    "max": float("-inf"),
    "min": float("inf"),
    "any": 0,
    "all": 1,
}
_COMBINE = {"sum": "add", "prod": "mul", "max": "max", "min": "min"}
_ACROSS = {"sum": "add", "prod": "mul", "max": "maximumf", "min": "minimumf"}
_ACROSS_INT = {"sum": "add", "prod": "mul", "max": "maxsi", "min": "minsi"}


@dataclass(frozen=True)
class Copy:
    """One of the places that are computed side by side; `path` tells them apart."""

    env: Env
    row: int = 0
    vector: int = 0
    turn: int = 0


@dataclass
class Sums:
    """Running sums of `nest`; each copy of its loops has one of its own."""

    e: Expressions
    nest: Nest
    slots: dict[tuple[int, int, int, int], str] = field(
        default_factory=dict[tuple[int, int, int, int], str]
    )

    def _slot(self, number: int, write: Write, copy: Copy) -> tuple[str, int]:
        """Where the running sum of one copy is, and how many lanes it has."""
        lanes = 0
        statement = write.statement
        if self.nest.lane is not None and self.nest.lane in statement.space:
            lanes = self.nest.width
        key = (number, copy.row, copy.vector, copy.turn)
        if key not in self.slots:
            type_ = self.e.p.type_(statement.dtype, lanes)
            self.slots[key] = self.e.w.slot(type_)
        return self.slots[key], lanes

    def _parts(self, number: int, write: Write, copy: Copy) -> list[Copy]:
        """The copies that a sum of `copy` is split into: by vectors and by turns."""
        statement = write.statement
        vectors = [copy.vector]
        if self.nest.lane in statement.over:
            width, extent = self.nest.width, self.e.kernel.extents[str(self.nest.lane)]
            left = -(-(extent % (self.nest.unroll * width)) // width)
            whole = extent >= self.nest.unroll * width
            vectors = list(range(max(self.nest.unroll if whole else 1, left)))
        turns = 1 if self.nest.lane_inside else self.nest.repeat
        return [Copy(copy.env, copy.row, v, t) for v in vectors for t in range(turns)]

    def begin(self, number: int, write: Write, copies: list[Copy]) -> None:
        p, statement = self.e.p, write.statement
        for copy in copies:
            for part in self._parts(number, write, copy):
                slot, lanes = self._slot(number, write, part)
                none = p.number(self._identity(write), statement.dtype, lanes)
                type_ = p.type_(statement.dtype, lanes)
                self.e.w.line(f"memref.store {none.name}, {slot}[] : memref<{type_}>")

    def _identity(self, write: Write) -> float:
        value = _IDENTITY[str(write.statement.op)]
        if write.statement.dtype == "int" and value in (float("inf"), float("-inf")):
            return 2**63 - 1 if value > 0 else -(2**63)
        return value

    def end(self, number: int, write: Write, copies: list[Copy]) -> None:
        """The parts of each sum together, to where it is read from."""
        for copy in copies:
            parts = [
                self._loaded(number, write, part)
                for part in self._parts(number, write, copy)
            ]
            total = parts[0]
            for part in parts[1:]:
                total = self._combine(write, total, part)
            if self.nest.lane in write.statement.over:
                total = self._across(write, total)
            self.store(write, total, copy.env)

    def _loaded(self, number: int, write: Write, copy: Copy) -> Val:
        slot, lanes = self._slot(number, write, copy)
        w, dtype = self.e.w, write.statement.dtype
        type_ = self.e.p.type_(dtype, lanes)
        name = w.put(f"memref.load {slot}[] : memref<{type_}>", w.depth)
        return Val(name, dtype, lanes, w.depth)

    def _combine(self, write: Write, a: Val, b: Val) -> Val:
        op = str(write.statement.op)
        if op in ("any", "all"):
            return self.e.p.plain("arith.ori" if op == "any" else "arith.andi", a, b)
        return self.e.p.arithmetic(_COMBINE[op], a, b)

    def _across(self, write: Write, value: Val) -> Val:
        """All lanes of a vector together."""
        if not value.lanes:
            return value
        op, dtype = str(write.statement.op), value.dtype
        table = _ACROSS if dtype == "float" else _ACROSS_INT
        kind = {"any": "or", "all": "and"}.get(op) or table[op]
        fast = (
            " fastmath<reassoc>" if kind in ("add", "mul") and dtype == "float" else ""
        )
        scalar, vector = self.e.p.type_(dtype, 0), self.e.p.type_(dtype, value.lanes)
        text = f"vector.reduction <{kind}>, {value.name}{fast} : {vector} into {scalar}"
        return Val(self.e.w.put(text, value.level), dtype, 0, value.level)

    def fill(self, number: int, write: Write, rows: Sequence[Env]) -> None:
        """A sum that is kept in memory begins as what nothing adds up to."""
        statement = write.statement
        none = self.e.p.number(self._identity(write), statement.dtype)

        def fill(dims: Sequence[str], env: Env) -> None:
            if not dims:
                for name in write.into:
                    self.e.memory.store(none, self.e.kernel.buffer(name), env)
                return
            w = self.e.w
            high = w.constant(self.e.kernel.extents[dims[0]])
            with w.loop(w.constant(0), high, w.constant(1)) as at:
                fill(dims[1:], {**env, dims[0]: at})

        own = [d for d in statement.dims if d not in self.e.kernel.tasks]
        for env in rows:
            fill(own, env)

    def store(self, write: Write, value: Val, env: Env) -> None:
        lane = self.nest.lane
        if lane is not None and lane in write.statement.dims and lane in env:
            value = self.e.p.spread(value, env[lane].lanes)
        for name in write.into:
            self.e.memory.store(value, self.e.kernel.buffer(name), env)

    def accumulate(
        self, number: int, write: Write, copies: list[Copy], values: list[Val]
    ) -> None:
        for copy, value in zip(copies, values, strict=True):
            before = self._loaded(number, write, copy)
            value = self._masked(write, self.e.p.spread(value, before.lanes), copy)
            total = self._combine(write, before, value)
            slot, lanes = self._slot(number, write, copy)
            type_ = self.e.p.type_(write.statement.dtype, lanes)
            self.e.w.line(f"memref.store {total.name}, {slot}[] : memref<{type_}>")

    def _masked(self, write: Write, value: Val, copy: Copy) -> Val:
        """Lanes that do not exist add nothing to a sum across lanes."""
        lane = self.nest.lane
        if lane is None or lane not in write.statement.over:
            return value
        mask = copy.env[lane].mask
        if mask is None:
            return value
        none = self.e.p.number(self._identity(write), value.dtype, value.lanes)
        return self.e.p.select(Val(mask, "bool", value.lanes, 0), value, none)

    def into_memory(
        self, write: Write, copies: list[Copy], values: list[Val], at_once: bool
    ) -> None:
        """Adds to a sum whose place changes inside of its loops; `at_once` it is all."""
        lane, statement = self.nest.lane, write.statement
        if lane in statement.over:
            groups: dict[tuple[int, int], list[tuple[Copy, Val]]] = {}
            for copy, value in zip(copies, values, strict=True):
                value = self.e.p.spread(value, self.nest.width)
                value = self._masked(write, value, copy)
                groups.setdefault((copy.row, copy.turn), []).append((copy, value))
            merged = [self._merged(write, g) for g in groups.values()]
        else:
            merged = list(zip(copies, values, strict=True))
        for copy, value in merged:
            total = value
            if not at_once:
                buffer = self.e.kernel.buffer(write.into[0])
                before = self.e.memory.load(buffer, copy.env, self.e.w.depth)
                total = self._combine(write, before, value)
            self.store(write, total, copy.env)

    def _merged(self, write: Write, group: list[tuple[Copy, Val]]) -> tuple[Copy, Val]:
        total = group[0][1]
        for _, value in group[1:]:
            total = self._combine(write, total, value)
        return group[0][0], self._across(write, total)
