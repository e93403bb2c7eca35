"""What a recurrence is made of: its reads, what stands outside, how large things are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property

from seqdsl.analysis.formula import Formula, number, product, symbol
from seqdsl.analysis.graph import edges_in, name_of, within
from seqdsl.analysis.normal import Normal
from seqdsl.analysis.verdict import Verdict
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit, Opt, Size
from seqdsl.ir.types import BATCH, TIME
from seqdsl.ir.walk import children, subtree


class Parts:
    """One recurrence of one model, taken apart for those who describe it."""

    def __init__(self, model: ir.Model, verdict: Verdict) -> None:
        self.model = model
        self.verdict = verdict
        self.recurrence = verdict.recurrence

    @cached_property
    def normal(self) -> Normal:
        """Tells what depends on the state."""
        members = self.recurrence.members
        inside = within(edges_in(self.equations), frozenset(members))
        return Normal(self.model, self.recurrence.axis, members, inside)

    @cached_property
    def equations(self) -> tuple[ir.Equation, ...]:
        """The equations of the recurrence."""
        names = set(self.recurrence.members)
        return tuple([e for e in self.model.equations if e.name in names])

    @cached_property
    def active(self) -> tuple[tuple[ir.Equation, ir.Node], ...]:
        """Every node that depends on the state, with its equation."""
        found = ((e, n) for e in self.equations for n in self._active(e.expr))
        return tuple(found)

    def _active(self, node: ir.Node) -> Iterator[ir.Node]:
        if self.normal.active(node):
            yield node
            for child in children(node):
                yield from self._active(child)

    @cached_property
    def free(self) -> tuple[tuple[ir.Equation, ir.Node], ...]:
        """The largest parts that do not depend on the state, each once."""
        found: dict[ir.Node, ir.Equation] = {}
        for equation, node in self.active:
            for child in children(node):
                if not self.normal.active(child):
                    found.setdefault(child, equation)
        for equation in self.equations:
            if not self.normal.active(equation.expr):
                found.setdefault(equation.expr, equation)
        return tuple((e, n) for n, e in found.items())

    def lag(self, name: str) -> int:
        """How many steps back `name` is read along the recurrence's axis."""
        return furthest_reads(self.model).get((name, self.recurrence.axis), 1)

    def dims_of(self, name: str) -> tuple[str, ...]:
        """The dims of a value that the recurrence reads at another step."""
        if name in self.model.equation:
            return self.model.equation[name].expr.type.dims
        exprs = (e.expr for e in self.model.equations)
        for node in (n for e in exprs for n in subtree(e)):
            if isinstance(node, ir.Ref | ir.Result) and name_of(node) == name:
                return node.type.dims
        return ()

    # ---- Sizes

    def extent(self, dim: str) -> Formula:
        """How many entries a dim has, under the writer's name for it."""
        size = self.verdict.dims.get(dim) or self.model.dims.get(dim)
        if size is None:
            return number(int(dim)) if dim.isdecimal() else symbol(dim)
        return self.size(size, dim)

    def size(self, size: Size, name: str) -> Formula:
        """Arithmetic over options: a number, an option, or what `name` calls it."""
        match size:
            case Lit(int(value)):
                return number(value)
            case Opt(option):
                return symbol(option)
            case _:
                return symbol(self._named.get(size, name))

    @cached_property
    def _named(self) -> Mapping[Size, str]:
        return {size: dim for dim, size in reversed(list(self.model.dims.items()))}

    def numel(self, dims: Iterable[str]) -> Formula:
        """How many numbers a value with these dims has."""
        return product(map(self.extent, dims))

    @cached_property
    def steps(self) -> Formula:
        """How many steps the recurrence's axis has."""
        return symbol("T") if self.recurrence.axis == TIME else self.count()

    def count(self, axis: str | None = None) -> Formula:
        """How often a repeat runs at most."""
        axis = axis or self.recurrence.axis
        count = self.model.repeat[axis].count
        if isinstance(count, Lit | Opt):
            return self.size(count, axis)
        return symbol(f"steps of {axis}")

    def times(self, axes: Iterable[str]) -> Formula:
        """How often something that varies along `axes` is done for one step."""
        own = self.recurrence.axis
        names = [a for a in sorted(axes) if a != own and self._is_axis(a)]
        return product(
            self.count(a)
            if a in self.model.repeat
            else symbol("B" if a == BATCH else "T")
            for a in names
        )

    def _is_axis(self, axis: str) -> bool:
        timed = axis in (BATCH, TIME) or axis in self.model.copies
        return timed or axis in self.model.repeat


def furthest_reads(model: ir.Model) -> Mapping[tuple[str, str], int]:
    """How many steps away each value is read along each axis, at most."""
    known = vars(model)
    if "furthest_reads" not in known:
        # kept with the model, as its cached properties are: every verdict asks for it
        found: dict[tuple[str, str], int] = {}
        for node in (n for e in model.equations for n in subtree(e.expr)):
            if isinstance(node, ir.Shift):
                key = (name_of(node.arg), node.axis)
                found[key] = max(found.get(key, 1), abs(node.offset))
        known["furthest_reads"] = found
    return known["furthest_reads"]
