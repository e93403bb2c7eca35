"""Updates that are affine in (logaddexp, +), (max, +) or (min, +).

A value is a sum, in the semiring, of elements; each element is an ordinary sum of reads
and free values, some of its indices added up in the semiring too. An update is affine
where every element has at most one read of the state, with coefficient 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from seqdsl.analysis.folds import unfolded
from seqdsl.analysis.logarithms import log_of
from seqdsl.analysis.normal import Normal
from seqdsl.analysis.positive import positive
from seqdsl.analysis.reindexing import Reindexer
from seqdsl.analysis.terms import LIMIT, Poly, Term, add, rename, scale
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Lit
from seqdsl.ir.walk import children

Name = Literal["log", "max_plus", "min_plus"]
PLUS = {"log": "logaddexp", "max_plus": "max", "min_plus": "min"}
REDUCE = {"log": "logsumexp", "max_plus": "max", "min_plus": "min"}
ZERO = {"log": -math.inf, "max_plus": -math.inf, "min_plus": math.inf}


class NoForm(Exception):
    """The expression is nothing in this semiring."""


@dataclass(frozen=True)
class Element:
    """`value` summed in the semiring over the index names `over`."""

    value: Poly
    over: frozenset[str] = frozenset()


Form = tuple[Element, ...]


class Tropical:
    """Forms of expressions in one of the three semirings."""

    def __init__(self, normal: Normal, name: Name) -> None:
        self.normal = normal
        self.name: Name = name

    def form(self, node: ir.Node) -> Form:
        """The elements of `node`; raises `NoForm` where it has none."""
        poly = self.normal.poly(node)
        if not self.normal.active(node):
            return (Element(poly),)
        if not self.normal.bad(poly):
            return self._linear(node, poly)
        try:
            return self._written(node)
        except NoForm:
            found = unfolded(self.normal, poly, self.name)
            if found is None:
                raise
            return tuple(Element(p) for p in found)

    def _linear(self, node: ir.Node, poly: Poly) -> Form:
        """One element, or several where a choice puts a condition on a read."""
        whole = Element(poly)
        try:
            split(self.normal, whole)
        except NoForm:
            try:
                return self._written(node)
            except NoForm:
                return (whole,)
        return (whole,)

    def _written(self, node: ir.Node) -> Form:
        """The elements that can be read off the way `node` is written."""
        match node:
            case ir.Ref(name=name) if name in self.normal.model.equation:
                return self.form(self.normal.model.equation[name].expr)
            case ir.Map():
                return self._map(node)
            case ir.Reduce(op=op) if op == REDUCE[self.name]:
                return self._reduced(self._masked(node), node.over, node)
            case ir.Rename(arg=arg) | ir.Split(arg=arg) | ir.Merge(arg=arg):
                return tuple(self._moved(node, e) for e in self.form(arg))
            case ir.SliceDim(arg=arg) | ir.Roll(arg=arg):
                return tuple(self._moved(node, e) for e in self.form(arg))
            case _:
                raise NoForm

    def _moved(self, node: ir.Node, element: Element) -> Element:
        value = Reindexer(self.normal).moved(node, element.value)
        if value is None:
            raise NoForm
        return replace(element, value=value)

    def _map(self, node: ir.Map) -> Form:
        match node.op, node.args:
            case op, (a, b) if op == PLUS[self.name]:
                return _limited((*self.form(a), *self.form(b)))
            case ("relu", (a,)) if self.name == "max_plus":
                return (*self.form(a), Element(()))
            case ("softplus", (a,)) if self.name == "log":
                return (*self.form(a), Element(()))
            case "add", (a, b):
                return self._product(self.form(a), self.form(b))
            case "sub", (a, b):
                return self._product(self.form(a), _negated(self.form(b)))
            case "mul", (ir.Const(value=Lit(c)), a) | (a, ir.Const(value=Lit(c))):
                return self._scaled(self.form(a), c)
            case "where", (c, a, b) if not self.normal.active(c):
                unless = build.map_("not", c)
                return (
                    *self._where(c, self.form(a)),
                    *self._where(unless, self.form(b)),
                )
            case ("log", (a,)) if self.name == "log":
                return self.exponential(a)
            case ("log1p", (a,)) if self.name == "log":
                return (*self.exponential(a), Element(()))
            case "float", (a,):
                return self.form(a)
            case _:
                raise NoForm

    def _scaled(self, form: Form, by: object) -> Form:
        if (
            self.name == "log"
            or not isinstance(by, int | float)
            or not 0 < by < math.inf
        ):
            raise NoForm
        factor = Fraction(str(by))
        return tuple(replace(e, value=scale(e.value, factor)) for e in form)

    def _where(self, condition: ir.Node, form: Form) -> Form:
        zero = build.const(ZERO[self.name])
        gate = self.normal.free(build.map_("where", condition, build.const(0.0), zero))
        return tuple(replace(e, value=add(e.value, gate)) for e in form)

    def _masked(self, node: ir.Reduce) -> Form:
        form = self.form(node.arg)
        if node.where is None:
            return form
        if self.normal.active(node.where):
            raise NoForm
        return self._where(node.where, form)

    def _product(self, a: Form, b: Form) -> Form:
        """Sums of all pairs: addition distributes over the semiring's sum."""
        if len(a) * len(b) > LIMIT:
            raise NoForm
        pairs = [(self._apart(x), self._apart(y)) for x in a for y in b]
        return tuple(Element(add(x.value, y.value), x.over | y.over) for x, y in pairs)

    def _apart(self, element: Element) -> Element:
        table = {n: self.normal.interner.index() for n in sorted(element.over)}
        over = frozenset(table.values())
        return Element(rename(element.value, table), over) if table else element

    def _reduced(self, form: Form, over: Iterable[str], node: ir.Node) -> Form:
        for dim in over:
            if not any(dim in c.type.dims for c in children(node)):
                raise NoForm
            form = tuple(self._bound(e, dim) for e in form)
        return form

    def _bound(self, element: Element, dim: str) -> Element:
        if any(dim in t.free for t in element.value):
            name = self.normal.interner.index()
            value = rename(element.value, {dim: name})
            return Element(value, element.over | {name})
        if self.name == "log":
            count = build.map_("log", self.normal.size(dim))
            return replace(element, value=add(element.value, self.normal.free(count)))
        return element

    # ---- log(...) of sums of exponentials

    def exponential(self, node: ir.Node) -> Form:
        """Elements whose exponentials add up to `node`, which must be positive."""
        if not self.normal.active(node):
            if not positive(self.normal.model, node):
                raise NoForm
            return (Element(self.normal.free(log_of(node))),)
        match node:
            case ir.Ref(name=name) if name in self.normal.model.equation:
                return self.exponential(self.normal.model.equation[name].expr)
            case ir.Map(op="exp", args=(a,)):
                return self.form(a)
            case ir.Map(op="add", args=(a, b)):
                return _limited((*self.exponential(a), *self.exponential(b)))
            case ir.Map(op="mul", args=(a, b)):
                return self._product(self.exponential(a), self.exponential(b))
            case ir.Map(op="div", args=(a, b)):
                return self._product(self.exponential(a), _negated(self.exponential(b)))
            case ir.Reduce(op="sum", arg=arg, where=None, over=over):
                return self._reduced(self.exponential(arg), over, node)
            case ir.Contract(args=args, over=over):
                form: Form = (Element(()),)
                for arg in args:
                    form = self._product(form, self.exponential(arg))
                return self._reduced(form, over, node)
            case _:
                raise NoForm


