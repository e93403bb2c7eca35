"""Which recurrences run as loops and which in a parallel form."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from seqdsl.analysis.analyze import own_verdicts
from seqdsl.analysis.verdict import Strategy, Verdict
from seqdsl.diagnostics import CallError, SpecError, UnsupportedError
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import TIME
from seqdsl.ir.walk import children, references
from seqdsl.schedule.beside import joined, narrow_beside
from seqdsl.schedule.chunked import in_order, rewritten, with_reads
from seqdsl.schedule.cost import cheapest
from seqdsl.schedule.forms import (
    DiagonalScan,
    Form,
    MatrixScan,
    MonoidScan,
    Newton,
    Products,
    dims_of,
)
from seqdsl.schedule.newton import newton_of
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
from seqdsl.schedule.products import Chunked, Turns, products
from seqdsl.schedule.rows import copies_of
from seqdsl.schedule.scans import scan_of
from seqdsl.schedule.turns import in_turns

STRATEGIES: tuple[Strategy, ...] = ("loop", "scan", "chunk", "convolve", "newton")
CHUNK = 64
"""Steps of a chunk where nobody says how many."""


@dataclass(frozen=True)
class Wish:
    """How recurrences shall run: `auto`, or a strategy for all that have it.

    Where forms are `fused`, each a few kernels, `auto` takes what moves least memory.
    """

    strategy: Strategy | Literal["auto"] = "auto"
    chunk: int = CHUNK
    strict: bool = False
    most: int | None = None
    fused: bool = False


LOOP = Wish("loop")


def wish_of(text: str) -> Wish:
    """`auto`, or a strategy: `chunk:64` with its size, `newton:8` with its iterations.

    `newton:strict` raises where the iteration fails.

    Raises `CallError` for anything else.
    """
    name, _, size = text.partition(":")
    known = name == "auto" or name in STRATEGIES
    number = size.isdecimal() and int(size) > 0 and name in ("chunk", "newton")
    strict = (name, size) == ("newton", "strict")
    if not known or (":" in text and not number and not strict):
        ways = (
            "auto, loop, scan, chunk, chunk:64, convolve, newton, newton:8, "
            "newton:strict"
        )
        raise CallError(f"there is no strategy `{text}`; strategies: {ways}")
    strategy: Strategy | Literal["auto"] = "auto"
    for way in STRATEGIES:
        strategy = way if way == name else strategy
    count = int(size) if number else None
    chunk = count if name == "chunk" and count else CHUNK
    return Wish(strategy, chunk, strict, count if name == "newton" else None)


def in_parallel(plan: Plan, wish: Wish) -> Plan:
    """`plan` with parallel forms in the place of the loops that `wish` is about."""
    if wish.strategy == "loop" or not any(
        isinstance(s, TimeLoop) for s in walk(plan.steps)
    ):
        return plan
    verdicts = {
        frozenset(v.recurrence.members): v
        for v in own_verdicts(plan.model)
        if v.recurrence.axis == TIME
    }
    chooser = _Chooser(plan.model, verdicts, wish)
    steps = chooser.steps(plan.steps)
    if chooser.replaced:
        steps = rewritten(steps, chooser.replaced, chooser.dropped)
        steps = in_order(chooser.model, steps)
    return replace(plan, model=chooser.model, steps=steps)


def form_of(model: ir.Model, verdict: Verdict, wish: Wish) -> Form | Chunked | None:
    """The form in which `wish` has a recurrence over time run; None is a loop.

    What the recurrence cannot do it runs as `auto` would.
    """
    legal = verdict.strategies
    if any(copies_of(model, s) for s in verdict.recurrence.states if s in model.state):
        return None  # forms know dims alone, not copies of time
    strategy = wish.strategy if wish.strategy in legal else "auto"
    match strategy:
        case "loop":
            return None
        case "scan":
            return scan_of(model, verdict)
        case "chunk":
            return _products(model, verdict, wish.chunk) or scan_of(model, verdict)
        case "convolve":
            return scan_of(model, verdict, filtered=True) or scan_of(model, verdict)
        case "newton":
            return newton_of(model, verdict, strict=wish.strict, most=wish.most)
        case "auto":
            return _cheapest(model, verdict, wish.fused)


def _products(model: ir.Model, verdict: Verdict, size: int) -> Chunked | None:
    """Chunks start all segments alike, so states must not begin with sums over them."""
    states = [model.state[s] for s in verdict.recurrence.states if s in model.state]
    if any(_over_time(model, state.initial) for state in states):
        return None
    return products(model, verdict, size) or in_turns(model, verdict, size)


def _over_time(model: ir.Model, node: ir.Node) -> bool:
    """Whether a value is made of the steps of a sequence."""
    match node:
        case ir.Copy() | ir.At(axis="t") | ir.Result():
            return True
        case ir.Ref(name=name) if name in model.state:
            return True
        case ir.Reduce(over=over) | ir.Contract(over=over) if TIME in over:
            return True
        case ir.Ref(name=name) if name in model.equation:
            return _over_time(model, model.equation[name].expr)
        case _:
            return any(_over_time(model, child) for child in children(node))


def _cheapest(model: ir.Model, verdict: Verdict, fused: bool) -> Form | Chunked | None:
    """What takes least of all forms that give the numbers of a step; None is a loop."""
    forms: dict[Strategy, Form | Chunked | None] = {}
    if "chunk" in verdict.strategies:
        found = _products(model, verdict, CHUNK)
        if found is not None:
            forms["chunk"] = found
    if "scan" in verdict.strategies:
        found = scan_of(model, verdict)
        # sums in another order break the ties of paths otherwise than a step does
        ties = isinstance(found, MatrixScan) and found.semiring not in _EXACT
        if found is not None and not ties:
            forms["scan"] = found
    if "loop" in verdict.strategies:
        forms["loop"] = None
    if fused:  # chunks keep states between chunks only, a loop starts every step anew
        return next(iter(forms.values()), None)
    return forms[cheapest(model, verdict, forms)] if forms else None


_EXACT = ("real", "log", "boolean")


@dataclass
class _Chooser:
    """Puts parallel steps in the place of loops."""

    model: ir.Model
    verdicts: Mapping[frozenset[str], Verdict]
    wish: Wish
    replaced: dict[ir.Node, ir.Node] = field(default_factory=dict[ir.Node, ir.Node])
    dropped: frozenset[str] = frozenset()
    read: tuple[tuple[ir.Equation, ...], dict[str, set[str]]] | None = None

    def steps(self, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        """`steps` with every loop along time in the form wished for."""
        made = [s for step in steps for s in self._step(step)]
        return tuple(made if self.wish.fused else self._wider(made))

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

    def _read(self, verdict: Verdict, found: Chunked) -> None:
        """From now on only reads are known of the states."""
        self.model = with_reads(self.model, verdict, found)
        self.replaced |= found.replaced
        self.dropped |= frozenset(found.dropped)

    def _step(self, step: Step) -> Iterator[Step]:
        match step:
            case TimeLoop():
                yield from self._loop(step)
            case DepthLoop(body=body):
                yield replace(step, body=self.steps(body))
            case Assign() | Call() | Parallel():
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
        self, loop: TimeLoop, verdict: Verdict, found: Chunked
    ) -> Iterator[Step]:
        """Only reads are known of the states, and others are computed from them."""
        self._read(verdict, found)
        if found.turns is not None:
            yield from self._turned(loop, verdict, found.turns)
        yield Parallel(loop=loop, form=found.form)
        for name in found.after:
            yield Assign(equation=self.model.equation[name])

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
                yield replace(step, carried=(), body=body)
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
    both = isinstance(step, Parallel) and isinstance(other, Parallel)
    return both and step.loop.direction == other.loop.direction


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


def require(verdicts: Iterable[Verdict], wish: Wish, layer: str) -> None:
    """Raise where none of the recurrences over time can run as `wish` says.

    `SpecError` with the reasons where all are sequential, else `UnsupportedError`.
    """
    found = [v for v in verdicts if v.recurrence.axis == TIME]
    looped = [v for v in found if v.verdict not in ("none", "fir")]
    if wish.strategy in ("auto", "loop") or any(
        wish.strategy in v.strategies for v in found
    ):
        return
    reasons = [d for v in looped for d in v.reasons]
    if reasons and all(v.verdict in ("sequential", "opaque") for v in looped):
        raise SpecError(reasons)
    ways = sorted({s for v in found for s in v.strategies}, key=STRATEGIES.index)
    has = f"it has {', '.join(ways)}" if ways else "nothing in it is a recurrence"
    raise UnsupportedError(f"{layer} has no strategy `{wish.strategy}`; {has}")


def chosen(model: ir.Model, verdict: Verdict) -> Strategy | None:
    """What `auto` runs a recurrence of `model` as; None where there is nothing to run."""
    if verdict.verdict == "fir" and "convolve" in verdict.strategies:
        return "convolve"
    if not verdict.strategies or verdict.recurrence.axis != TIME:
        return "loop" if "loop" in verdict.strategies else None
    match form_of(model, verdict, Wish()):
        case None:
            return "loop"
        case DiagonalScan(filtered=True):
            return "convolve"
        case Chunked() | Products():
            return "chunk"
        case Newton():
            return "newton"
        case DiagonalScan() | MatrixScan() | MonoidScan():
            return "scan"
