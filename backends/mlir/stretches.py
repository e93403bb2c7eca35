"""Steps of a kernel one after another: blocks of them, then those that are left."""

from __future__ import annotations

from collections.abc import Callable

from seqdsl.backends.mlir.expressions import Expressions
from seqdsl.backends.mlir.loops import Tile
from seqdsl.backends.mlir.memory import Env, step_of
from seqdsl.backends.mlir.places import run_nests
from seqdsl.backends.mlir.team import Team
from seqdsl.backends.mlir.writer import Index
from seqdsl.ir.types import TIME

Ask = Callable[[Index], None]
"""Asks memory at a turn for what is read later."""


def bounds(e: Expressions) -> tuple[str, str]:
    """The first step of a call, and the one behind its last."""
    return ("%from", "%to") if e.kernel.ranged else (e.w.constant(0), "%time")


def run_stretch(
    e: Expressions, part: Tile | Team | None, env: Env, turns: tuple[str, str], ask: Ask
) -> None:
    """The steps of a stretch, counted in the order in which they run."""
    w, kernel = e.w, e.kernel
    low, high = turns
    if kernel.jammed:
        low = _in_blocks(e, part, env, turns, ask)
    with w.loop(low, high, w.constant(1)) as turn:
        e.floor = w.depth
        ask(turn)
        run_nests(e, kernel.step, part, {**env, TIME: step_at(e, turn)})


def _in_blocks(
    e: Expressions, part: Tile | Team | None, env: Env, turns: tuple[str, str], ask: Ask
) -> str:
    """Whole blocks of a stretch; the first step behind them."""
    w, kernel = e.w, e.kernel
    low, high = turns
    level, count = w.depth, w.constant(kernel.count)
    steps = w.once(f"arith.subi {high}, {low} : index", level)
    rest = w.once(f"arith.remsi {steps}, {count} : index", level)
    left = w.once(f"arith.subi {high}, {rest} : index", level)
    with w.loop(low, left, count) as first:
        e.floor = w.depth
        places: dict[str, Index] = {}
        for phase in range(kernel.count):
            turn = first
            if phase:
                text = f"arith.addi {first.name}, {w.constant(phase)} : index"
                turn = Index(w.put(text, w.depth), w.depth)
            ask(turn)
            places[step_of(phase)] = step_at(e, turn)
        run_nests(e, kernel.jammed, part, {**env, **places})
    return left


def step_at(e: Expressions, turn: Index) -> Index:
    """The step that comes at a turn: the last one first, where a kernel runs backward."""
    if e.kernel.direction == "forward":
        return turn
    w, (low, high) = e.w, bounds(e)
    whole = w.once(f"arith.addi {low}, {high} : index")
    last = w.once(f"arith.subi {whole}, {w.constant(1)} : index")
    name = w.put(f"arith.subi {last}, {turn.name} : index", turn.level)
    return Index(name, turn.level)
