"""The loops of one nest: vectors side by side, sums in registers where they stay open."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from seqdsl.backends.mlir.expressions import Expressions
from seqdsl.backends.mlir.kernel import Nest, Write
from seqdsl.backends.mlir.memory import ROW, Env
from seqdsl.backends.mlir.statements import Statement, addends
from seqdsl.backends.mlir.sums import Copy, Sums
from seqdsl.backends.mlir.writer import Index, Val
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import BATCH, DType


@dataclass(frozen=True)
class Tile:
    """The part of `dim` that a task has: from `low` to `high`, and whether it ends where
    the dim ends."""

    dim: str
    low: Index
    high: Index
    last: str


def loop_dims(nest: Nest) -> tuple[str, ...]:
    """The dims that a nest loops over, outermost first."""
    lane = () if nest.lane is None else (nest.lane,)
    return (*nest.order, *lane) if nest.lane_inside else (*lane, *nest.order)


def is_open(nest: Nest, write: Write) -> bool:
    """Whether a sum stays in registers: all loops inside its first are summed over."""
    dims, over = loop_dims(nest), set(write.statement.over)
    first = min(i for i, d in enumerate(dims) if d in over)
    return set(dims[first:]) <= over


@dataclass
class Loops:
    """Writes `nest` for the sequences `rows` (all of them side by side, or one)."""

    e: Expressions
    nest: Nest
    tile: Tile | None

    def __post_init__(self) -> None:
        self.sums = Sums(self.e, self.nest)

    def run(self, rows: Sequence[Env]) -> None:
        """All loops of the nest."""
        copies = [Copy(env, row=i) for i, env in enumerate(rows)]
        for i, write in enumerate(self.nest.writes):
            if write.statement.op and not (self._open(write) or self._at_once(write)):
                self.sums.fill(i, write, rows)
        self._loop(0, copies)

    # ---- The order of the loops

    @property
    def dims(self) -> tuple[str, ...]:
        """Dims looped over, outermost first."""
        return loop_dims(self.nest)

    def _first(self, write: Write) -> int:
        """The outermost loop that a sum runs over."""
        return min(i for i, d in enumerate(self.dims) if d in write.statement.over)

    def _open(self, write: Write) -> bool:
        return is_open(self.nest, write)

    def _at_once(self, write: Write) -> bool:
        """Whether all that a sum adds up is there inside of all loops."""
        nest, lane = self.nest, self.nest.lane
        if lane is None or write.statement.over != (lane,):
            return False
        return self.e.kernel.extents[lane] <= nest.unroll * nest.width

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
            self.sums.begin(i, write, copies)
        dim = self.dims[depth]
        if dim == self.nest.lane:
            self._lanes(dim, depth, copies)
        else:
            self._plain(dim, depth, copies)
        for i, write in begun:
            self.sums.end(i, write, copies)

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
        if self.tile is not None and dim == self.tile.dim:
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

    # ---- Inside of all loops

    def _body(self, copies: list[Copy]) -> None:
        stores: list[Callable[[], None]] = []
        self.e.now = {}
        for number, write in enumerate(self.nest.writes):
            statement = write.statement
            if statement.op and self._open(write):
                for term in _terms(statement):
                    values = self._values(term, statement.dtype, copies)
                    self.sums.accumulate(number, write, copies, values)
                continue
            values = self._values(statement.expr, statement.dtype, copies)
            if statement.op:
                self.sums.into_memory(write, copies, values, self._at_once(write))
                continue
            for copy, value in zip(copies, values, strict=True):
                key = (statement.name, self.e.place(copy.env, statement.dims))
                self.e.now[key] = value
                stores.append(self._later(write, value, copy.env))
        for store in stores:
            store()
        self.e.now = {}

    def _values(self, node: ir.Node, dtype: DType, copies: list[Copy]) -> list[Val]:
        return [self.e.p.cast(self.e.value(node, c.env), dtype) for c in copies]

    def _later(self, write: Write, value: Val, env: Env) -> Callable[[], None]:
        return lambda: self.sums.store(write, value, env)


def _terms(statement: Statement) -> list[ir.Node]:
    """What is added to a sum in registers, one by one: each product then is one operation."""
    return addends(statement.expr) if statement.op == "sum" else [statement.expr]


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
