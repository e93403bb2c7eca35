"""Which part of the work a task of a kernel is, and the loops that it runs."""

from __future__ import annotations

from seqdsl.backends.mlir.expressions import Expressions
from seqdsl.backends.mlir.kernel import Nest
from seqdsl.backends.mlir.loops import Tile, run_nest
from seqdsl.backends.mlir.memory import Env
from seqdsl.backends.mlir.team import Team
from seqdsl.backends.mlir.writer import Index
from seqdsl.ir.types import BATCH


def run_nests(
    e: Expressions, nests: tuple[Nest, ...], tile: Tile | Team | None, env: Env
) -> None:
    """`nests` in order, the part of them that is this thread's."""
    if isinstance(tile, Team):
        tile.run(e, nests, env)
        return
    for nest in nests:
        run_nest(e, nest, tile, env, nest.dense)


def place_of(e: Expressions, task: Index) -> tuple[Env, Tile | None]:
    """Which sequences, which entries of the task dims and which tile a task is."""
    w, kernel, level = e.w, e.kernel, task.level
    env: dict[str, Index] = {}
    rest = task.name
    tile = None
    if kernel.tiled is not None:
        size = w.constant(kernel.extents[kernel.tiled])
        count = w.once(f"arith.ceildivsi {size}, %grain : index")
        part = w.put(f"arith.remsi {rest}, {count} : index", level)
        rest = w.put(f"arith.divsi {rest}, {count} : index", level)
        low = w.put(f"arith.muli {part}, %grain : index", level)
        high = w.put(f"arith.addi {low}, %grain : index", level)
        last = w.put(f"arith.cmpi sge, {high}, {size} : index", level)
        high = w.put(f"arith.minsi {high}, {size} : index", level)
        tile = Tile(kernel.tiled, Index(low, level), Index(high, level), last)
    for dim in reversed(kernel.tasks):
        size = w.constant(kernel.extents[dim])
        env[dim] = Index(w.put(f"arith.remsi {rest}, {size} : index", level), level)
        rest = w.put(f"arith.divsi {rest}, {size} : index", level)
    if kernel.rows > 1:
        rest = w.put(f"arith.muli {rest}, {w.constant(kernel.rows)} : index", level)
    env[BATCH] = Index(rest, level)
    last_row = w.once(f"arith.subi %batch, {w.constant(1)} : index")
    env["last row"] = Index(last_row, 0)
    return env, tile
