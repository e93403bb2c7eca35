"""Puts an expression in normal form over reads of the state.

Definitions of the same step are put in where they depend on the recurrence. What is
linear in the reads stays visible as such; everything else becomes a nonlinear factor,
equal for equal arguments, so that it can still cancel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction
from math import isfinite
from typing import Literal

from seqdsl.analysis.describe import facts, narrow, operator
from seqdsl.analysis.expand import expanded
from seqdsl.analysis.filters import filtered
from seqdsl.analysis.graph import Edge, name_of
from seqdsl.analysis.identities import equality_of, without_identity
from seqdsl.analysis.offset import offset
from seqdsl.analysis.pointwise import map_poly
from seqdsl.analysis.reindexing import Reindexer
from seqdsl.analysis.terms import (
    Factor,
    Interner,
    Poly,
    Term,
    TooLong,
    add,
    collect,
    constant,
    is_bad,
    is_free,
    is_tied,
    key_of,
    multiply,
)
from seqdsl.differentiate.broadcast import Dims
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit
from seqdsl.ir.types import TIME
from seqdsl.ir.walk import children

MANY = 24
"""With more kinds of nonlinear terms than this, none is expected to cancel."""


class Normal:
    """Normal forms of the expressions of one recurrence of one model."""

    def __init__(
        self,
        model: ir.Model,
        axis: str,
        members: Iterable[str],
        edges: Iterable[Edge],
        frozen: Iterable[ir.Node] = (),
        loops: Callable[[ir.At], bool] | None = None,
        current: Iterable[str] = (),
    ) -> None:
        self.model = model
        self.axis = axis
        self.axes = {axis}
        self.loops = loops
        self.current = frozenset(current)
        self.members = frozenset(members)
        self.frozen = {id(n): n for n in frozen}
        self.elsewhere = {(e.source, e.axis) for e in edges if e.kind != "same"}
        self.interner = Interner()
        self.dims = Dims(model.dims, frozenset(model.copies))
        self._active: dict[int, tuple[ir.Node, bool]] = {}
        self._polys: dict[int, tuple[ir.Node, Poly]] = {}
        self._values: dict[str, Poly] = {}
        self.long: dict[int, ir.Node] = {}
        self.carried: dict[int, ir.Node] = {}
        self.written: dict[int, tuple[ir.Node, Poly]] = {}
        self._bad: dict[int, tuple[Poly, Poly]] = {}

    # ---- What depends on the recurrence

    def active(self, node: ir.Node) -> bool:
        """Whether `node` depends on the state."""
        if id(node) not in self._active:
            found = id(node) not in self.frozen and self._depends(node)
            self._active[id(node)] = (node, found)
        return self._active[id(node)][1]

    def _depends(self, node: ir.Node) -> bool:
        match node:
            case ir.Ref() | ir.Result():
                return name_of(node) in self.members
            case ir.Shift(arg=arg, axis=axis):
                return (name_of(arg), axis) in self.elsewhere
            case ir.Copy(arg=arg):
                return (name_of(arg), TIME) in self.elsewhere
            case ir.Stack(arg=arg, axis=axis):
                return (name_of(arg), axis) in self.elsewhere
            case ir.At(arg=arg, axis=axis, index=index):
                inside = (name_of(arg), axis) in self.elsewhere
                return inside or (index is not None and self.active(index))
            case _:
                return any(map(self.active, children(node)))

    def is_read(self, node: ir.Node) -> bool:
        """Whether `node` is a read of the state at another step, or of one `current`."""
        if isinstance(node, ir.Ref):
            return node.name in self.current
        return (
            isinstance(node, ir.Shift)
            and node.axis in self.axes
            and isinstance(node.arg, ir.Ref)
            and self.active(node)
        )

    # ---- Normal forms

    def value(self, name: str) -> Poly:
        """The normal form of what the equation `name` says."""
        if name not in self._values:
            self._values[name] = self.poly(self.model.equation[name].expr)
        return self._values[name]

    def poly(self, node: ir.Node) -> Poly:
        """The normal form of `node`."""
        if id(node) not in self._polys:
            try:
                found = self._of(node) if self.active(node) else self.free(node)
            except TooLong:
                self.long[id(node)] = node
                found = self.opaque(node, op="long")
            self._polys[id(node)] = (node, found)
        return self._polys[id(node)][1]

    def free(self, node: ir.Node) -> Poly:
        """A value that does not depend on the state: numbers, products, or as it is."""
        match node:
            case _ if id(node) in self.frozen:
                pass
            case ir.Const(value=Lit(int() | float() as value)) if isfinite(value):
                if not isinstance(value, bool):
                    return constant(Fraction(str(value)))
            case ir.Map(op="neg", args=(arg,)):
                return tuple(Term(-t.scale, t.factors, t.bound) for t in self.poly(arg))
            case ir.Map(op="mul", args=(a, b)):
                return multiply(self.poly(a), self.poly(b), self.interner)
            case ir.Rename():
                return Reindexer(self).rename(node)
            case ir.Ref(name=name) if self._is_outer_product(name):
                return self.poly(self.model.equation[name].expr)
            case ir.Map() | ir.OneHot() | ir.Ref():
                equal = equality_of(self.model, node)
                if equal is not None:
                    return self.mask(equal)
            case _:
                pass
        return (Term(Fraction(1), (self.factor("free", node),)),)

    def _is_outer_product(self, name: str) -> bool:
        """Whether a definition is a product whose parts are worth telling apart."""
        equation = self.model.equation.get(name)
        if equation is None or name in self.model.state:
            return False
        expr = equation.expr
        if not isinstance(expr, ir.Map) or expr.op != "mul":
            return isinstance(expr, ir.Ref) and self._is_outer_product(expr.name)
        a, b = expr.args
        return max(len(a.type.dims), len(b.type.dims)) < len(expr.type.dims)

    def factor(self, kind: Literal["free", "mask", "state"], node: ir.Node) -> Factor:
        """A factor indexed by its dims; a renamed value is that value re-indexed."""
        names = node.type.dims
        while isinstance(node, ir.Rename):
            back = {new: old for old, new in node.pairs}
            table = {
                back.get(d, d): n for d, n in zip(node.type.dims, names, strict=True)
            }
            node = node.arg
            names = tuple(table[d] for d in node.type.dims)
        key = self.interner.key((kind, self.interner.value(node)))
        return Factor(kind, key, names, node)

    def mask(self, condition: ir.Node) -> Poly:
        """1 where a free condition holds, else 0."""
        condition = equality_of(self.model, condition) or condition
        return (Term(Fraction(1), (self.factor("mask", condition),)),)

    def nonlinear(
        self, op: str, node: ir.Node, args: tuple[Poly, ...], *facts: object
    ) -> Poly:
        """A factor that is not linear in the state, equal for equal `args`."""
        if args and all(map(is_free, args)):
            return self.settled(node)
        names = dims = node.type.dims
        free = set[str]().union(*(t.free for p in args for t in p))
        if isinstance(node, ir.Map):
            names = tuple(d for d in dims if d in free)
        key = self.interner.key((op, *facts, names, *map(key_of, args)))
        if names != dims:
            node = narrow(node, names)
        factor = Factor("nonlinear", key, names, node, op, names, args)
        return (Term(Fraction(1), (factor,)),)

    def settled(self, node: ir.Node) -> Poly:
        """A node in which all reads of the state cancel: what it is at state zero."""
        value = offset(self, node)
        return () if value is None else self.free(value)

    def opaque(self, node: ir.Node, op: str | None = None) -> Poly:
        """`node` as something not linear, whatever it is."""
        if op == "long" or isinstance(node, ir.Ref | ir.Result):
            return self.nonlinear(op or "opaque", node, (), self.interner.node(node))
        if isinstance(node, ir.Shift | ir.At | ir.Stack | ir.Copy):
            return self.nonlinear("opaque", node, (), self.interner.node(node))
        args = tuple(map(self.poly, children(node)))
        return self.nonlinear(op or operator(node), node, args, facts(node))

    def _of(self, node: ir.Node) -> Poly:
        match node:
            case ir.Ref() | ir.Shift() if self.is_read(node):
                return (Term(Fraction(1), (self.factor("state", node),)),)
            case ir.Ref(name=name) if name in self.model.equation:
                return self.value(name)
            case ir.At() if self.loops is not None and self.loops(node):
                return (Term(Fraction(1), (self.factor("state", node),)),)
            case ir.Map():
                return map_poly(self, node)
            case ir.Contract(args=args, over=over) if self._are_dims(node, over):
                result = constant(Fraction(1))
                for arg in args:
                    result = multiply(result, self.poly(arg), self.interner)
                return Reindexer(self).summed(result, over)
            case ir.Reduce(op="sum" | "mean"):
                return self._sum(node)
            case ir.Conv(axes=axes) if TIME in axes and self.axis == TIME:
                return filtered(self, node)
            case _:
                return Reindexer(self).linear(node)

    def _are_dims(self, node: ir.Node, over: Iterable[str]) -> bool:
        return {d for c in children(node) for d in c.type.dims}.issuperset(over)

    def _sum(self, node: ir.Reduce) -> Poly:
        arg, where = node.arg, node.where
        masked = where is not None and (self.active(where) or node.op == "mean")
        if masked or not self._are_dims(node, node.over):
            return self.opaque(node)
        poly = self.poly(arg)
        if where is not None:
            poly = multiply(self.mask(where), poly, self.interner)
        if node.op == "sum":
            return Reindexer(self).summed(poly, node.over)
        for dim in node.over:
            # What does not vary is its own mean.
            own = tuple(t for t in poly if dim not in t.free)
            rest = tuple(t for t in poly if dim in t.free)
            total = Reindexer(self).summed(rest, (dim,))
            share = multiply(total, self.inverse(self.size(dim)), self.interner)
            poly = add(own, share)
        return poly

    def size(self, dim: str) -> ir.Node:
        """How many entries a dim has."""
        return build.const(self.dims.extent(dim))

    def inverse(self, node: ir.Node) -> Poly:
        """1 over a free value."""
        match self.free(node):
            case (Term(scale=value, factors=()),):
                return constant(1 / value)
            case _:
                return self.free(build.map_("div", build.const(1.0), node))

    def bad(self, poly: Poly) -> Poly:
        """The terms that are not linear in the state, without those that cancel."""
        if id(poly) not in self._bad:
            self._bad[id(poly)] = (poly, self._surviving(poly))
        return self._bad[id(poly)][1]

    def _surviving(self, poly: Poly) -> Poly:
        # Terms cancel only where they multiply the same things that are active.
        groups: dict[tuple[int, ...], list[Term]] = {}
        for term in poly:
            if is_bad(term):
                active = tuple(sorted(f.key for f in term.active))
                groups.setdefault(active, []).append(term)
        if len(groups) > MANY:
            return tuple(t for own in groups.values() for t in own)
        return tuple(t for own in groups.values() for t in expanded(self, tuple(own)))

    def linear(self, name: str) -> Poly:
        """An affine update, at most one read a term; written out if that is shorter."""
        good = tuple(t for t in self.value(name) if not is_bad(t))
        reads = tuple(t for t in good if t.active)
        whole = expanded(self, reads)
        written = collect(without_identity(self, t) for t in whole)
        apart = any(map(is_tied, reads)) and not any(map(is_tied, written))
        if len(written) < len(reads) or written != whole or apart:
            good = (*written, *(t for t in good if not t.active))
        return good
