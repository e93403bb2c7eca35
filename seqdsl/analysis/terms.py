"""Sums of products over named indices: the normal form in which updates are compared.

A term is a number times a product of factors, summed over some index names. A factor is
a value whose dims carry index names; equal names in different factors mean the same
index. Factors that depend on the recurrence are reads of the state or whatever is not
linear in it; the rest is taken as it stands. Terms that are equal up to the names of
summed indices are added up, so that what cancels disappears.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from itertools import count, pairwise
from typing import Literal

from seqdsl.ir import nodes as ir

LIMIT = 100
"""A sum of more terms than this is given up."""


class TooLong(Exception):
    """A normal form has more than `LIMIT` terms."""


@dataclass(frozen=True)
class Factor:
    """A value in a product; `names[i]` is the index along `node.type.dims[i]`.

    `free` values do not depend on the recurrence, a `mask` is a free bool as 0 or 1,
    a `state` is a linear function of one read of the state, and `nonlinear` is the
    rest, with what it was applied to in `args` (over `own`, its own index names).
    """

    kind: Literal["free", "mask", "state", "nonlinear"]
    key: int
    names: tuple[str, ...]
    node: ir.Node = field(compare=False)
    op: str = field(default="", compare=False)
    own: tuple[str, ...] = field(default=(), compare=False)
    args: tuple[Poly, ...] = field(default=(), compare=False)

    @property
    def active(self) -> bool:
        """Whether it depends on the recurrence."""
        return self.kind in ("state", "nonlinear")

    @property
    def truth(self) -> bool:
        """Whether it is 0 or 1, which is its own square."""
        if self.kind == "nonlinear":
            return self.node.type.dtype == "bool"
        return self.kind == "mask"

    def renamed(self, table: Mapping[str, str]) -> Factor:
        """With other index names."""
        names = tuple([table.get(n, n) for n in self.names])
        return self if names == self.names else self._named(names)

    def _named(self, names: tuple[str, ...]) -> Factor:
        """As `replace` would make it, which takes several times as long."""
        made = object.__new__(Factor)
        made.__dict__.update(self.__dict__, names=names)
        return made


@dataclass(frozen=True)
class Term:
    """`scale * sum[bound](product of factors)`."""

    scale: Fraction
    factors: tuple[Factor, ...]
    bound: frozenset[str] = frozenset()

    @cached_property
    def active(self) -> tuple[Factor, ...]:
        """The factors that depend on the recurrence."""
        return tuple(f for f in self.factors if f.active)

    @cached_property
    def passive(self) -> tuple[Factor, ...]:
        """The other factors."""
        return tuple(f for f in self.factors if not f.active)

    @cached_property
    def indices(self) -> frozenset[str]:
        """All index names, summed ones included."""
        return frozenset(n for f in self.factors for n in f.names)

    @cached_property
    def free(self) -> frozenset[str]:
        """The index names of the result."""
        return self.indices - self.bound

    def renamed(self, table: Mapping[str, str]) -> Term:
        """With other names for indices that are not summed."""
        table = {a: b for a, b in table.items() if a not in self.bound}
        if not table:
            return self
        factors = tuple([f.renamed(table) for f in self.factors])
        return Term(self.scale, factors, self.bound)


Poly = tuple[Term, ...]
_SYMMETRIC = frozenset(("add", "mul", "max", "min", "logaddexp", "and", "or"))


class Interner:
    """Small numbers for things by equality, so that comparing them is cheap."""

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}
        self._nodes: dict[int, tuple[ir.Node, int]] = {}
        self._bound = count(1)

    def key(self, thing: Hashable) -> int:
        """The number of `thing`."""
        return self._numbers.setdefault(thing, len(self._numbers))

    def node(self, node: ir.Node) -> int:
        """The number of a node; asked for the same object again, it answers at once."""
        known = self._nodes.get(id(node))
        if known is None:
            known = self._nodes[id(node)] = (node, self.key(node))
        return known[1]

    def value(self, node: ir.Node) -> Hashable:
        """Equal for equal values, also where operands stand in another order."""
        if not isinstance(node, ir.Map) or node.op not in _SYMMETRIC:
            return self.node(node)
        if len({a.type.dims for a in node.args}) > 1:
            return self.node(node)
        parts = frozenset(Counter(map(self.value, node.args)).items())
        return self.key((node.op, node.type, parts))

    def index(self) -> str:
        """A new name for a summed index."""
        return f"#{next(self._bound)}"


def collect(terms: Iterable[Term]) -> Poly:
    """The sum of `terms` with equal ones added up and zeros left out."""
    # Numbers tell factors apart, and compare faster than the factors do.
    sums: dict[Hashable, Term] = {}
    for term in terms:
        fixed = canonical(term)
        key = (tuple([(f.key, f.names) for f in fixed.factors]), fixed.bound)
        known = sums.get(key)
        if known is None:
            sums[key] = fixed
            if len(sums) > LIMIT:
                raise TooLong
        else:
            sums[key] = Term(known.scale + fixed.scale, known.factors, known.bound)
    return tuple(t for t in sums.values() if t.scale)


def canonical(term: Term) -> Term:
    """`term` with factors in order and summed indices numbered by first use."""
    if not term.bound:
        return _in_order(term)
    # Summed indices have no numbers yet, so at first everything else decides.
    keyed = [(f.key, _shown(f, term.bound), f) for f in term.factors]
    keyed.sort(key=lambda k: k[:2])
    order = [f for _, _, f in keyed]
    if any(a[:2] == b[:2] for a, b in pairwise(keyed)):
        numbers = {n: i for i, n in enumerate(_seen(order, term.bound))}
        keyed.sort(
            key=lambda k: (*k[:2], tuple(numbers.get(n, -1) for n in k[2].names))
        )
        order = [f for _, _, f in keyed]
    table = {n: f"#b{i}" for i, n in enumerate(_seen(order, term.bound))}
    return Term(
        term.scale,
        tuple(f.renamed(table) for f in order),
        frozenset(table.values()),
    )


def _in_order(term: Term) -> Term:
    """A term without summed indices: its factors by value and index names."""
    factors = term.factors
    if len(factors) < 2:
        return term
    order = tuple(sorted(factors, key=lambda f: (f.key, f.names)))
    same_order = all(a is b for a, b in zip(order, factors, strict=True))
    return term if same_order else Term(term.scale, order)


def _seen(factors: Sequence[Factor], bound: frozenset[str]) -> Iterator[str]:
    names = dict.fromkeys(n for f in factors for n in f.names if n in bound)
    return iter(names)


def _shown(factor: Factor, bound: frozenset[str]) -> tuple[str, ...]:
    return tuple("" if n in bound else n for n in factor.names)


def constant(value: Fraction) -> Poly:
    """A number."""
    return (Term(value, ()),) if value else ()


def add(*polys: Poly) -> Poly:
    """The sum."""
    return collect(t for p in polys for t in p)


def scale(poly: Poly, by: Fraction) -> Poly:
    """`by * poly`."""
    return tuple(replace(t, scale=t.scale * by) for t in poly) if by else ()


def multiply(a: Poly, b: Poly, interner: Interner) -> Poly:
    """The product; raises `TooLong` where it has too many terms."""
    if len(a) * len(b) > 2 * LIMIT:
        raise TooLong
    return collect(times(s, t, interner) for s in a for t in b)


def times(a: Term, b: Term, interner: Interner) -> Term:
    """The product of two terms."""
    if a.bound and b.bound:
        a, b = apart(a, interner), apart(b, interner)
    masks = {f for f in a.factors if f.truth}
    factors = (*a.factors, *(f for f in b.factors if f not in masks))
    return Term(a.scale * b.scale, factors, a.bound | b.bound)


def apart(term: Term, interner: Interner) -> Term:
    """`term` with summed indices that occur nowhere else."""
    if not term.bound:
        return term
    table = {n: interner.index() for n in sorted(term.bound)}
    factors = tuple(f.renamed(table) for f in term.factors)
    return Term(term.scale, factors, frozenset(table.values()))


def rename(poly: Poly, table: Mapping[str, str]) -> Poly:
    """With other names for indices of the result."""
    return collect(t.renamed(table) for t in poly)


def key_of(poly: Poly) -> Hashable:
    """Equal for equal sums."""
    return frozenset(poly)


def is_free(poly: Poly) -> bool:
    """Whether nothing in it depends on the recurrence."""
    return not any(t.active for t in poly)


def same(a: Poly, b: Poly) -> bool:
    """Whether two sums are equal term by term."""
    return key_of(a) == key_of(b)


def is_bad(term: Term) -> bool:
    """Whether a term is not linear in one read of the state."""
    active = term.active
    return len(active) > 1 or any(f.kind == "nonlinear" for f in active)


def is_tied(term: Term) -> bool:
    """Whether one factor has a summed dim of the state and the same dim of the result."""
    (state,) = term.active
    pairs = zip(state.node.type.dims, state.names, strict=True)
    summed = [(d, n) for d, n in pairs if n in term.bound]
    return any({d, n} <= set(f.names) for d, n in summed for f in term.passive)
