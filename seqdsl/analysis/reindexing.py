"""Normal forms through sums, renamed dims and other linear re-indexing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

from seqdsl.analysis.identities import without_identity
from seqdsl.analysis.rebuild import whole
from seqdsl.analysis.terms import Factor, Poly, Term, collect, multiply, rename
from seqdsl.differentiate.broadcast import ZERO, spread
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit, apply
from seqdsl.ir.types import TIME
from seqdsl.ir.walk import children, with_children

if TYPE_CHECKING:
    from seqdsl.analysis.normal import Normal


class Reindexer:
    """Linear operators over dims, for one `Normal`."""

    def __init__(self, normal: Normal) -> None:
        self.normal = normal

    def summed(self, poly: Poly, over: Iterable[str]) -> Poly:
        """The sum over dims."""
        for dim in over:
            with_dim = tuple(t for t in poly if dim in t.free)
            without = tuple(t for t in poly if dim not in t.free)
            bound = tuple(self._bind(t, dim) for t in with_dim)
            extent = self.normal.free(self.normal.size(dim))
            rest = multiply(without, extent, self.normal.interner)
            poly = collect((*bound, *rest))
        return poly

    def _bind(self, term: Term, dim: str) -> Term:
        name = self.normal.interner.index()
        bound = term.renamed({dim: name})
        bound = replace(bound, bound=bound.bound | {name})
        return without_identity(self.normal, bound)

    def rename(self, node: ir.Rename) -> Poly:
        """Dims under other names."""
        return rename(self.normal.poly(node.arg), dict(node.pairs))

    def linear(self, node: ir.Node) -> Poly:
        """The normal form of a node that is linear in its operand, else opaque."""
        match node:
            case ir.Rename():
                return self.rename(node)
            case ir.Split() | ir.Merge() | ir.SliceDim() | ir.Roll():
                found = self._factorwise(node, self.normal.poly(node.arg))
                return self._or_carried(node, found)
            case ir.Gather(arg=arg, dim=dim, index=ir.Position(along=along)) if (
                along not in arg.type.dims
                and node.index.type.dims == (along,)
                and self._extents((dim,)) == self._extents((along,))
            ):
                return rename(self.normal.poly(arg), {dim: along})
            case ir.Gather(index=index) if not self.normal.active(index):
                return self._wrapped(node, 0)
            case ir.Along(op="cumsum", over=over) if over[0] in node.arg.type.dims:
                return self._wrapped(node, 0)
            case ir.Conv(axes=axes) if TIME not in axes:
                return self._conv(node)
            case ir.Concat():
                return self._concat(node)
            case _:
                return self.normal.opaque(node)

    def moved(self, node: ir.Node, poly: Poly) -> Poly | None:
        """`poly`, a value of `node`'s operand, with its entries where `node` puts them.

        None where `node` does more than that.
        """
        match node:
            case ir.Rename(pairs=pairs):
                return rename(poly, dict(pairs))
            case ir.Split() | ir.Merge() | ir.SliceDim() | ir.Roll(wrap=True):
                return self._factorwise(node, poly)
            case _:
                return None

    def _conv(self, node: ir.Conv) -> Poly:
        if not self.normal.active(node.weight):
            return self._wrapped(node, 0)
        if not self.normal.active(node.arg):
            return self._wrapped(node, 1)
        return self.normal.opaque(node)

    def _concat(self, node: ir.Concat) -> Poly:
        """A sum of the arguments in their places, 0 elsewhere."""
        zeros = [spread(ZERO, (dim,)) for dim in node.dims]
        terms: list[Term] = []
        for i, arg in enumerate(node.args):

            def placed(value: ir.Node, i: int = i) -> ir.Node:
                args = [*zeros[:i], value, *zeros[i + 1 :]]
                return build.concat(args, node.dims, node.into)

            found = self._each(node, self.normal.poly(arg), arg, placed)
            if found is None:
                return self._or_carried(node, None)
            terms.extend(found)
        return collect(terms)

    def _wrapped(self, node: ir.Node, operand: int) -> Poly:
        """A node linear in one operand, applied to each of that operand's terms."""
        arg = children(node)[operand]
        found = self._applied_to(node, operand, self.normal.poly(arg))
        return self._or_carried(node, found)

    def _or_carried(self, node: ir.Node, found: Poly | None) -> Poly:
        """What a linear node only carries on was made nonlinear inside of it."""
        if found is not None:
            return found
        self.normal.carried[id(node)] = node
        return self.normal.opaque(node)

    def _applied_to(self, node: ir.Node, operand: int, poly: Poly) -> Poly | None:
        operands = children(node)

        def applied(value: ir.Node) -> ir.Node:
            order = tuple(value if i == operand else c for i, c in enumerate(operands))
            return with_children(node, order)

        found = self._each(node, poly, operands[operand], applied)
        return None if found is None else collect(found)

    def _each(
        self,
        node: ir.Node,
        poly: Poly,
        arg: ir.Node,
        apply: Callable[[ir.Node], ir.Node],
    ) -> list[Term] | None:
        """Terms of `apply` to each term; None where one is not linear in the state."""
        terms: list[Term] = []
        for term in poly:
            if len(term.active) > 1 or any(f.kind == "nonlinear" for f in term.active):
                return None
            value = replace(term, scale=Fraction(1))
            try:
                made = apply(whole(value, arg.type.dims, self.normal.dims))
            except build.Issue:
                return None
            made = replace(made, span=node.span)
            kind = "state" if term.active else "free"
            terms.append(Term(term.scale, (self.normal.factor(kind, made),)))
        return terms

    # ---- Operators that may be applied to each factor of a product

    def _factorwise(
        self, node: ir.Split | ir.Merge | ir.SliceDim | ir.Roll, poly: Poly
    ) -> Poly | None:
        old = node.dims if isinstance(node, ir.Merge) else (node.dim,)
        terms: list[Term] = []
        for term in poly:
            made = self._term(node, term, old)
            if made is None:
                return self._applied_to(node, 0, poly)
            terms.append(made)
        return collect(terms)

    def _term(
        self,
        node: ir.Split | ir.Merge | ir.SliceDim | ir.Roll,
        term: Term,
        old: Sequence[str],
    ) -> Term | None:
        """One term with `node` applied to each factor that has the dims `old`."""
        here = [f for f in term.factors if set(old) & set(f.names)]
        if not here and isinstance(node, ir.Roll) and not node.wrap:
            return None
        factors: list[Factor] = []
        for factor in term.factors:
            made = self._factor(node, factor, old) if factor in here else factor
            if made is None:
                return None
            factors.append(made)
        return replace(term, factors=tuple(factors))

    def _factor(
        self,
        node: ir.Split | ir.Merge | ir.SliceDim | ir.Roll,
        factor: Factor,
        old: Sequence[str],
    ) -> Factor | None:
        if factor.kind == "nonlinear":
            return None
        table = {n: n for n in factor.names}
        clash = [n for n in table if n.startswith("#")]
        if clash:
            table |= {n: self._stand_in(factor, n) for n in clash}
        pairs = [
            (dim, table[name])
            for dim, name in zip(factor.node.type.dims, factor.names, strict=True)
        ]
        value = spread(build.rename(factor.node, pairs), old)
        made = self._applied(node, value)
        back = {v: k for k, v in table.items()}
        return self.normal.factor(factor.kind, made).renamed(back)

    def _stand_in(self, factor: Factor, name: str) -> str:
        dim = factor.node.type.dims[factor.names.index(name)]
        return self.normal.dims.fresh(dim)

    def _applied(
        self, node: ir.Split | ir.Merge | ir.SliceDim | ir.Roll, value: ir.Node
    ) -> ir.Node:
        match node:
            case ir.Split(dim=dim, into=into):
                return self._split(value, dim, into)
            case ir.Merge(dims=dims, into=into):
                return self._merge(value, dims, into)
            case ir.SliceDim(dim=dim, start=start, step=step, into=into):
                return build.slice_dim(value, dim, start, step, into, node.span)
            case ir.Roll(dim=dim, offset=offset, wrap=wrap):
                if isinstance(value, ir.Roll) and wrap and value.wrap:
                    return self._rolled(value, node)
                return build.roll(value, dim, offset, wrap, node.span)

    def _rolled(self, value: ir.Roll, node: ir.Roll) -> ir.Node:
        """A roll of a roll; along the same dim they are one, or none."""
        if value.dim != node.dim:
            return build.roll(value, node.dim, node.offset, True, node.span)
        total = apply("+", value.offset, node.offset)
        if total == Lit(0):
            return value.arg
        return build.roll(value.arg, value.dim, total, True, value.span)

    def _split(self, value: ir.Node, dim: str, into: tuple[str, ...]) -> ir.Node:
        """A split, or what a merge of the same dims had merged."""
        match value:
            case ir.Merge(arg=arg, dims=dims, into=merged) if merged == dim:
                if self._extents(dims) == self._extents(into):
                    pairs = list(zip(dims, into, strict=True))
                    return build.rename(arg, pairs, value.span)
            case _:
                pass
        return build.split(value, dim, into, value.span)

    def _merge(self, value: ir.Node, dims: tuple[str, ...], into: str) -> ir.Node:
        """A merge, or what a split into the same dims had split."""
        match value:
            case ir.Split(arg=arg, dim=dim, into=split) if split == dims:
                if self._extents((dim,)) == self._extents((into,)):
                    return build.rename(arg, [(dim, into)], value.span)
            case _:
                pass
        return build.merge(value, dims, into, value.span)

    def _extents(self, dims: Iterable[str]) -> list[object]:
        return [self.normal.dims.extent(d) for d in dims]
