"""Loops along time in the parallel forms that were chosen for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from seqdsl.analysis.analyze import own_verdicts
from seqdsl.analysis.verdict import Verdict
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import TIME
from seqdsl.ir.walk import references
from seqdsl.schedule.beside import joined, narrow_beside
from seqdsl.schedule.choose import Wish, form_of
from seqdsl.schedule.chunked import in_order, rewritten, with_reads
from seqdsl.schedule.forms import Pieces, Products, dims_of
from seqdsl.schedule.plan import (
    Assign,
    Call,
    DepthLoop,
    Parallel,
    Plan,
    Step,
    TimeLoop,
    defined,
    walk,
)
from seqdsl.schedule.products import AnyChunked, Chunked, Turns
from seqdsl.schedule.together import together


def in_parallel(
    plan: Plan, wish: Wish, kept: Callable[[TimeLoop], bool] = lambda loop: False
) -> Plan:
    """`plan` with parallel forms in the place of the loops that `wish` is about.

    Those that are `kept` stay loops.
    """
    if wish.strategy == "loop" or not any(
        isinstance(s, TimeLoop) for s in walk(plan.steps)
    ):
        return plan
    verdicts = {
        frozenset(v.recurrence.members): v
        for v in own_verdicts(plan.model)
        if v.recurrence.axis == TIME
    }
    chooser = _Chooser(plan.model, verdicts, wish, kept)
    steps = chooser.steps(plan.steps)
    if chooser.replaced:
        steps = rewritten(steps, chooser.replaced, chooser.dropped)
        steps = in_order(chooser.model, steps)
    return replace(plan, model=chooser.model, steps=steps)


@dataclass
class _Chooser:
    """Puts parallel steps in the place of loops."""

    model: ir.Model
    verdicts: Mapping[frozenset[str], Verdict]
    wish: Wish
    kept: Callable[[TimeLoop], bool]
    replaced: dict[ir.Node, ir.Node] = field(default_factory=dict[ir.Node, ir.Node])
    dropped: frozenset[str] = frozenset()
    read: tuple[tuple[ir.Equation, ...], dict[str, set[str]]] | None = None

    def steps(self, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        """`steps` with every loop along time in the form wished for."""
        made = [s for step in self._together(steps) for s in self._step(step)]
        return tuple(made if self.wish.fused else self._wider(made))

    def _together(self, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        """`steps` with one loop for each recurrence that has a form as a whole only."""
        for members, verdict in self.verdicts.items():
            if len(verdict.recurrence.states) > 1:
                found = together(steps, members)
                if found and form_of(self.model, verdict, self.wish) is not None:
                    steps = tuple(found)
        return steps

    def _wider(self, steps: list[Step]) -> list[Step]:
        """States that decay and are written to alike, as columns of one."""
        pairs = ((i, j) for i in range(len(steps)) for j in range(len(steps)))
        for i, j in pairs:
            step, other = steps[i], steps[j]
            if not isinstance(step, Parallel) or not isinstance(step.form, Products):
                continue
            found = narrow_beside(self.model, self.verdicts, step.form, other)
            if found is not None and _same_way(step, other):
                self._read(*found)
                return self._wider(joined(steps, i, j, found[1].form))
        return steps

    def _read(self, verdict: Verdict, found: AnyChunked) -> None:
        """From now on only reads are known of the states."""
        self.model = with_reads(self.model, verdict, found)
        self.replaced |= found.replaced
        self.dropped |= frozenset(found.dropped)

    def _step(self, step: Step) -> Iterator[Step]:
        match step:
            case TimeLoop() if not self.kept(step):
                yield from self._loop(step)
            case DepthLoop(body=body):
                yield replace(step, body=self.steps(body))
            case TimeLoop() | Assign() | Call() | Parallel():
                yield step

    def _loop(self, loop: TimeLoop) -> Iterator[Step]:
        plain = all(isinstance(s, Assign) for s in loop.body)
        verdict = self.verdicts.get(frozenset(defined(loop.body)))
        if not plain:
            verdict = self._through_repeat(loop)
        form = None
        if verdict is not None:
            form = form_of(self.model, verdict, self.wish)
        turned = isinstance(form, Chunked) and form.turns is not None
        if form is None or verdict is None or plain == turned:
            yield loop
            return
        if isinstance(form, Chunked):
            yield from self._chunks(loop, verdict, form)
            return
        if more := dims_of(form):
            self.model = replace(self.model, dims={**self.model.dims, **more})
        yield Parallel(loop=loop, form=form)
        yield from self._others(loop, verdict.recurrence.states)

    def _chunks(
        self, loop: TimeLoop, verdict: Verdict, found: AnyChunked
    ) -> Iterator[Step]:
        """Only reads are known of the states, and others are computed from them."""
        self._read(verdict, found)
        if found.turns is not None:
            yield from self._turned(loop, verdict, found.turns)
        yield Parallel(loop=loop, form=found.form)
        for name in found.after:
            yield Assign(equation=self.model.equation[name])
        if isinstance(found.form, Pieces):
            yield from self._others(loop, found.form.states)

    def _through_repeat(self, loop: TimeLoop) -> Verdict | None:
        """The verdict on all that `loop` carries, where it goes through one repeat."""
        names = frozenset(defined(loop.body))
        for members, verdict in self.verdicts.items():
            if members <= names and verdict.recurrence.states == loop.carried:
                depth = [s for s in loop.body if isinstance(s, DepthLoop)]
                flat = all(isinstance(s, Assign) for d in depth for s in d.body)
                return verdict if len(depth) == 1 and flat else None
        return None

    def _turned(self, loop: TimeLoop, verdict: Verdict, turns: Turns) -> Iterator[Step]:
        """What the turns of a step do, at all steps: nothing of it reads the state."""
        new = (*self.model.equations, *turns.inner, *turns.outer)
        self.model = replace(self.model, equations=new)
        gone = frozenset(verdict.recurrence.members)
        for step in loop.body:
            if isinstance(step, DepthLoop):
                own = (s for s in step.body if isinstance(s, Assign))
                free = (s for s in own if s.equation.name not in gone)
                body = (*free, *(Assign(equation=e) for e in turns.inner))
                carried = tuple(c for c in step.carried if c not in gone)
                yield replace(step, carried=carried, body=body)
            elif isinstance(step, Assign) and step.equation.name not in gone:
                yield step
        yield from (Assign(equation=e) for e in turns.outer)

    def _others(self, loop: TimeLoop, states: tuple[str, ...]) -> Iterator[Step]:
        """What else the loop computes, where somebody outside of it reads that."""
        names = set(defined(loop.body))
        wanted = self._read_outside(names)
        kept: list[Step] = []
        for step in reversed(loop.body):
            assert isinstance(step, Assign)
            name = step.equation.name
            if name in states or name not in wanted:
                continue
            kept.append(step)
            wanted |= _names(step.equation.expr)
        yield from reversed(kept)

    def _read_outside(self, names: set[str]) -> set[str]:
        return {n for n in names if self._readers(n) - names}

    def _readers(self, name: str) -> set[str]:
        """Equations that read a value; what else does has no name."""
        equations = self.model.equations
        if self.read is None or self.read[0] is not equations:
            found: dict[str, set[str]] = {}
            for equation in equations:
                for read in _names(equation.expr):
                    found.setdefault(read, set()).add(equation.name)
            for expr in _other_expressions(self.model):
                for read in _names(expr):
                    found.setdefault(read, set()).add("")
            self.read = equations, found
        return self.read[1].get(name, set())


def _same_way(step: Step, other: Step) -> bool:
    """Whether both go through time in one direction."""
    match step, other:
        case Parallel(loop=one), Parallel(loop=two):
            return one.direction == two.direction
        case _:
            return False


def _names(node: ir.Node) -> set[str]:
    return {r.name for r in references(node) if isinstance(r, ir.Ref)}


def _other_expressions(model: ir.Model) -> Iterator[ir.Node]:
    yield from (o.expr for o in model.outputs)
    yield from (arg for c in model.calls for _, arg in c.args)
    yield from (s.initial for s in model.states)
    for repeat in model.repeats:
        if repeat.condition is not None:
            yield repeat.condition
        if isinstance(repeat.count, ir.Base):
            yield repeat.count
