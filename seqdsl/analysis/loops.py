"""Recurrences over time that go through a whole repeat, as several erases per token do.

The last step of a repeat is linear in what it started from where every step is; the
product of scalar (or diagonal) plus low-rank steps is again of that kind, and the ranks
add up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from seqdsl.analysis.graph import Edge, name_of
from seqdsl.analysis.normal import Normal
from seqdsl.analysis.sides import known_rank
from seqdsl.analysis.structure import Found, structure_of
from seqdsl.analysis.terms import Poly, is_free
from seqdsl.analysis.verdict import Recurrence, Structure, Verdict
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Apply, Lit, Opt, Size, apply
from seqdsl.ir.walk import subtree

Base = Literal["identity", "scalar", "diagonal"]
_BASES: tuple[Base, ...] = ("identity", "scalar", "diagonal")


def through_repeat(
    model: ir.Model, recurrence: Recurrence, inside: tuple[Edge, ...]
) -> Verdict | None:
    """The verdict if every step of the repeats in the circle is affine; else None.

    It has no normal form: the transition is a product whose length is the repeat's.
    """
    exprs = (model.equation[m].expr for m in recurrence.members if m in model.equation)
    if not any(isinstance(n, ir.At) for expr in exprs for n in subtree(expr)):
        return None
    loops = _Loops(model, recurrence, inside)
    args = (model, recurrence.axis, recurrence.members, inside)
    normal = Normal(*args, loops=loops)
    polys = {s: normal.value(s) for s in recurrence.states}
    if not loops.found or any(normal.bad(p) for p in polys.values()):
        return None
    found = _structure(loops, recurrence, polys)
    return Verdict(
        recurrence,
        "scannable",
        structure=found.structure,
        rank=known_rank(found.rank),
        rank_size=found.rank,
        semiring="real",
        invariant=found.invariant,
        strategies=("loop",) if found.rank is None else ("loop", "chunk"),
    )


@dataclass
class _Loops:
    """Which last steps of repeats are linear in the state over time."""

    model: ir.Model
    recurrence: Recurrence
    inside: tuple[Edge, ...]

    def __post_init__(self) -> None:
        self.found: list[ir.At] = []

    def __call__(self, node: ir.At) -> bool:
        """Whether `node` is; it is then also remembered."""
        repeat = self.model.repeat.get(node.axis)
        linear = (
            isinstance(node.arg, ir.Ref)
            and node.index is None
            and repeat is not None
            and repeat.condition is None
            and self._linear(node.arg.name, node.axis)
        )
        if linear and node not in self.found:
            self.found.append(node)
        return linear

    def inner(self, axis: str) -> Normal:
        """Normal forms in which the repeat's own reads count like those over time."""
        time, members = self.recurrence.axis, self.recurrence.members
        normal = Normal(self.model, time, members, self.inside)
        normal.axes.add(axis)
        return normal

    def _linear(self, name: str, axis: str) -> bool:
        normal = self.inner(axis)
        for state in self.carried(axis):
            declared = self.model.state.get(state)
            if declared is None or normal.bad(normal.value(state)):
                return False
            if normal.bad(normal.poly(declared.initial)):
                return False
        return name in self.model.equation and not normal.bad(normal.value(name))

    def carried(self, axis: str) -> list[str]:
        """Members that are read at another step of the repeat."""
        read = {e.source for e in self.inside if e.axis == axis and e.kind == "shift"}
        return [m for m in self.recurrence.members if m in read]


def _structure(loops: _Loops, recurrence: Recurrence, polys: dict[str, Poly]) -> Found:
    dense = Found("dense", None, False)
    states = recurrence.states
    if len(loops.found) != 1 or len(states) != 1:
        return dense
    ((state, poly),) = polys.items()
    (last,) = loops.found
    carried = loops.carried(last.axis)
    whole = len(poly) == 1 and poly[0].scale == 1 and len(poly[0].factors) == 1
    if not whole or carried != [name_of(last.arg)]:
        return dense
    return _product(loops, state, carried[0], last.axis) or dense


def _product(loops: _Loops, state: str, step: str, axis: str) -> Found | None:
    """All steps of `step` after its initial value, made of `state`."""
    model = loops.model
    normal = loops.inner(axis)
    dims = model.equation[step].expr.type.dims
    poly = normal.linear(step)
    initial = normal.poly(model.state[step].initial)
    if any(_reads(f.node) == {state} for t in poly for f in t.active):
        return None
    each = structure_of(normal, {step: dims}, {step: poly})
    first = structure_of(normal, {step: dims}, {step: (*initial, *_offsets(poly))})
    if each.structure is None or first.structure not in _BASES:
        return None
    count = model.repeat[axis].count
    rank: Size | None = None
    if each.rank is not None and isinstance(count, Lit | Opt | Apply):
        rank = count if each.rank == Lit(1) else apply("*", each.rank, count)
    invariant = each.invariant and first.invariant
    return Found(_joined(each.structure, first.structure), rank, invariant)


def _offsets(poly: Poly) -> Poly:
    return tuple(t for t in poly if is_free((t,)))


def _reads(node: ir.Node) -> set[str]:
    return {name_of(node.arg)} if isinstance(node, ir.Shift) else set()


def _joined(each: Structure, first: Structure) -> Structure:
    """The structure of a product of steps times what comes first."""
    base, _, low = each.partition("_plus_")
    if base in _BASES and first in _BASES:
        widest = _BASES[max(_BASES.index(base), _BASES.index(first))]
        if not low:
            return widest
        diagonal = widest == "diagonal"
        return "diagonal_plus_low_rank" if diagonal else "scalar_plus_low_rank"
    return "low_rank" if each == "low_rank" else "dense"
