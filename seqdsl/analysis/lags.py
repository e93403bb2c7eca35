"""Finite memory: shifts and short convolutions that no circle goes through."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from seqdsl.analysis.graph import Edge, name_of
from seqdsl.analysis.verdict import Recurrence, Verdict
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import TIME
from seqdsl.ir.walk import references, subtree


def lags(
    model: ir.Model, edges: Iterable[Edge], axis: str, found: Iterable[Verdict]
) -> Iterator[Verdict]:
    """A verdict `fir` for every value with a finite memory along `axis`.

    That is a value read at another step which is no state of a recurrence in `found`,
    and one that a convolution along time makes. A state that is read at no other step
    has the verdict `none`.
    """
    found = tuple(found)
    known = {s for v in found if v.recurrence.axis == axis for s in v.recurrence.states}
    shifted: dict[str, list[int]] = {}
    for edge in edges:
        if edge.kind == "shift" and edge.axis == axis and edge.source not in known:
            shifted.setdefault(edge.source, []).append(edge.offset)
    for name, offsets in shifted.items():
        yield _fir(name, axis, invariant=True, backward=max(offsets) > 0)
    if axis == TIME:
        yield from _convolutions(model, found)
        for state in model.states:
            if state.name not in known and not state.carried:
                yield Verdict(_alone(state.name, TIME), "none")


def _convolutions(model: ir.Model, found: Iterable[Verdict]) -> Iterator[Verdict]:
    """Those of the layer's convolutions that are not part of a recurrence."""
    circles = [v.recurrence.members for v in found if v.recurrence.axis == TIME]
    for equation in model.equations:
        own = {m for c in circles if equation.name in c for m in c}
        convs = [
            n
            for n in subtree(equation.expr)
            if isinstance(n, ir.Conv)
            and TIME in n.axes
            and own.isdisjoint(name_of(r) for r in references(n))
        ]
        if convs:
            fixed = not any(TIME in c.weight.type.axes for c in convs)
            ahead = any(c.ahead for c in convs)
            yield _fir(equation.name, TIME, invariant=fixed, backward=ahead)


def _fir(name: str, axis: str, invariant: bool, backward: bool) -> Verdict:
    return Verdict(
        _alone(name, axis, backward),
        "fir",
        invariant=invariant,
        strategies=("loop", "convolve"),
    )


def _alone(name: str, axis: str, backward: bool = False) -> Recurrence:
    return Recurrence((name,), axis, "backward" if backward else "forward", (name,))


def remembered(verdict: Verdict, edges: Iterable[Edge]) -> Verdict:
    """A state that forgets itself is a finite memory where others read its past."""
    recurrence = verdict.recurrence
    read = any(
        e.kind == "shift" and e.axis == recurrence.axis
        for e in edges
        if e.source in recurrence.states and e.reader not in recurrence.members
    )
    if verdict.verdict != "none" or not read:
        return verdict
    return replace(verdict, verdict="fir", strategies=("loop", "convolve"))
