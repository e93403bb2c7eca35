"""Loops along time that take in the pointwise work around them.

For a target whose loops are kernels: what a loop reads is computed in it, and what
reads its values is too, so that streams go through memory once. Loops that run the same
way over values of each other become one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from seqdsl.ir import nodes as ir
from seqdsl.ir.names import names_of
from seqdsl.ir.types import TIME
from seqdsl.ir.walk import subtree
from seqdsl.rewrite.drop_unused import drop_unused
from seqdsl.schedule.choose import LOOP, Wish
from seqdsl.schedule.cut import Fusion, cut, fits
from seqdsl.schedule.dependence import dependences, names_in
from seqdsl.schedule.hoist import hoist
from seqdsl.schedule.in_parallel import in_parallel
from seqdsl.schedule.loops import order
from seqdsl.schedule.obstacles import kernel_loop, shift_fits
from seqdsl.schedule.plan import (
    Assign,
    DepthLoop,
    Parallel,
    Plan,
    Step,
    TimeLoop,
    defined,
    walk,
)
from seqdsl.schedule.repeats import axes_in, parted
from seqdsl.schedule.step_reads import (
    beside_states,
    left,
    merged,
    needed_by,
    needed_of,
    parted_by,
    reads_of,
    run_again,
    shifted,
)


def fuse(plan: Plan, fusion: Fusion, rest: Wish = LOOP) -> Plan:
    """`plan` for kernels; loops that they cannot run do so as `rest` says."""
    made = _with_repeats(plan, fusion) if fusion.turns else None
    if made is None:
        made = _fused(plan.model, plan.steps, fusion)

    def kernel(loop: TimeLoop) -> bool:
        return kernel_loop(made.model, loop, fusion)

    whole = in_parallel(made, rest, kernel)
    return replace(whole, steps=_rest_hoisted(whole.model, whole.steps, kernel))


def _fused(model: ir.Model, steps: tuple[Step, ...], fusion: Fusion) -> Plan:
    loops = [s for s in walk(steps) if isinstance(s, TimeLoop)]
    inside = frozenset(n for loop in loops for n in defined(loop.body))
    model = drop_unused(cut(model, inside, fusion))
    steps = order(model, dependences(model))
    return Plan(model=model, steps=_Fuser(model, fusion).steps(steps))


def _with_repeats(plan: Plan, fusion: Fusion) -> Plan | None:
    """`plan` with repeats in the loops of kernels; None where that changes nothing."""
    model = parted(plan.model, plan.steps)
    if model is plan.model:
        return None
    steps = order(model, dependences(model))
    loops = [s for s in walk(steps) if isinstance(s, TimeLoop)]
    axes = frozenset(a for loop in loops for a in axes_in(loop))
    made = _fused(model, steps, replace(fusion, repeats=axes))
    loops = [s for s in walk(made.steps) if isinstance(s, TimeLoop)]
    held = all(kernel_loop(made.model, s, fusion) for s in loops if axes_in(s))
    return made if held else None


def _rest_hoisted(
    model: ir.Model, steps: tuple[Step, ...], kernel: Callable[[TimeLoop], bool]
) -> tuple[Step, ...]:
    """Loops that no kernel runs without their state-free work."""
    taken = names_of(model)
    found: list[Step] = []
    for step in steps:
        if not (isinstance(step, TimeLoop) and kernel(step)):
            (step,) = hoist((step,), frozenset(taken))
            taken |= {e.name for s in walk((step,)) for e in _hoisted(s)}
        found.append(step)
    return tuple(found)


def _hoisted(step: Step) -> tuple[ir.Equation, ...]:
    match step:
        case TimeLoop(hoisted=hoisted) | Parallel(loop=TimeLoop(hoisted=hoisted)):
            return hoisted
        case _:
            return ()


@dataclass(frozen=True)
class _Fuser:
    model: ir.Model
    fusion: Fusion

    def steps(self, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        """`steps` with every loop that a kernel can run grown as far as it goes."""
        replay = self._replay(steps)
        if replay is not None:
            kept = [s for s in steps if s is not replay]
            grown = self._all(kept, replay)
            if grown is not None:
                return grown
        grown = self._all(list(steps), None)
        assert grown is not None
        return grown

    def _replay(self, steps: tuple[Step, ...]) -> TimeLoop | None:
        """The loop whose values are run again where they are read."""
        found = [
            s
            for s in steps
            if isinstance(s, TimeLoop)
            and s.direction == "forward"
            and set(s.carried) & self.fusion.again
            and kernel_loop(self.model, s, self.fusion)
        ]
        return found[0] if len(found) == 1 else None

    def _all(
        self, todo: list[Step], replay: TimeLoop | None
    ) -> tuple[Step, ...] | None:
        """Every loop grown; None where what `replay` computes is read elsewhere."""
        place, asked = 0, replay
        grown: list[Step] = []
        while place < len(todo):
            match todo[place]:
                case TimeLoop() as loop if not any(
                    loop is g for g in grown
                ) and kernel_loop(self.model, loop, self.fusion):
                    own = replay if loop.direction == "backward" else None
                    grown.append(self._grow(todo, place, loop, own))
                    replay = None if own is not None else replay
                    continue  # loops that have moved before it grow as well
                case DepthLoop(body=body) as loop:
                    todo[place] = replace(loop, body=self.steps(body))
                case _:
                    pass
            place += 1
        if asked is not None and (replay is not None or self._unknown(todo)):
            return None
        return tuple(todo)

    def _unknown(self, steps: list[Step]) -> bool:
        """Whether a step reads what no step computes for all of time."""
        names = set(self.model.equation)
        return any(
            (reads_of(s) - run_again(s)) & names - set(defined(tuple(steps)))
            for s in steps
        )

    def _grow(
        self, todo: list[Step], place: int, loop: TimeLoop, replay: TimeLoop | None
    ) -> TimeLoop:
        """The grown loop, which then stands in `todo` as well."""
        again = () if replay is None else replay.body
        front, behind = todo[:place], todo[place + 1 :]
        if replay is not None:
            front, late = parted_by(front, loop, replay)
            behind = [*late, *behind]
            loop = replace(loop, replay=again, replayed=replay.carried)
        taken, before, rest = self._after(loop, behind)
        front = [*front, *before]
        group = merged(loop, taken)
        group = replace(group, body=(*beside_states(group), *group.body))
        front, early = self._before(group, front, rest)
        group = replace(
            group,
            body=(*early, *group.body),
            replay=(*needed_by(again, early), *again),
        )
        todo[:] = [*front, group, *rest]
        return group

    def _after(
        self, loop: TimeLoop, steps: list[Step]
    ) -> tuple[list[Step], list[Step], list[Step]]:
        """Of the steps after `loop`: those taken in, those that go before it, the rest."""
        mine, blocked = set(defined((loop, *loop.replay))), set[str]()
        taken: list[Step] = []
        free: list[Step] = []
        rest: list[Step] = []
        for step in steps:
            reads = reads_of(step)
            if not reads & (mine | blocked) and not self._beside(
                step, loop, mine, steps
            ):
                free.append(step)
            elif not reads & blocked and self._joins(step, loop, frozenset(mine)):
                taken.append(step)
                mine |= set(defined((step,)))
            else:
                rest.append(step)
                blocked |= set(defined((step,)))
        needed = needed_of((*taken, *loop.replay, loop), free)
        before = [s for s in free if id(s) in needed]
        kept = [s for s in steps if any(s is x for x in rest) or left(s, free, needed)]
        return taken, before, kept

    def _joins(self, step: Step, loop: TimeLoop, mine: frozenset[str]) -> bool:
        """Whether a step that reads `mine` can run in the loop."""
        match step:
            case Assign(equation=equation):
                return all(
                    fits(n, mine, self.fusion, False) and self._reads_now(n, loop, mine)
                    for n in subtree(equation.expr)
                    if not isinstance(n, ir.Ref | ir.Result)
                )
            case TimeLoop(direction=direction):
                same = direction == loop.direction and not step.replay
                known = (*loop.carried, *loop.replayed)
                return same and kernel_loop(self.model, step, self.fusion, known)
            case _:
                return False

    def _beside(
        self, step: Step, loop: TimeLoop, mine: set[str], steps: list[Step]
    ) -> bool:
        """Whether `step` is another such loop, and something reads both."""
        if not isinstance(step, TimeLoop):
            return False
        own = set(defined((step,)))
        both = any(reads_of(s) & mine and reads_of(s) & own for s in steps)
        return both and self._joins(step, loop, frozenset(mine))

    def _reads_now(self, node: ir.Node, loop: TimeLoop, mine: frozenset[str]) -> bool:
        """Whether the loop has what `node` reads of another step."""
        match node:
            case ir.Shift(arg=ir.Ref(name=name), axis=axis, offset=offset) if (
                axis == TIME
            ):
                if name in loop.replayed or name not in mine:
                    replayed = name in loop.replayed and offset == -1
                    return replayed or shift_fits(node, set(), mine, self.fusion)
                state = self.model.state.get(name)
                one = -1 if loop.direction == "forward" else 1
                return state is not None and TIME in state.carried and offset == one
            case ir.Shift():
                return False
            case _:
                return True

    def _before(
        self, loop: TimeLoop, steps: list[Step], rest: list[Step]
    ) -> tuple[list[Step], list[Step]]:
        """Of the steps before `loop`: those that stay, those that only it reads."""
        read = set(reads_of(loop, *loop.replay))
        others = {n for o in self.model.outputs for n in names_in(o.expr)}
        others |= reads_of(*rest) if rest else frozenset[str]()
        others |= {n for s in self.model.states for n in names_in(s.initial)}
        others |= shifted((loop, *loop.replay))
        front: list[Step] = []
        early: list[Step] = []
        for step in reversed(steps):
            if self._sinks(step) and set(defined((step,))) <= read - others:
                early.insert(0, step)
                read |= reads_of(step)
            else:
                front.insert(0, step)
                others |= reads_of(step)
        return front, early

    def _sinks(self, step: Step) -> bool:
        """Whether a step is pointwise work along time."""
        if not isinstance(step, Assign) or step.equation.name in self.model.state:
            return False
        expr = step.equation.expr
        nothing = frozenset[str]()
        return expr.type.varies and all(
            isinstance(n, ir.Ref | ir.Result) or fits(n, nothing, self.fusion, False)
            for n in subtree(expr)
        )
