"""What a strategy takes in seconds: how `auto` chooses.

A form starts operations, computes, and moves memory. The formulas of `analysis/costs.py`
say how much of each; `Machine` says what each takes. Sizes are those given, or the
defaults of options; what is not known counts as `UNKNOWN`, sequences as `STEPS` long.
`benchmarks/auto.py` compares the choice with measurements.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from seqdsl.analysis.costs import Cost, costs
from seqdsl.analysis.formula import Formula
from seqdsl.analysis.parts import Parts
from seqdsl.analysis.verdict import PerChunk, Strategy, Verdict
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit, Size, SizeError, evaluate
from seqdsl.ir.types import TIME
from seqdsl.schedule.forms import MatrixScan

STEPS, ROWS, UNKNOWN, CHUNK, RADIX = 1024, 4, 64, 64, 16
"""Sizes where nobody says them; a chunk; steps of a scan that run one after another."""


@dataclass(frozen=True)
class Machine:
    """Seconds of starting an operation; operations, products and bytes a second.

    Steps of more than `wide` numbers are worth an operation of their own.
    """

    start: float = 4e-6
    plain: float = 1e9
    products: float = 2e10
    memory: float = 5e9
    wide: int = 3072


CPU = Machine()
PASSES = 3
"""Forward and backward, which does everything about twice."""


@dataclass(frozen=True)
class Estimate:
    """The costs of one recurrence as numbers."""

    model: ir.Model
    verdict: Verdict
    machine: Machine = CPU

    def seconds(self, form: Strategy, found: object = None) -> float:
        """What `form` takes, as the scan `found` where it is one."""
        if form == "newton":
            return math.inf
        between = self.verdict.per_chunk
        if form == "chunk" and self.verdict.verdict == "sequential" and between:
            return self._pieces(between)
        row = self._row(form)
        match form:
            case "loop":
                starts, rate = self._nodes() * STEPS, self._rate()
            case "scan":
                return self._scan(row, found)
            case "chunk":
                starts, rate = 150 + 20 * STEPS / CHUNK, self.machine.products
            case "convolve":
                starts, rate = 30.0, self.machine.plain
        moved = self.value(row.bytes) / self.machine.memory
        spent = starts * self.machine.start + self.value(row.work) / rate + moved
        return PASSES * spent

    def _scan(self, row: Cost, found: object) -> float:
        """Blocks of steps combined side by side, or large steps one after another."""
        numbers = self.value(row.bytes) / (16 * STEPS)
        if numbers > self.machine.wide:
            starts, work = 3.0 * STEPS, self.value(self._row("loop").work)
        else:
            starts = 4.0 * RADIX * 2 * max(1, math.log(STEPS, RADIX) - 1)
            work = self.value(row.work)
        rate = self.machine.plain
        if isinstance(found, MatrixScan) and found.semiring == "real":
            rate = self.machine.products
        spent = starts * self.machine.start + work / rate
        made = numbers + self._made(found)
        return PASSES * (spent + 4 * STEPS * made / self.machine.memory)

    def _pieces(self, found: PerChunk) -> float:
        """From border to border: about what a step starts, and a scan for each state."""
        if found.size is None:
            return math.inf  # a border may be anywhere
        row, size = self._row("per_chunk"), self._number(found.size)
        starts = (self._nodes() + 40 * len(found.verdicts)) * STEPS / max(1, size)
        moved = self.value(row.bytes) / self.machine.memory
        work = self.value(row.work) / self.machine.products
        return PASSES * (starts * self.machine.start + work + moved)

    def _made(self, found: object) -> float:
        """Numbers of the elements of a step that exist for the scan alone."""
        if not isinstance(found, MatrixScan):
            return 0.0
        total = 0.0
        for block in found.blocks:
            weight = block.weight
            given = isinstance(weight, ir.Ref | ir.Rename) and TIME in weight.type.axes
            if not given:
                dims = {**self.model.dims, **found.dims}
                total += ROWS * math.prod(
                    self._extent(d, dims) for d in weight.type.dims
                )
        return total

    def _nodes(self) -> int:
        """Operations of a step of the loop."""
        return 1 + len(Parts(self.model, self.verdict).active)

    def _rate(self) -> float:
        """How fast a step of the loop computes: products are faster."""
        active = (n for _, n in Parts(self.model, self.verdict).active)
        sums = any(isinstance(n, ir.Contract) and n.over for n in active)
        return self.machine.products if sums else self.machine.plain

    def _row(self, strategy: Strategy | Literal["per_chunk"]) -> Cost:
        return next(
            r for r in costs(self.model, self.verdict).rows if r.strategy == strategy
        )

    # ---- Sizes

    def value(self, formula: Formula) -> float:
        """A formula in numbers."""
        return sum(
            float(number) * math.prod(self._size(n) ** p for n, p in names)
            for names, number in formula.terms
        )

    def _size(self, name: str) -> float:
        known = {"T": STEPS, "B": ROWS, "C": CHUNK, "iterations": 10}
        known |= {"log2(T)": math.log2(STEPS), "log2(C)": math.log2(CHUNK)}
        return known.get(name) or self._extent(name, self.model.dims)

    def _extent(self, name: str, dims: Mapping[str, Size]) -> float:
        if name.isdecimal():
            return float(name)
        options = {o.name: o.default for o in self.model.options}
        size = options.get(name) or dims.get(name)
        return UNKNOWN if size is None else self._number(size)

    def _number(self, size: Size) -> float:
        options = {o.name: o.default for o in self.model.options}
        given = {n: s.value for n, s in options.items() if isinstance(s, Lit)}
        try:
            return float(evaluate(size, given))
        except (KeyError, SizeError, ValueError):
            return UNKNOWN


def cheapest(
    model: ir.Model,
    verdict: Verdict,
    forms: Mapping[Strategy, object],
) -> Strategy:
    """The strategy among `forms` that takes least; the earlier of equals."""
    estimate = Estimate(model, verdict)
    return min(forms, key=lambda s: estimate.seconds(s, forms[s]))
