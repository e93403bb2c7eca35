"""Entries of a state, or of a short table, at a computed index, as sums that kernels compute.

An entry is the sum over all of them with 0 in the place of the others. Whether an index lies
inside the caller sees from its values, which become an output of the region.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from seqdsl.differentiate.broadcast import pointwise, select
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.names import fresh, names_of
from seqdsl.ir.walk import children, with_children
from seqdsl.schedule.region import Region
from seqdsl.schedule.repeats import of_step


@dataclass(frozen=True)
class Lookup:
    """The output `index` must lie inside the dim `dim`; messages call it `label`."""

    index: str
    dim: str
    label: str


def with_sums(region: Region) -> tuple[Region, tuple[Lookup, ...]]:
    """`region` without look-ups at a computed index, and what its caller must check.

    The outputs that this takes stand behind the others.
    """
    return _Rewriter(region).run()


def computed(node: ir.Node) -> bool:
    """Whether `node` is a look-up that `with_sums` has a form of."""
    match node:
        case ir.Gather(arg=arg, dim=dim, index=index):
            known = isinstance(index, ir.Const) or dim in index.type.dims
            return not known and "complex" not in (arg.type.dtype, index.type.dtype)
        case _:
            return False


@dataclass
class _Rewriter:
    region: Region
    made: list[ir.Equation] = field(default_factory=list[ir.Equation])
    found: dict[tuple[ir.Node, str], Lookup] = field(
        default_factory=dict[tuple[ir.Node, str], Lookup]
    )

    def run(self) -> tuple[Region, tuple[Lookup, ...]]:
        region, model = self.region, self.region.model
        self.taken = names_of(model) | {s.name for s in model.states}
        self.turns = frozenset(turns.axis for turns in region.turns)
        equations = {e.name: e for e in model.equations}
        new: dict[str, ir.Equation] = {}
        orders: list[tuple[str, ...]] = []
        for names in (region.replay, region.steps):
            order = [e for n in names for e in self._written(equations[n])]
            new |= {e.name: e for e in order}
            orders.append(tuple(e.name for e in order))
        if not self.found:
            return region, ()
        checks = tuple(self.found.values())
        outputs = [
            ir.Output(name=c.index, expr=build.ref(c.index, new[c.index].expr.type))
            for c in checks
        ]
        body = replace(
            model,
            equations=tuple(new.values()),
            outputs=(*model.outputs, *outputs),
        )
        return replace(region, model=body, replay=orders[0], steps=orders[1]), checks

    def _written(self, equation: ir.Equation) -> Iterator[ir.Equation]:
        """An equation behind those of the indices in it."""
        expr = self._sums(equation.expr, equation.name)
        yield from self.made
        self.made = []
        yield replace(equation, expr=expr)

    def _sums(self, node: ir.Node, base: str) -> ir.Node:
        if of_step(node, self.turns):
            return node
        old = children(node)
        new = tuple(self._sums(c, base) for c in old)
        node = node if new == old else with_children(node, new)
        if not isinstance(node, ir.Gather) or not computed(node):
            return node
        index = self._index(node, base)
        here = pointwise("eq", index, build.position(node.dim, axis=False))
        if node.arg.type.dtype == "bool":
            both = pointwise("and", here, node.arg)
            return replace(build.reduce("any", both, (node.dim,)), type=node.type)
        zero = build.const(0 if node.arg.type.dtype == "int" else 0.0)
        kept = select(here, node.arg, zero)
        return replace(build.reduce("sum", kept, (node.dim,)), type=node.type)

    def _index(self, node: ir.Gather, base: str) -> ir.Node:
        """The index under a name, whose values the caller checks."""
        key = node.index, node.dim
        if key not in self.found:
            name = fresh(f"{base}_index", self.taken)
            label = node.index.name if isinstance(node.index, ir.Ref) else node.dim
            self.made.append(ir.Equation(name=name, expr=node.index))
            self.found[key] = Lookup(name, node.dim, label)
        return build.ref(self.found[key].index, node.index.type)
