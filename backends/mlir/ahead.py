"""Asks memory early for what later steps read.

Rows of one head lie apart, step from step, and processors do not guess across pages of
memory: without this, a kernel whose state fits the innermost cache waits for its streams.
"""

from __future__ import annotations

import math

from seqdsl.backends.mlir.expressions import Expressions
from seqdsl.backends.mlir.kernel import Buffer
from seqdsl.backends.mlir.loops import Tile, row_env
from seqdsl.backends.mlir.memory import Env
from seqdsl.backends.mlir.writer import Index
from seqdsl.ir.types import TIME

STEPS = 16
"""How many steps ahead."""

_LINE = 64
"""Bytes that memory delivers at once, at least."""

_MOST = 64
"""Lines a step above which rows are long enough for the processor to see them coming."""


def ask_ahead(
    e: Expressions, tile: Tile | None, env: Env, forward: bool | None = None
) -> None:
    """Requests for the rows of the arguments `STEPS` steps after the one at `env`.

    Steps run as those of the kernel do, or as `forward` says.
    """
    if e.kernel.rows > 1 or tile is not None and not e.kernel.tasks:
        return
    if forward is None:
        forward = e.kernel.direction == "forward"
    ask_for(e, {**env, TIME: _later(e, env[TIME], forward)}, near=True)


def ask_for(e: Expressions, env: Env, near: bool = False) -> None:
    """Requests for the rows of the arguments at `env`, to the innermost cache if `near`."""
    place = row_env(e, env, 0)
    for buffer in e.kernel.arguments:
        if buffer.varies and set(buffer.dims) & set(e.kernel.tasks):
            _ask(e, buffer, place, 3 if near else 2)


def _later(e: Expressions, at: Index, forward: bool) -> Index:
    """The step that is run `STEPS` steps later, or the last."""
    w, count = e.w, e.w.constant(STEPS)
    if forward:
        last = w.once(f"arith.subi %time, {w.constant(1)} : index")
        name = w.put(f"arith.addi {at.name}, {count} : index", at.level)
        return Index(w.put(f"arith.minsi {name}, {last} : index", at.level), at.level)
    name = w.put(f"arith.subi {at.name}, {count} : index", at.level)
    zero = w.constant(0)
    return Index(w.put(f"arith.maxsi {name}, {zero} : index", at.level), at.level)


def _ask(e: Expressions, buffer: Buffer, env: Env, locality: int) -> None:
    """One request for each line of a row; a row's dims after the tasks' are dense."""
    memory, w = e.memory, e.w
    inner = [d for d in buffer.dims if d not in e.kernel.tasks]
    if buffer.dims[len(buffer.dims) - len(inner) :] != tuple(inner):
        return
    entries = math.prod(e.kernel.extents[d] for d in inner)
    width = {"i8": 1, "bf16": 2, "f64": 8, "i64": 8}.get(memory.stored(buffer), 4)
    lines = -(-entries * width // _LINE)
    if lines > _MOST or len(inner) > 1:
        return
    how = "write" if buffer.role == "output" else "read"
    for line in range(lines):
        at = min(line * _LINE // width, max(entries - 1, 0))
        place = Index(w.constant(at), 0, fixed=at)
        where = memory.place(buffer, {**env, **dict.fromkeys(inner, place)})
        target = f"{memory.pointer(buffer)}[{where}], {how}, locality<{locality}>, data"
        w.line(f"memref.prefetch {target} : {memory.type_(buffer)}")