def _limited(form: Form) -> Form:
    if len(form) > LIMIT:
        raise NoForm
    return form


def _negated(form: Form) -> Form:
    """A single element may be subtracted; a sum of several has no inverse."""
    match form:
        case (Element(value=value, over=over),) if not over:
            return (Element(scale(value, Fraction(-1))),)
        case _:
            raise NoForm


def split(normal: Normal, element: Element) -> tuple[Term | None, Poly]:
    """The read of the state in an element, if any, and the rest of its value.

    Raises `NoForm` unless there is at most one read, as it stands and once.
    """
    bad = normal.bad(element.value)
    if bad:
        raise NoForm
    good = [t for t in element.value if len(t.active) < 2]
    good = [t for t in good if all(f.kind == "state" for f in t.active)]
    reads = [t for t in good if t.active]
    rest = tuple(t for t in good if not t.active)
    if not reads:
        return None, rest
    (read, *more) = reads
    plain = not read.passive and not read.bound and read.scale == 1
    if more or not plain or not is_moved(read.active[0].node):
        raise NoForm
    return read, rest


def is_moved(node: ir.Node) -> bool:
    """Whether a read of the state holds just its entries, in whatever places."""
    match node:
        case ir.Rename(arg=arg) | ir.Split(arg=arg) | ir.Merge(arg=arg):
            return is_moved(arg)
        case ir.SliceDim(arg=arg) | ir.Gather(arg=arg) | ir.Roll(wrap=True, arg=arg):
            return is_moved(arg)
        case _:
            return isinstance(node, ir.Shift)
