"""Whether a layer learns faster by chunks in torch than in kernels, at its sizes.

A kernel goes through every entry of a matrix state at every step, and through several such
matrices for the gradient; chunks are products of matrices, for which libraries are at the
limit of the machine. Of large states that is less work than all their entries. Forward
alone kernels are faster at all sizes that were tried.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from seqdsl.analysis.analyze import own_verdicts
from seqdsl.analysis.costs import costs
from seqdsl.analysis.formula import Formula
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import TIME
from seqdsl.schedule.choose import CHUNK, Wish, form_of
from seqdsl.schedule.cost import PASSES
from seqdsl.schedule.forms import Products
from seqdsl.schedule.products import Chunked

KERNEL, KERNEL_LARGE, PRODUCTS, START = 6.2e9, 4.8e9, 3.5e10, 4e-6
"""Operations a second of a kernel with its gradient, of states that fit no inner cache, and
of a library's products of matrices; seconds of starting an operation of torch. They were
measured on one thread of an x86-64 machine."""

LARGE = 1 << 15
"""Entries of a state beyond which a kernel takes longer for each."""

MARGIN = 1.25
"""How much faster chunks must be."""


@dataclass(frozen=True)
class Training:
    """For each recurrence: work of a loop, of chunks, and dims of a matrix of its state."""

    work: tuple[tuple[Formula, Formula, tuple[str, ...]], ...]

    def by_chunks(self, sizes: Mapping[str, float], batch: int, time: int) -> bool:
        """Whether chunks are faster for so many sequences of so many steps."""
        known = {**sizes, "T": float(time), "B": float(batch), "C": float(CHUNK)}
        kernel = chunks = 0.0
        for loop, chunk, dims in self.work:
            large = math.prod(_size(d, known) for d in dims) > LARGE
            kernel += value(loop, known) / (KERNEL_LARGE if large else KERNEL)
            starts = (150 + 20 * time / CHUNK) * START
            chunks += PASSES * (starts + value(chunk, known) / PRODUCTS)
        return chunks * MARGIN < kernel


def value(formula: Formula, known: Mapping[str, float]) -> float:
    """A formula in numbers; names that nobody knows count as 1."""
    return sum(
        float(number) * math.prod(_size(n, known) ** p for n, p in names)
        for names, number in formula.terms
    )


def _size(name: str, known: Mapping[str, float]) -> float:
    return float(name) if name.isdecimal() else known.get(name, 1.0)


def training_of(model: ir.Model) -> Training | None:
    """What decides about `model`; None where no recurrence, or not all, go by chunks."""
    found: list[tuple[Formula, Formula, tuple[str, ...]]] = []
    for verdict in own_verdicts(model):
        if verdict.recurrence.axis != TIME or verdict.verdict in ("none", "fir"):
            continue
        form = form_of(model, verdict, Wish())
        if form is None or verdict.verdict == "sequential":
            return None  # in torch it would run step by step, or border by border
        if isinstance(form, Chunked) and isinstance(form.form, Products):
            rows = {row.strategy: row.work for row in costs(model, verdict).rows}
            state = model.state[verdict.recurrence.states[0]].type.dims
            matrix = tuple(d for d in state if d not in form.form.copies)
            found.append((rows["loop"], rows["chunk"], matrix))
    return Training(tuple(found)) if found else None
