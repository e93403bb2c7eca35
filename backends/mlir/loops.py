"""The loops of one nest: vectors side by side, sums in registers where they stay open."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from seqdsl.backends.mlir.expressions import Expressions
from seqdsl.backends.mlir.kernel import Nest, Write
from seqdsl.backends.mlir.memory import ROW, Env
from seqdsl.backends.mlir.writer import Index, Val
from seqdsl.ir.types import BATCH

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


@dataclass(frozen=True)
class Tile:
    """The part of the tiled dim that a task has: from `low` to `high`, and whether it
    ends where the dim ends."""

    low: Index
    high: Index
    last: str


@dataclass
class Loops:
    """Writes `nest` for the sequences `rows` (all of them side by side, or one)."""

    e: Expressions
    nest: Nest
    tile: Tile | None
    slots: dict[tuple[int, int, int, int], str] = field(
        default_factory=dict[tuple[int, int, int, int], str]
    )

    def run(self, rows: Sequence[Env]) -> None:
        """All loops of the nest."""
        copies = [Copy(env, row=i) for i, env in enumerate(rows)]
        for i, write in enumerate(self.nest.writes):
            if write.statement.op and not self._open(write):
                self._fill(i, write, rows)
        self._loop(0, copies)

    # ---- The order of the loops

    @property
    def dims(self) -> tuple[str, ...]:
        """Dims looped over, outermost first."""
        lane = () if self.nest.lane is None else (self.nest.lane,)
        if self.nest.lane_inside:
            return (*self.nest.order, *lane)
        return (*lane, *self.nest.order)

    def _first(self, write: Write) -> int:
        """The outermost loop that a sum runs over."""
        over = write.statement.over
        return min(i for i, d in enumerate(self.dims) if d in over)

    def _open(self, write: Write) -> bool:
        """Whether a sum stays in registers: all loops inside its first are summed over."""
        rest = self.dims[self._first(write) :]
        return set(rest) <= set(write.statement.over)

    def _loop(self, depth: int, copies: list[Copy]) -> None:
        if depth == len(self.dims):
            self._body(copies)
            return
        begun = [
            (i, w)
            for i, w in enumerate(self.nest.writes)
            if w.statement.op and self._open(w) and self._first(w) == depth
        ]
        for i, write in begun:
            self._begin(i, write, copies)
        dim = self.dims[depth]
        if dim == self.nest.lane:
            self._lanes(dim, depth, copies)
        else:
            self._plain(dim, depth, copies)
        for i, write in begun:
            self._end(i, write, copies)

    def _plain(self, dim: str, depth: int, copies: list[Copy]) -> None:
        w, extent = self.e.w, self.e.kernel.extents[dim]
        innermost = depth == len(self.dims) - 1 and not self.nest.lane_inside
        turns = self.nest.repeat if innermost else 1
        low, high = w.constant(0), w.constant(extent)
        with w.loop(low, high, w.constant(turns)) as at:
            inner: list[Copy] = []
            for turn in range(turns):
                place = at if turn == 0 else self._moved(at, turn)
                inner += [
                    Copy({**c.env, dim: place}, c.row, c.vector, turn) for c in copies
                ]
            self._loop(depth + 1, inner)

    def _moved(self, index: Index, offset: int, **more: object) -> Index:
        w = self.e.w
        text = f"arith.addi {index.name}, {w.constant(offset)} : index"
        return Index(w.once(text, index.level), index.level)

    # ---- Vectors

    def _lanes(self, dim: str, depth: int, copies: list[Copy]) -> None:
        """Whole vectors, `unroll` at a time, then what remains."""
        w, nest = self.e.w, self.nest
        extent, width = self.e.kernel.extents[dim], nest.width
        whole = extent // width
        stride = nest.unroll * width
        full = whole // nest.unroll * stride
        tiled = dim == self.e.kernel.tiled and self.tile is not None
        if tiled and self.tile is not None:
            if full:
                end = w.constant(full)
                text = f"arith.minsi {self.tile.high.name}, {end} : index"
                high = w.once(text, self.tile.high.level)
                self._vector_loop(self.tile.low.name, high, stride, dim, depth, copies)
            if full < extent:
                with w.block(f"scf.if {self.tile.last}"):
                    self._static(full, extent, dim, depth, copies)
            return
        if full == stride and full == extent:
            self._static(0, extent, dim, depth, copies)
            return
        if full:
            self._vector_loop(
                w.constant(0), w.constant(full), stride, dim, depth, copies
            )
        if full < extent:
            self._static(full, extent, dim, depth, copies)

    def _vector_loop(
        self, low: str, high: str, stride: int, dim: str, depth: int, copies: list[Copy]
    ) -> None:
        w, nest = self.e.w, self.nest
        with w.loop(low, high, w.constant(stride)) as at:
            places = [
                self._vector(at if u == 0 else self._moved(at, u * nest.width), None)
                for u in range(nest.unroll)
            ]
            self._loop(depth + 1, self._each(copies, dim, places))

    def _static(
        self, low: int, high: int, dim: str, depth: int, copies: list[Copy]
    ) -> None:
        """Vectors whose places are known; the last may have lanes that do not exist."""
        w, width = self.e.w, self.nest.width
        places: list[Index] = []
        for start in range(low, high, width):
            at = Index(w.constant(start), 0, fixed=start)
            places.append(self._vector(at, min(width, high - start)))
        self._loop(depth + 1, self._each(copies, dim, places))

    def _vector(self, at: Index, count: int | None) -> Index:
        width, mask = self.nest.width, None
        if count is not None and count < width:
            mask = self.e.w.once(f"vector.constant_mask [{count}] : vector<{width}xi1>")
        return Index(at.name, at.level, width, mask, at.fixed)

    @staticmethod
    def _each(copies: list[Copy], dim: str, places: list[Index]) -> list[Copy]:
        return [
            Copy({**c.env, dim: place}, c.row, u, c.turn)
            for c in copies
            for u, place in enumerate(places)
        ]

    # ---- Sums

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

    def _begin(self, number: int, write: Write, copies: list[Copy]) -> None:
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

    def _end(self, number: int, write: Write, copies: list[Copy]) -> None:
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
            self._store(write, total, copy.env)

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

    def _fill(self, number: int, write: Write, rows: Sequence[Env]) -> None:
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

    # ---- Inside of all loops

    def _body(self, copies: list[Copy]) -> None:
        stores: list[Callable[[], None]] = []
        self.e.now = {}
        for number, write in enumerate(self.nest.writes):
            statement = write.statement
            values = [
                self.e.p.cast(self.e.value(statement.expr, c.env), statement.dtype)
                for c in copies
            ]
            if statement.op:
                self._accumulate(number, write, copies, values)
                continue
            for copy, value in zip(copies, values, strict=True):
                key = (statement.name, self.e.place(copy.env, statement.dims))
                self.e.now[key] = value
                stores.append(self._later(write, value, copy.env))
        for store in stores:
            store()
        self.e.now = {}

    def _later(self, write: Write, value: Val, env: Env) -> Callable[[], None]:
        return lambda: self._store(write, value, env)

    def _store(self, write: Write, value: Val, env: Env) -> None:
        lane = self.nest.lane
        if lane is not None and lane in write.statement.dims and lane in env:
            value = self.e.p.spread(value, env[lane].lanes)
        for name in write.into:
            self.e.memory.store(value, self.e.kernel.buffer(name), env)

    def _accumulate(
        self, number: int, write: Write, copies: list[Copy], values: list[Val]
    ) -> None:
        if not self._open(write):
            self._into_memory(write, copies, values)
            return
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

    def _into_memory(self, write: Write, copies: list[Copy], values: list[Val]) -> None:
        """Adds to a sum whose place changes inside of its loops."""
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
            buffer = self.e.kernel.buffer(write.into[0])
            before = self.e.memory.load(buffer, copy.env, self.e.w.depth)
            total = self._combine(write, before, value)
            self._store(write, total, copy.env)

    def _merged(self, write: Write, group: list[tuple[Copy, Val]]) -> tuple[Copy, Val]:
        total = group[0][1]
        for _, value in group[1:]:
            total = self._combine(write, total, value)
        return group[0][0], self._across(write, total)


def run_nest(
    e: Expressions, nest: Nest, tile: Tile | None, env: Env, dense: bool
) -> None:
    """`nest` for every sequence of a task: side by side where a matrix is shared."""
    w, rows = e.w, e.kernel.rows
    if dense or rows == 1:
        Loops(e, nest, tile).run([row_env(e, env, i) for i in range(rows)])
        return
    with ExitStack() as stack:
        at = stack.enter_context(w.loop(w.constant(0), w.constant(rows), w.constant(1)))
        Loops(e, nest, tile).run([_row(e, env, at)])


def row_env(e: Expressions, env: Env, i: int) -> Env:
    """`env` for sequence `i` of a task."""
    return _row(e, env, Index(e.w.constant(i), 0, fixed=i))


def _row(e: Expressions, env: Env, row: Index) -> Env:
    """Rows behind the last sequence do the last once more."""
    w, base, last = e.w, env[BATCH], env["last row"]
    level = max(base.level, row.level)
    name = base.name
    if e.kernel.rows > 1:
        name = w.once(f"arith.addi {base.name}, {row.name} : index", level)
        name = w.once(f"arith.minsi {name}, {last.name} : index", level)
    return {**env, ROW: row, BATCH: Index(name, level)}
