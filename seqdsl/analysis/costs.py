"""What every legal strategy of a recurrence costs, as formulas in the sizes.

Work counts the floating-point operations that depend on the state (what does not is the
same for all), depth the steps that have to wait for one another, bytes what is read and
written in float32. They follow from the normal form and the types alone. `B` sequences
of `T` steps; a chunk has `C` steps.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from seqdsl.analysis.formula import LOG_T, Formula, number, product, symbol, total
from seqdsl.analysis.parts import Parts
from seqdsl.analysis.verdict import Strategy, Verdict
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import BATCH, TIME
from seqdsl.ir.walk import children, subtree

_FREE = ir.Ref | ir.Shift | ir.At | ir.Stack | ir.Copy | ir.Rename | ir.Split | ir.Merge
_C, _LOG = symbol("C"), symbol(LOG_T)


@dataclass(frozen=True)
class Cost:
    """One strategy: operations, sequential steps, bytes of memory traffic."""

    strategy: Strategy
    work: Formula
    depth: Formula
    bytes: Formula

    def to_json(self) -> dict[str, str]:
        """The row as `explain --json` prints it."""
        return {
            "strategy": self.strategy,
            "work": str(self.work),
            "order": self.work.order(),
            "depth": str(self.depth),
            "bytes": str(self.bytes),
        }


@dataclass(frozen=True)
class Costs:
    """Numbers of state a sequence keeps between steps, and a row per strategy."""

    state: Formula
    rows: tuple[Cost, ...]


def costs(model: ir.Model, verdict: Verdict) -> Costs:
    """The costs of every strategy in `verdict`, a recurrence of `model`."""
    counter = _Counter(Parts(model, verdict))
    rows = tuple(counter.row(s) for s in verdict.strategies)
    return Costs(counter.state, rows)


class _Counter:
    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.verdict = parts.verdict

    def row(self, strategy: Strategy) -> Cost:
        """The cost of one strategy."""
        match strategy:
            case "loop":
                return self._loop()
            case "scan":
                return self._scan()
            case "chunk":
                return self._chunk()
            case "convolve":
                return self._convolve()
            case "newton":
                return self._newton()

    # ---- Sizes

    @property
    def _item(self) -> Formula:
        return number(8 if self.verdict.complex else 4)

    @cached_property
    def every(self) -> Formula:
        """All steps of all independent copies."""
        axes = {a for e in self.parts.equations for a in (*e.expr.type.axes, *e.scope)}
        return self.parts.times({*axes, BATCH}) * self.parts.steps

    @cached_property
    def state(self) -> Formula:
        """Numbers kept between steps, per sequence."""
        if self.verdict.verdict == "none":
            return Formula()
        return total(map(self._kept, self.verdict.recurrence.states))

    def _kept(self, name: str) -> Formula:
        equation = self.parts.model.equation.get(name)
        if equation is not None and self.verdict.verdict == "fir":
            convs = [n for n in subtree(equation.expr) if _over_time(n)]
            if convs and self.parts.recurrence.axis == TIME:
                return total(map(self._window, convs))
        lag = number(self.parts.lag(name))
        return lag * self.parts.numel(self.parts.dims_of(name))

    def _window(self, node: ir.Node) -> Formula:
        assert isinstance(node, ir.Conv)
        tap = node.taps[node.axes.index(TIME)]
        before = self.parts.extent(tap) + number(-1)
        gap = self.parts.size(node.dilation, str(node.dilation))
        return before * gap * self.parts.numel(node.arg.type.dims)

    @cached_property
    def once(self) -> Formula:
        """The state without its history."""
        states = self.verdict.recurrence.states
        return total(self.parts.numel(self.parts.dims_of(s)) for s in states)

    @cached_property
    def inputs(self) -> Formula:
        """What a step reads of values that change, the state left out."""
        nodes = [n for _, n in self.parts.free if self.parts.normal.axis in n.type.axes]
        return total(self.parts.numel(n.type.dims) for n in nodes)

    @cached_property
    def weights(self) -> Formula:
        """What every step reads again of values that are the same for all."""
        return total(
            self.parts.numel(n.type.dims)
            for _, n in self.parts.free
            if not n.type.axes & {BATCH, TIME} and n.type.dims
        )

    # ---- Strategies

    @cached_property
    def step(self) -> Formula:
        """Operations of one step."""
        if self.verdict.verdict == "fir":
            states = self.verdict.recurrence.states
            names = (s for s in states if s in self.parts.model.equation)
            exprs = (self.parts.model.equation[s].expr for s in names)
            nodes = [n for e in exprs for n in subtree(e) if _over_time(n)]
            return total(map(self._operations, nodes))
        return total(self._operations(n) for _, n in self.parts.active) + self._readout

    def _operations(self, node: ir.Node) -> Formula:
        """Multiplications and additions of one node."""
        here = self.parts.numel(node.type.dims)
        match node:
            case _ if isinstance(node, _FREE):
                return Formula()
            case ir.Contract(args=args, over=over):
                each = len(args) if over else len(args) - 1
                return number(each) * self._wide(node, over)
            case ir.Conv(taps=taps, reduce=reduce):
                return number(2) * here * self.parts.numel((*taps, *reduce))
            case ir.Reduce(over=over) | ir.Along(over=over):
                return self._wide(node, over)
            case ir.Gather() | ir.Concat() | ir.SliceDim() | ir.Roll():
                return Formula()
            case _:
                return here

    def _wide(self, node: ir.Node, over: Iterable[str]) -> Formula:
        dims = dict.fromkeys(
            d for c in children(node) for d in c.type.dims if d not in node.type.dims
        )
        summed = [d for d in dict.fromkeys((*dims, *over)) if self._is_dim(d)]
        steps = [number(1) if self._is_dim(d) else symbol("T") for d in over]
        return self.parts.numel((*node.type.dims, *summed)) * product(steps)

    def _is_dim(self, name: str) -> bool:
        model = self.parts.model
        axes = {TIME, *model.copies, *model.repeat}
        return name not in axes

    @cached_property
    def _readers(self) -> tuple[ir.Contract, ...]:
        """Contractions with the new state outside of the recurrence."""
        states = set(self.verdict.recurrence.states)
        members = set(self.verdict.recurrence.members)
        model = self.parts.model
        exprs = [e.expr for e in model.equations if e.name not in members]
        exprs += [o.expr for o in model.outputs]
        exprs += [arg for c in model.calls for _, arg in c.args]
        return tuple(
            n
            for e in exprs
            for n in subtree(e)
            if isinstance(n, ir.Contract) and any(_is(a, states) for a in n.args)
        )

    @cached_property
    def _readout(self) -> Formula:
        """Operations to read the state, where chunks do them with the update."""
        if not self._by_products:
            return Formula()
        return total(map(self._operations, self._readers))

    @cached_property
    def _by_products(self) -> bool:
        """Whether a chunk is a few matrix products, in which no state is made."""
        chunks = "chunk" in self.verdict.strategies and self._readers
        return bool(chunks) and number(1) not in self._sides()[:2]

    def _loop(self) -> Cost:
        again = self.parts.steps * self.weights
        moved = self.every * (self.inputs + number(2) * self.once) + again
        work = self.every * self.step
        return Cost("loop", work, self.parts.steps, self._item * moved)

    @cached_property
    def _log(self) -> Formula:
        return _LOG if self.parts.steps == symbol("T") else symbol("log2(steps)")

    def _scan(self) -> Cost:
        """Two combines a step in 2 log2(T) rounds, then the reads of the state."""
        transition, combine = self._element()
        work = self.every * (number(2) * combine + self._readout)
        moved = number(4) * self.every * (transition + self.state)
        return Cost("scan", work, number(2) * self._log, self._item * moved)

    def _element(self) -> tuple[Formula, Formula]:
        """Numbers of a transition, and operations to combine two steps."""
        if self.verdict.structure == "monoid":
            size = number(len(self.verdict.leaf)) * self.once
            return size, number(2) * size
        mixed, along = self._mixed()
        copies = self.parts.numel(along)
        states = self.verdict.recurrence.states
        shapes = [self.parts.model.equation[s].expr.type.dims for s in states]
        alone = len(states) == 1 and not mixed and self.state == self.once
        if alone:
            return copies, copies + number(2) * self.once
        side = total(
            number(self.parts.lag(s)) * self.parts.numel(d for d in dims if d in mixed)
            for s, dims in zip(states, shapes, strict=True)
        )
        columns = {d for dims in shapes for d in dims} - {*mixed, *along}
        right = self.parts.numel(sorted(columns))
        square = copies * side * side
        return square, number(2) * square * (side + right)

    def _mixed(self) -> tuple[list[str], list[str]]:
        """Dims along which a step mixes entries, and those of which it has copies."""
        updates = self.verdict.updates
        state_dims = {
            d
            for s in self.verdict.recurrence.states
            for d in self.parts.model.equation[s].expr.type.dims
        }
        mixed: set[str] = set()
        along: set[str] = set()
        for term in (t for u in updates for t in u.terms):
            if term.kind == "low_rank":
                mixed |= set(term.contracted)
            elif term.kind == "dense":
                read = next(n for n in subtree(term.read) if isinstance(n, ir.Shift))
                mixed |= {d for d in read.type.dims if d not in term.read.type.dims}
                whole = isinstance(term.read, ir.Shift | ir.Rename)
                mixed |= set() if whole else set(read.type.dims)
            for factor in (*term.factors, *term.masks):
                along |= set(factor.type.dims) & state_dims
        if not updates:
            mixed = state_dims
        return sorted(mixed), sorted(along - mixed)

    def _chunk(self) -> Cost:
        """Products of C rows within a chunk, then one step from chunk to chunk."""
        if not self._by_products:
            return self._chunked_scan()
        rows, columns, copies = self._sides()
        reads = number(len(self._readers))
        wide = rows + columns
        several = number(len(self.verdict.recurrence.states)) * rows * columns
        work = number(2) * reads * _C * wide + number(2) * (reads * rows * columns)
        work = work + number(2) * several
        if self.verdict.rank is not None:
            rank = number(self.verdict.rank)
            solve = rank * rank * _C * (number(3) * rows + columns)
            work = work + solve + number(4) * rank * several
        again = self.once / "C"
        moved = self.every * (self.inputs + number(2) * again + copies * columns)
        depth = self.parts.steps / "C"
        return Cost("chunk", self.every * copies * work, depth, self._item * moved)

    def _chunked_scan(self) -> Cost:
        """Where every state is wanted: a scan inside each chunk."""
        transition, combine = self._element()
        moved = self.every * (transition + number(2) * self.once)
        depth = self.parts.steps / "C" + number(2) * symbol("log2(C)")
        return Cost(
            "chunk", self.every * number(2) * combine, depth, self._item * moved
        )

    def _sides(self) -> tuple[Formula, Formula, Formula]:
        """The state as copies of a matrix: what is read by contraction, and the rest."""
        states = set(self.verdict.recurrence.states)
        args = [a for r in self._readers for a in r.args]
        dims = next(a.type.dims for a in args if _is(a, states))
        over = {d for r in self._readers for d in r.over} & set(dims)
        rows = [d for d in dims if d in over]
        others = {d for a in args if not _is(a, states) for d in a.type.dims}
        copies = [d for d in dims if d not in over and d in others]
        columns = [d for d in dims if d not in over and d not in others]
        numel = self.parts.numel
        return numel(rows), numel(columns), numel(copies)

    def _convolve(self) -> Cost:
        if self.verdict.verdict == "fir":
            moved = self.every * (number(2) * self.once)
            return Cost(
                "convolve", self.every * self.step, number(1), self._item * moved
            )
        # Three transforms of 2T numbers at 5 n log2(n) operations, one product.
        length = number(30) * (_LOG + number(1)) + number(12)
        work = self.every * (self.once * length + self._readout)
        depth = number(3) * (_LOG + number(1))
        moved = number(12) * self.every * self.once
        return Cost("convolve", work, depth, self._item * moved)

    def _newton(self) -> Cost:
        """A round: every step and its Jacobian, then a scan with dense transitions."""
        rounds, side = symbol("iterations"), self.once
        combine = number(2) * side * side * (side + number(1))
        each = self.step * (number(1) + side) + number(2) * combine
        moved = number(4) * (side * side + side) + self.inputs
        depth = rounds * (number(2) * self._log + number(1))
        work = rounds * self.every * each
        return Cost("newton", work, depth, self._item * rounds * self.every * moved)


def _is(node: ir.Node, names: set[str]) -> bool:
    return isinstance(node, ir.Ref) and node.name in names


def _over_time(node: ir.Node) -> bool:
    return isinstance(node, ir.Conv) and TIME in node.axes
