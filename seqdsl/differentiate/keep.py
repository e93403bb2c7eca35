"""What a forward pass keeps for the backward pass, and what is computed again.

The rule, for each value that the adjoint reads: inputs and parameters are at hand;
what is the same for all sequences is computed again, and so is
arithmetic and pointwise work on values that are at hand or have fewer dims; a state that is larger than
all that its update reads is kept at chunk borders and run again between them; what
stands in a `repeat` is run again; everything else is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from seqdsl.ir import nodes as ir
from seqdsl.ir.types import BATCH, TIME
from seqdsl.ir.values import type_of
from seqdsl.ir.walk import references, subtree


@dataclass(frozen=True)
class Kept:
    """Values of the forward pass by what the backward pass does to have them.

    `saved` are kept at every step. `borders` are states kept at chunk borders (or at
    the start alone) and run again between them; `recomputed` is computed again.
    """

    saved: tuple[str, ...]
    borders: tuple[str, ...]
    recomputed: tuple[str, ...]


def keep(model: ir.Model, needed: Iterable[str]) -> Kept:
    """What to keep of `model`, in normal form, so that the values `needed` can be had."""
    choice = _Choice(model, frozenset(needed))
    for name in choice.needed:
        choice.visit(name)
    order = [e.name for e in model.equations]

    def listed(how: str) -> tuple[str, ...]:
        return tuple(n for n in order if choice.how.get(n) == how)

    return Kept(listed("saved"), listed("borders"), listed("recomputed"))


@dataclass
class _Choice:
    model: ir.Model
    needed: frozenset[str]
    how: dict[str, str] = field(default_factory=dict[str, str])

    def visit(self, name: str) -> None:
        """Decide about `name`, and about what it takes to compute it again."""
        if name in self.how or name not in self.model.equation:
            return
        self.how[name] = self._choose(name)
        if self.how[name] != "saved":
            for read in _reads(self.model, name):
                self.visit(read)

    def _choose(self, name: str) -> str:
        type_, equation = type_of(self.model, name), self.model.equation[name]
        if equation.scope or type_.axes - {BATCH, TIME}:
            return "recomputed"
        if name in self.model.state and TIME in self.model.state[name].carried:
            return "borders" if self._outgrows(name) else "saved"
        if BATCH not in type_.axes or self._redone(name) or spreads(self.model, name):
            return "recomputed"
        return "saved"

    def _redone(self, name: str) -> bool:
        """Whether `name` is pointwise work on what is at hand anyway."""
        model = self.model
        if name in model.state or not _pointwise(model.equation[name].expr):
            return False
        return all(
            read not in model.equation or read in self.needed or self._redone(read)
            for read in _reads(model, name)
        )

    def _outgrows(self, name: str) -> bool:
        """Whether a state has more dims than each value that its update is made of."""
        dims = set(self.model.state[name].type.dims)
        sources = [
            set(type_of(self.model, s).dims) for s in self._sources(name, {name})
        ]
        return bool(sources) and not any(dims <= s for s in sources)

    def _sources(self, name: str, seen: set[str]) -> Iterator[str]:
        """What changes from step to step that `name` is pointwise made of."""
        model = self.model
        for read in _reads(model, name):
            if read in seen or not type_of(model, read).axes & {BATCH, TIME}:
                continue
            seen.add(read)
            if read in model.state and TIME in model.state[read].carried:
                # what another state of its size is made of, it is made of as well
                if set(type_of(model, read).dims) == set(type_of(model, name).dims):
                    yield from self._sources(read, seen)
                continue
            if read in model.equation and _pointwise(model.equation[read].expr):
                yield from self._sources(read, seen)
            elif read not in self._firsts:
                yield read

    @property
    def _firsts(self) -> frozenset[str]:
        """What states start from; it is no larger or smaller than they are."""
        initial = (s.initial for s in self.model.states)
        return frozenset(
            r.name for i in initial for r in references(i) if isinstance(r, ir.Ref)
        )


def spreads(model: ir.Model, name: str) -> bool:
    """Whether `name` is pointwise work on values that all have fewer dims than it.

    It may be so by way of others, which are of its size but computed again as well.
    """
    type_, expr = type_of(model, name), model.equation[name].expr
    if name in model.state or not type_.axes & {BATCH, TIME} or not _pointwise(expr):
        return False
    read = [r for r in references(expr) if r.type.axes & {BATCH, TIME}]
    return bool(read) and all(
        set(r.type.dims) < set(type_.dims)
        or (
            isinstance(r, ir.Ref)
            and r.name in model.equation
            and set(r.type.dims) == set(type_.dims)
            and spreads(model, r.name)
        )
        for r in read
    )


def _reads(model: ir.Model, name: str) -> Iterator[str]:
    exprs = [model.equation[name].expr]
    if name in model.state:
        exprs.append(model.state[name].initial)
    for axis in model.equation[name].scope:
        repeat = model.repeat[axis]
        exprs.extend(
            e for e in (repeat.condition, repeat.count) if isinstance(e, ir.Base)
        )
    for expr in exprs:
        for read in references(expr):
            assert isinstance(read, ir.Ref)
            yield read.name


def _pointwise(expr: ir.Node) -> bool:
    """Whether `expr` costs a few operations for each of its entries."""
    return not any(_gathers(node) for node in subtree(expr))


def _gathers(node: ir.Node) -> bool:
    match node:
        case ir.Contract() | ir.Reduce() | ir.Along() | ir.Conv() | ir.ExternCall():
            return True
        case ir.At() | ir.Stack() | ir.Copy():
            return True
        case ir.Sample(seed=seed):
            return seed is None
        case _:
            return False
