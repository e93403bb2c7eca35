"""Tasks that take turns along a sequence, some steps each.

The rows of all heads at one step lie side by side. A kernel that runs a head through the
whole sequence before the next reads pieces of rows, which comes at a third of the rate at
which a processor reads rows; whoever runs asks for the rows that all read next.
"""

from __future__ import annotations

from dataclasses import dataclass

from seqdsl.backends.mlir.ahead import ask_for
from seqdsl.backends.mlir.expressions import Expressions
from seqdsl.backends.mlir.memory import BEFORE, NOW, TURN
from seqdsl.backends.mlir.places import place_of, run_nests
from seqdsl.backends.mlir.stretches import bounds, run_stretch, step_at
from seqdsl.backends.mlir.writer import Index
from seqdsl.ir.types import TIME

STEPS = 32
"""Steps of a turn: so many that it takes longer than to fetch a state that waited."""


@dataclass(frozen=True)
class _Group:
    """Tasks that take turns: `count` from `base` on."""

    base: Index
    count: Index

    def task(self, e: Expressions, turn: Index) -> Index:
        """The number of a task."""
        name = e.w.put(f"arith.addi {self.base.name}, {turn.name} : index", turn.level)
        return Index(name, turn.level)


def run_in_turns(e: Expressions) -> None:
    """All tasks of a call, `turns` of them at a time."""
    w, kernel = e.w, e.kernel
    zero, one, size = w.constant(0), w.constant(1), w.constant(kernel.turns)
    low, high = bounds(e)
    with w.loop("%first", "%past", size) as base:
        left = w.put(f"arith.subi %past, {base.name} : index", w.depth)
        count = w.put(f"arith.minsi {left}, {size} : index", w.depth)
        group = _Group(base, Index(count, w.depth))
        with w.loop(zero, count, one) as turn:
            _once(e, group, turn, first=True)
        with w.loop(low, high, w.constant(STEPS)) as start:
            end = w.put(
                f"arith.addi {start.name}, {w.constant(STEPS)} : index", w.depth
            )
            end = w.put(f"arith.minsi {end}, {high} : index", w.depth)
            part = (start, Index(end, w.depth))
            with w.loop(zero, count, one) as turn:
                _turn(e, group, turn, part)
        with w.loop(zero, count, one) as turn:
            _once(e, group, turn, first=False)


def _once(e: Expressions, group: _Group, turn: Index, first: bool) -> None:
    """What comes before the first step of a task, or behind its last."""
    env, tile = place_of(e, group.task(e, turn))
    e.floor = e.w.depth
    begin = Index(e.w.constant(0), 0, fixed=0)
    env = {**env, TURN: turn, NOW: begin, BEFORE: begin}
    run_nests(e, e.kernel.before if first else e.kernel.after, tile, env)


def _turn(
    e: Expressions, group: _Group, turn: Index, part: tuple[Index, Index]
) -> None:
    """The steps of one task from `part`; and everybody's rows of the steps behind."""
    w, (low, high) = e.w, part
    env, tile = place_of(e, group.task(e, turn))
    count, level = group.count, turn.level
    share = w.once(
        f"arith.ceildivui {w.constant(STEPS)}, {count.name} : index", count.level
    )
    own = w.put(f"arith.muli {turn.name}, {share} : index", level)
    own = w.put(f"arith.addi {high.name}, {own} : index", level)

    def ask(step: Index) -> None:
        """The rows behind are shared out among turns, and within one among its steps."""
        level = w.depth
        place = w.put(f"arith.subi {step.name}, {low.name} : index", level)
        row = w.put(f"arith.divui {place}, {count.name} : index", level)
        who = w.put(f"arith.remui {place}, {count.name} : index", level)
        row = w.put(f"arith.addi {own}, {row} : index", level)
        row = w.put(f"arith.minsi {row}, {_last(e)} : index", level)
        there, _ = place_of(e, group.task(e, Index(who, level)))
        ask_for(e, {**there, TIME: step_at(e, Index(row, level))})

    run_stretch(e, tile, {**env, TURN: turn}, (low.name, high.name), ask)


def _last(e: Expressions) -> str:
    """The turn of the last step of a call."""
    _, high = bounds(e)
    return e.w.once(f"arith.subi {high}, {e.w.constant(1)} : index")
