"""What steps of a plan read, and which of them others need."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from seqdsl.ir import nodes as ir
from seqdsl.ir.walk import subtree
from seqdsl.schedule.dependence import names_in
from seqdsl.schedule.plan import (
    Assign,
    Call,
    DepthLoop,
    Parallel,
    Step,
    TimeLoop,
    defined,
    walk,
)


def exprs_of(step: Step) -> tuple[ir.Node, ...]:
    """All that a step evaluates, inner steps included."""
    found: list[ir.Node] = []
    for inner in walk((step,)):
        match inner:
            case Assign(equation=equation):
                found.append(equation.expr)
            case Call(call=call):
                found.extend(arg for _, arg in call.args)
            case TimeLoop(hoisted=hoisted):
                found.extend(e.expr for e in hoisted)
            case Parallel(loop=loop):
                found.extend(exprs_of(loop))
            case DepthLoop(repeat=repeat):
                if repeat.condition is not None:
                    found.append(repeat.condition)
                if isinstance(repeat.count, ir.Base):
                    found.append(repeat.count)
    return tuple(found)


def reads_of(*steps: Step) -> frozenset[str]:
    """Names that steps read and do not compute."""
    exprs = (e for step in steps for e in exprs_of(step))
    read = frozenset[str]().union(*map(names_in, exprs))
    return read - frozenset(defined(steps))


def shifted(steps: Iterable[Step]) -> frozenset[str]:
    """Names that are read at another step."""
    return frozenset(
        n.arg.name
        for step in steps
        for expr in exprs_of(step)
        for n in subtree(expr)
        if isinstance(n, ir.Shift) and isinstance(n.arg, ir.Ref)
    )


def needed_by(steps: tuple[Step, ...], early: Sequence[Step]) -> list[Step]:
    """Which of `early` the others need, in order."""
    needed = needed_of(steps, early)
    return [s for s in early if id(s) in needed]


def needed_of(taken: Iterable[Step], free: Sequence[Step]) -> set[int]:
    """Which of `free` must have run before `taken` can."""
    wanted = reads_of(*taken)
    found: set[int] = set()
    for step in reversed(free):
        if set(defined((step,))) & wanted:
            found.add(id(step))
            wanted |= reads_of(step)
    return found


def left(step: Step, free: list[Step], needed: set[int]) -> bool:
    """Whether `step` is one of `free` that nothing needs."""
    return any(step is s for s in free) and id(step) not in needed


def run_again(step: Step) -> frozenset[str]:
    """What a loop runs again for itself."""
    if not isinstance(step, TimeLoop):
        return frozenset()
    return frozenset(defined(step.replay))


def parted_by(
    steps: list[Step], loop: TimeLoop, replay: TimeLoop
) -> tuple[list[Step], list[Step]]:
    """Of the steps before `loop`: the others, and those that read what it runs again."""
    mine = set(defined(replay.body))
    late: list[Step] = []
    for step in steps:
        if reads_of(step) & mine:
            late.append(step)
            mine |= set(defined((step,)))
    needed = needed_of((loop,), late)
    late = [s for s in late if id(s) not in needed]
    return [s for s in steps if not any(s is x for x in late)], late


def merged(loop: TimeLoop, taken: list[Step]) -> TimeLoop:
    """`loop` with what it takes in."""
    carried, body = list(loop.carried), list(loop.body)
    for step in taken:
        if isinstance(step, TimeLoop):
            carried += [n for n in step.carried if n not in carried]
            body += step.body
        else:
            body.append(step)
    return replace(loop, carried=tuple(carried), body=tuple(body))


def beside_states(loop: TimeLoop) -> list[Step]:
    """What the body reads of a step run again, its states aside: computed once more."""
    rest = [
        s
        for s in loop.replay
        if isinstance(s, Assign) and s.equation.name not in loop.replayed
    ]
    return needed_by(loop.body, rest)
