"""Products with matrices that all sequences share: which sums are, and those made one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from seqdsl.backends.mlir.statements import Statement, added, addends
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import BATCH, TIME
from seqdsl.ir.walk import subtree, transform
from seqdsl.schedule.region import Region


def is_product(statement: Statement, region: Region, apart: Sequence[str] = ()) -> bool:
    """Whether a sum reads a weight at every index of its loops: a product with a matrix.

    Dims in `apart` do not count: at one index of them it may be a row of weights.
    """
    if not statement.op or not statement.dims:
        return False
    inputs = {i.name: i for i in region.model.inputs}
    for node in subtree(statement.expr):
        if isinstance(node, ir.Ref) and node.name in inputs:
            type_ = inputs[node.name].type
            if not type_.axes & {BATCH, TIME} and set(statement.over) <= set(
                type_.dims
            ):
                return len(set(type_.dims) - set(apart)) > len(statement.over)
    return False


def joined(found: Sequence[Statement], region: Region) -> tuple[Statement, ...]:
    """Products that are only added up, as in a gradient through several gates, made one.

    They run over the same dims, and one sum needs fewer registers than several.
    """
    joiner = _Joiner(region, {s.name: s for s in found}, _uses(found))
    for statement in found:
        expr = transform(statement.expr, joiner.rule)
        if expr != statement.expr:
            joiner.known[statement.name] = replace(statement, expr=expr)
    return tuple(joiner.known.values())


def _uses(found: Sequence[Statement]) -> Counter[str]:
    """How often each value is read."""
    return Counter(
        n.name for s in found for n in subtree(s.expr) if isinstance(n, ir.Ref)
    )


@dataclass
class _Joiner:
    region: Region
    known: dict[str, Statement]
    uses: Counter[str]

    def rule(self, node: ir.Node) -> ir.Node:
        """A node that adds two sums up, with one sum instead."""
        if not isinstance(node, ir.Map) or node.op != "add":
            return node
        terms: list[ir.Node] = []
        for term in addends(node):
            place = next((i for i, t in enumerate(terms) if self._join(t, term)), None)
            if place is None:
                terms.append(term)
        return node if len(terms) == len(addends(node)) else added(terms)

    def _join(self, first: ir.Node, second: ir.Node) -> bool:
        """Makes `first` the sum of both, where they are such products."""
        a, b = self._product(first), self._product(second)
        if a is None or b is None or (a.dims, a.over) != (b.dims, b.over):
            return False
        if _views(first) != _views(second):
            return False
        names = [*self.known]
        # the later of the two places: everything that either reads is there
        late = max(a.name, b.name, key=names.index)
        one = replace(a, expr=build.map_("add", a.expr, b.expr))
        self.known = {
            (a.name if n == late else n): (one if n == late else self.known[n])
            for n in names
            if n == late or n not in (a.name, b.name)
        }
        return True

    def _product(self, node: ir.Node) -> Statement | None:
        """The product that a node is, read here and nowhere else."""
        name = _inner(node)
        statement = self.known.get(name or "")
        if statement is None or name is None or self.uses[name] != 1:
            return None
        own = statement.op == "sum" and name not in self.region.model.equation
        return statement if own and is_product(statement, self.region) else None


def _inner(node: ir.Node) -> str | None:
    while isinstance(node, ir.Rename):
        node = node.arg
    return node.name if isinstance(node, ir.Ref) else None


def _views(node: ir.Node) -> list[tuple[tuple[str, str], ...]]:
    """How a value is read: its renamed dims, outermost first."""
    found: list[tuple[tuple[str, str], ...]] = []
    while isinstance(node, ir.Rename):
        found.append(node.pairs)
        node = node.arg
    return found
