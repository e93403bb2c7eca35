"""What a block of steps reads of its states, in terms of the states before it.

A step of a delta rule asks its state for what it holds, so that the next cannot start
before it has changed the whole state. But the state is affine in what it was before the
block, with rows and columns as offsets: `dot(q, a * S + k * u) = a * dot(q, S) +
dot(q, k) * u`. All questions of a block are then put to one state, and the answers put
right by small sums over keys. (Yang et al. 2024, "Parallelizing linear transformers with
the delta rule over sequence length", section 3, there for long chunks.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import reduce

from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.walk import children, subtree, with_children
from seqdsl.schedule.region import Region

Term = tuple[ir.Node, ...]
"""Factors of one addend."""


def asks_itself(region: Region) -> frozenset[str]:
    """States whose updates depend on sums over what they were before."""
    return frozenset(s for s in region.states if _asked(region, s))


def _asked(region: Region, state: str) -> bool:
    equations = region.model.equation
    left, seen = [state], set[str]()
    while left:
        name = left.pop()
        if name in seen or name not in equations:
            continue
        seen.add(name)
        for node in subtree(equations[name].expr):
            if isinstance(node, ir.Ref):
                left.append(node.name)
            sums = isinstance(node, ir.Contract | ir.Reduce | ir.Along)
            if sums and any(_reads(n, {state}) for n in subtree(node)):
                return True
    return False


def _reads(node: ir.Node, names: set[str] | frozenset[str]) -> bool:
    return isinstance(node, ir.Ref) and node.name in names


class _NotAffineError(Exception):
    """A block has no such form."""


def substituted(region: Region, values: frozenset[str]) -> Region | None:
    """`region`, a block of steps, whose `values` are what states become in it.

    None where they are not affine in what they were before, where their parts are as large
    as they are, or where they are read by other sums than those over their rows.
    """
    found = [region.model.equation[n].expr for n in region.steps]
    shapes = {frozenset(region.model.equation[v].expr.type.dims) for v in values}
    rows = {d for e in found for n in subtree(e) for d in _summed(n, values)}
    if len(shapes) != 1:
        return None
    (whole,) = shapes
    try:
        made = _Substitution(region, values, frozenset(rows), whole).run()
    except _NotAffineError:
        return None
    body = replace(region.model, equations=made)
    return replace(region, model=body, steps=tuple(e.name for e in made))


def _summed(node: ir.Node, values: frozenset[str]) -> tuple[str, ...]:
    """Dims over which a node sums up states, and not only what others have summed up."""
    if isinstance(node, ir.Contract) and any(_held(a, values) for a in node.args):
        return node.over
    return ()


def _held(node: ir.Node, values: frozenset[str]) -> bool:
    """Whether a node reads states outside of sums of its own."""
    if isinstance(node, ir.Contract) and node.over:
        return False
    return _reads(node, values) or any(_held(c, values) for c in children(node))


@dataclass
class _Substitution:
    region: Region
    values: frozenset[str]
    rows: frozenset[str]
    whole: frozenset[str]
    forms: dict[str, list[Term]] = field(default_factory=dict[str, list[Term]])
    known: dict[ir.Node, ir.Ref] = field(default_factory=dict[ir.Node, ir.Ref])
    made: list[ir.Equation] = field(default_factory=list[ir.Equation])

    def run(self) -> tuple[ir.Equation, ...]:
        """All equations in an order in which they can run."""
        for name in self.region.steps:
            equation = self.region.model.equation[name]
            expr = self.asked(equation.expr)
            if name not in self.values:
                if self.holds(expr):
                    raise _NotAffineError
                self.made.append(replace(equation, expr=expr))
                continue
            self.forms[name] = [self.parts(t) for t in self.terms(expr)]
            if name in self.region.states:
                total = _sum([_product(t) for t in self.forms[name]])
                self.made.append(replace(equation, expr=total))
        return tuple(self.made)

    def holds(self, node: ir.Node) -> bool:
        """Whether a state is read in `node`, before the block or in it."""
        return any(_reads(n, self.values) for n in subtree(node))

    # ---- Sums over states

    def asked(self, node: ir.Node) -> ir.Node:
        """`node` with its sums over states by name."""
        old = children(node)
        if isinstance(node, ir.Shift) or not old:
            return node
        new = tuple(map(self.asked, old))
        if isinstance(node, ir.Contract) and node.over and any(map(self.holds, new)):
            factors = reduce(_times, map(self.terms, new))
            total = _sum([self.answer(f, node.over) for f in factors])
            if set(total.type.dims) != set(node.type.dims):
                raise _NotAffineError
            return self.name(total, "read")
        same = all(a is b for a, b in zip(old, new, strict=True))
        return node if same else with_children(node, new)

    def answer(self, factors: Term, over: Sequence[str]) -> ir.Node:
        """One product summed over rows: factors that have them inside, the state last."""
        inside = [f for f in factors if set(f.type.dims) & set(over)]
        outside = [f for f in factors if f not in inside]
        held = [f for f in inside if self.holds(f)]
        keys = [f for f in inside if f not in held]
        if len(held) > 1 or not keys or not set(over) <= self.rows:
            raise _NotAffineError
        if held:
            keys = [self.name(_product(keys), "key")]
        total = build.contract([*keys, *held], over)
        return _product(sorted((*outside, total), key=_size))

    # ---- Affine forms

    def terms(self, node: ir.Node) -> list[Term]:
        """`node` as a sum of products; what no state is in is one factor, or several."""
        if not self.holds(node) and not self._outer(node):
            return [_factors(node)]
        match node:
            case ir.Shift():
                return [(node,)]
            case ir.Ref(name=name):
                if name not in self.forms:
                    raise _NotAffineError
                return self.forms[name]
            case ir.Map(op="add", args=(a, b)):
                return [*self.terms(a), *self.terms(b)]
            case ir.Map(op="sub", args=(a, b)):
                return [*self.terms(a), *map(_negative, self.terms(b))]
            case ir.Map(op="neg", args=(a,)):
                return [*map(_negative, self.terms(a))]
            case ir.Map(op="mul", args=(a, b)):
                return _times(self.terms(a), self.terms(b))
            case ir.Contract(args=args, over=()):
                return reduce(_times, map(self.terms, args))
            case _:
                raise _NotAffineError

    def _outer(self, node: ir.Node) -> bool:
        """Whether a value is as large as a state, as an outer product is."""
        return set(node.type.dims) >= self.whole

    def parts(self, term: Term) -> Term:
        """Factors of a term in the order in which they are multiplied.

        Products of several have names; what is the same for all rows comes first.
        """
        held = [f for f in term if self.holds(f)]
        rest = [f for f in term if not self.holds(f)]
        if len(held) > 1 or any(map(self._outer, rest)):
            raise _NotAffineError
        keys = [f for f in rest if set(f.type.dims) & self.rows]
        others = sorted((f for f in rest if f not in keys), key=_size)
        if others and not all(isinstance(f, ir.Ref) for f in others):
            others = [self.name(_product(others), "value")]
        named = [self.name(_product(keys), "key")] if keys else []
        return (*others, *named, *held)

    def name(self, node: ir.Node, base: str) -> ir.Ref:
        """`node` as an equation of its own, unless it is a bare value."""
        if isinstance(node, ir.Ref):
            return node
        if node not in self.known:
            name = f"{base}.{len(self.known)}"
            self.made.append(ir.Equation(name=name, expr=node, written=False))
            self.known[node] = build.ref(name, node.type)
        return self.known[node]


def _size(node: ir.Node) -> int:
    return len(node.type.dims)


def _factors(node: ir.Node) -> Term:
    """Factors of a product."""
    match node:
        case ir.Map(op="mul", args=args) | ir.Contract(args=args, over=()):
            return tuple(f for a in args for f in _factors(a))
        case _:
            return (node,)


def _times(a: list[Term], b: list[Term]) -> list[Term]:
    return [(*x, *y) for x in a for y in b]


def _negative(term: Term) -> Term:
    """The smallest factor negated, as long as there is one beside the state."""
    first, *rest = sorted(term, key=_size)
    return (build.map_("neg", first), *rest)


def _product(factors: Sequence[ir.Node]) -> ir.Node:
    return reduce(lambda a, b: build.map_("mul", a, b), factors)


def _sum(terms: Sequence[ir.Node]) -> ir.Node:
    return reduce(lambda a, b: build.map_("add", a, b), terms)
