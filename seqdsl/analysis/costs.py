"""What every legal strategy of a recurrence costs, as formulas in the sizes.

Work counts the floating-point operations that depend on the state (what does not is the
same for all), depth the steps that have to wait for one another, bytes what is read and
written in float32. They follow from the normal form and the types alone. `B` sequences
of `T` steps; a chunk has `C` steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from seqdsl.analysis.formula import LOG_T, Formula, number, symbol, total
from seqdsl.analysis.load import Load
from seqdsl.analysis.parts import Parts
from seqdsl.analysis.verdict import Strategy, Verdict
from seqdsl.ir import nodes as ir
from seqdsl.ir.walk import subtree

_C, _LOG = symbol("C"), symbol(LOG_T)


@dataclass(frozen=True)
class Cost:
    """One strategy: operations, sequential steps, bytes of memory traffic.

    `per_chunk` is the scan within each chunk of a verdict that has chunks in its meaning.
    """

    strategy: Strategy | Literal["per_chunk"]
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

    @property
    def grows(self) -> bool:
        """Whether the state gets longer with the sequence."""
        return any(name == "T" for names, _ in self.state.terms for name, _ in names)


def costs(model: ir.Model, verdict: Verdict) -> Costs:
    """The costs of every strategy in `verdict`, a recurrence of `model`."""
    counter = _Counter(Parts(model, verdict))
    own = verdict.verdict == "sequential"  # chunks of the meaning have a row below
    rows = [counter.row(s) for s in verdict.strategies if not (own and s == "chunk")]
    if verdict.per_chunk is not None:
        inner = [_Counter(Parts(model, v)) for v in verdict.per_chunk.verdicts]
        rows.append(counter.per_chunk([i.row("scan") for i in inner]))
    return Costs(counter.load.kept, tuple(rows))


def state_size(model: ir.Model, verdict: Verdict) -> Formula:
    """Numbers of state that a sequence keeps between steps, without the other costs."""
    return Load(Parts(model, verdict)).kept


class _Counter:
    def __init__(self, parts: Parts) -> None:
        self.load = Load(parts)
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

    def _loop(self) -> Cost:
        again = self.load.parts.steps * self.load.weights
        moved = (
            self.load.every * (self.load.inputs + number(2) * self.load.once) + again
        )
        work = self.load.every * self.load.step
        return Cost("loop", work, self.load.parts.steps, self.load.item * moved)

    @cached_property
    def _log(self) -> Formula:
        return _LOG if self.load.parts.steps == symbol("T") else symbol("log2(steps)")

    def _scan(self) -> Cost:
        """Two combines a step in 2 log2(T) rounds, then the reads of the state."""
        transition, combine = self._element()
        work = self.load.every * (number(2) * combine + self.load.readout)
        moved = number(4) * self.load.every * (transition + self.load.state)
        return Cost("scan", work, number(2) * self._log, self.load.item * moved)

    def _element(self) -> tuple[Formula, Formula]:
        """Numbers of a transition, and operations to combine two steps."""
        if isinstance(self.verdict.monoid, ir.Monoid):
            numel = self.load.parts.numel
            fields = total(numel(t.dims) for _, t in self.verdict.monoid.fields)
            return fields, total(map(self.load.operations, self.verdict.monoid.combine))
        if self.verdict.structure == "monoid":
            size = number(len(self.verdict.leaf)) * self.load.once
            return size, number(2) * size
        mixed, along = self._mixed()
        copies = self.load.parts.numel(along)
        states = self.verdict.recurrence.states
        shapes = [self.load.parts.model.equation[s].expr.type.dims for s in states]
        alone = len(states) == 1 and not mixed and self.load.state == self.load.once
        if alone:
            return copies, copies + number(2) * self.load.once
        side = total(
            number(self.load.parts.lag(s))
            * self.load.parts.numel(d for d in dims if d in mixed)
            for s, dims in zip(states, shapes, strict=True)
        )
        columns = {d for dims in shapes for d in dims} - {*mixed, *along}
        right = self.load.parts.numel(sorted(columns))
        square = copies * side * side
        return square, number(2) * square * (side + right)

    def _mixed(self) -> tuple[list[str], list[str]]:
        """Dims along which a step mixes entries, and those of which it has copies."""
        updates = self.verdict.updates
        state_dims = {
            d
            for s in self.verdict.recurrence.states
            for d in self.load.parts.model.equation[s].expr.type.dims
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
        if not self.load.by_products:
            return self._chunked_scan()
        rows, columns, copies = self.load.sides()
        reads = number(len(self.load.readers))
        wide = rows + columns
        several = number(len(self.verdict.recurrence.states)) * rows * columns
        work = number(2) * reads * _C * wide + number(2) * (reads * rows * columns)
        work = work + number(2) * several
        if self.verdict.rank is not None:
            rank = number(self.verdict.rank)
            solve = rank * rank * _C * (number(3) * rows + columns)
            work = work + solve + number(4) * rank * several
        elif self.verdict.rank_size is not None:  # in turns, each one of `every` step
            rank = self.load.parts.size(self.verdict.rank_size, "rank")
            work = work + rank * _C * (number(3) * rows + columns) + number(4) * several
        again = self.load.once / "C"
        moved = self.load.every * (
            self.load.inputs + number(2) * again + copies * columns
        )
        depth = self.load.parts.steps / "C"
        return Cost(
            "chunk", self.load.every * copies * work, depth, self.load.item * moved
        )

    def _chunked_scan(self) -> Cost:
        """Where every state is wanted: a scan inside each chunk."""
        transition, combine = self._element()
        moved = self.load.every * (transition + number(2) * self.load.once)
        depth = self.load.parts.steps / "C" + number(2) * symbol("log2(C)")
        return Cost(
            "chunk",
            self.load.every * number(2) * combine,
            depth,
            self.load.item * moved,
        )

    def _convolve(self) -> Cost:
        if self.verdict.verdict == "fir":
            moved = self.load.every * (number(2) * self.load.once)
            return Cost(
                "convolve",
                self.load.every * self.load.step,
                number(1),
                self.load.item * moved,
            )
        # Three transforms of 2T numbers at 5 n log2(n) operations, one product.
        length = number(30) * (_LOG + number(1)) + number(12)
        work = self.load.every * (self.load.once * length + self.load.readout)
        depth = number(3) * (_LOG + number(1))
        moved = number(12) * self.load.every * self.load.once
        return Cost("convolve", work, depth, self.load.item * moved)

    def per_chunk(self, inner: Sequence[Cost]) -> Cost:
        """Every step once, as in a loop, and scans; chunks wait for one another."""
        loop = self._loop()
        rounds = number(1) + number(2 * len(inner)) * symbol("log2(C)")
        return Cost(
            "per_chunk",
            loop.work + total(row.work for row in inner),
            self.load.parts.steps * rounds / "C",
            loop.bytes + total(row.bytes for row in inner),
        )

    def _newton(self) -> Cost:
        """A round: every step and its Jacobian, then a scan with dense transitions."""
        rounds, side = symbol("iterations"), self.load.once
        combine = number(2) * side * side * (side + number(1))
        each = self.load.step * (number(1) + side) + number(2) * combine
        moved = number(4) * (side * side + side) + self.load.inputs
        depth = rounds * (number(2) * self._log + number(1))
        work = rounds * self.load.every * each
        return Cost(
            "newton", work, depth, self.load.item * rounds * self.load.every * moved
        )
