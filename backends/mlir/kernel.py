"""A kernel as data: the nests of loops of one region, nothing left to decide."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from seqdsl.backends.mlir.statements import Statement
from seqdsl.ir.types import BATCH, TIME, DType
from seqdsl.schedule.plan import Direction

How = Literal["tasks", "team", "ranges"]
"""How a kernel is shared out: by tasks, by parts of every step, by parts of the sequence."""

Role = Literal["input", "output", "local", "history", "border"]


@dataclass(frozen=True)
class Buffer:
    """Where a value lives: `dims` are its dims in memory order.

    What comes from outside varies along `axes`, batch before time; a local one has a
    row for each of the sequences that a kernel runs side by side. A history has the steps
    of one chunk (and the one before), borders the first of each chunk. With `block`, the
    last dim is cut into vectors of that many entries and the vectors come first.

    With a `source` it is that argument at step `phase` of a block of steps.
    """

    name: str
    role: Role
    dims: tuple[str, ...]
    dtype: DType
    axes: tuple[str, ...] = ()
    block: int = 0
    source: str = ""
    phase: int = 0

    @property
    def varies(self) -> bool:
        """Whether it differs from step to step."""
        return TIME in self.axes

    @property
    def batched(self) -> bool:
        """Whether it differs from sequence to sequence."""
        return BATCH in self.axes


@dataclass(frozen=True)
class Write:
    """A statement, and the buffers that its value goes to (reductions: one local)."""

    statement: Statement
    into: tuple[str, ...]


@dataclass(frozen=True)
class Nest:
    """Statements whose loops run over the same dims: `lane` by vectors, if there is one.

    `order` are the other dims, outermost first; `unroll` vectors are computed side by side,
    and `repeat` turns of the innermost loop. `dense`: so are the sequences of a task.
    """

    writes: tuple[Write, ...]
    lane: str | None
    width: int
    order: tuple[str, ...]
    lane_inside: bool
    unroll: int
    repeat: int
    dense: bool


@dataclass(frozen=True)
class Kernel:
    """One task is `rows` sequences at one index of `tasks` (and a tile of `lane`).

    `before` runs once, `step` at every step of time, `after` at the end. `grain` is how
    many entries of the lane dim `tiled` a task has at least, or multiples of it. `replay`
    runs again by chunks of `chunk` steps what `step` then reads, `save` and `restore` at
    their borders.

    `advance`, where it can be, runs `stride` steps again of which only the last is kept.

    `jammed` runs `count` steps as one, as long as so many are left; `phases` are the
    arguments that it reads and writes at each.

    `turns` tasks at most go through the sequence together, some steps each.

    `members`: so many threads at most may run every task together, each its vectors of
    every nest; its buffers then are in `work` bytes that they share. `ranged`: a call runs
    a part of the steps.
    """

    name: str
    extents: Mapping[str, int]
    direction: Direction
    arguments: tuple[Buffer, ...]
    locals: tuple[Buffer, ...]
    tasks: tuple[str, ...]
    tiled: str | None
    grain: int
    rows: int
    before: tuple[Nest, ...]
    step: tuple[Nest, ...]
    after: tuple[Nest, ...]
    bits: int
    storage: str
    states: tuple[str, ...]
    chunk: int = 0
    replay: tuple[Nest, ...] = ()
    save: tuple[Nest, ...] = ()
    restore: tuple[Nest, ...] = ()
    advance: tuple[Nest, ...] = ()
    stride: int = 1
    jammed: tuple[Nest, ...] = ()
    count: int = 1
    phases: tuple[Buffer, ...] = ()
    turns: int = 1
    members: int = 0
    work: int = 0
    ranged: bool = False

    def buffer(self, name: str) -> Buffer:
        """The argument or local of that name."""
        known = (*self.arguments, *self.locals, *self.phases)
        return next(b for b in known if b.name == name)
