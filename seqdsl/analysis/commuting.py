"""Recurrences whose steps commute: whatever their order, the last state is the same.

Permuting what the layer is given along the axis then permutes nothing but the way there:
no value of a step may depend on other steps, through a shift, a convolution, the position
or another state. Additions commute in any semiring, products of numbers do, and steps that
are all the same. A mean that is kept relative to a commuting state (its weights are
`exp(z[t-1] - z)` or `z[t-1] / z`, also written as what is missing to 1) is a sum divided
by what it is relative to, so it commutes together with that state. What is not found here may still commute.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from fractions import Fraction

from seqdsl.analysis import modular
from seqdsl.analysis.graph import Edge
from seqdsl.analysis.normal import Normal
from seqdsl.analysis.pointwise import product
from seqdsl.analysis.terms import (
    Factor,
    Poly,
    Term,
    TooLong,
    add,
    is_free,
    same,
    scale,
)
from seqdsl.analysis.verdict import Affine, Verdict
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import TIME
from seqdsl.ir.walk import children


def with_commutes(
    model: ir.Model, edges: tuple[Edge, ...], verdicts: Iterable[Verdict]
) -> tuple[Verdict, ...]:
    """`verdicts` on `model`, those that commute with the reason why."""
    found = list(verdicts)
    reasons = {v.recurrence.states: _alone(model, v) for v in found}
    bases = [v for v in found if reasons[v.recurrence.states]]
    for verdict in found:
        if not reasons[verdict.recurrence.states]:
            reason = _relative(model, edges, verdict, bases)
            reasons[verdict.recurrence.states] = reason
    return tuple(replace(v, commutes=reasons[v.recurrence.states]) for v in found)


def _alone(model: ir.Model, verdict: Verdict) -> str:
    if isinstance(verdict.monoid, ir.Monoid):
        local = _are_local(model, verdict, verdict.leaf)
        commutes = local and verdict.monoid.commutes
        declared = verdict.monoid.name != modular.NAME
        what = f"`{verdict.monoid.name}`" if declared else "addition in a circle"
        return f"{what} commutes" if commutes else ""
    if verdict.verdict != "scannable" or not verdict.updates:
        return ""
    axis = verdict.recurrence.axis
    offsets = [u.offset for u in verdict.updates if u.offset is not None]
    if verdict.invariant and not any(axis in o.type.axes for o in offsets):
        return "every step is the same"
    values = [
        f for u in verdict.updates for t in u.terms for f in (*t.factors, *t.masks)
    ]
    if len(verdict.updates) != 1 or not _own(verdict.updates[0]):
        return ""
    if not _are_local(model, verdict, (*values, *offsets)):
        return ""
    if verdict.semiring == "log" and len(verdict.updates[0].terms) != 1:
        return ""  # a state that is added to itself is multiplied
    if verdict.structure == "identity":
        return "every step only adds to the state"
    return "" if offsets else "every step only multiplies the state"


def _are_local(
    model: ir.Model,
    verdict: Verdict,
    nodes: Iterable[ir.Node],
    base: str | None = None,
) -> bool:
    """Whether values depend on no other step; on those of the state `base`, they may."""
    local = _Local(verdict.recurrence.axis, base)
    return all(local.node(model, n) for n in nodes)


@dataclass(frozen=True)
class _Local:
    axis: str
    base: str | None
    known: dict[str, bool] = field(default_factory=dict[str, bool])

    def node(self, model: ir.Model, node: ir.Node) -> bool:
        """Whether `node` is the same wherever its step stands."""
        match node:
            case ir.Ref(name=name):
                return name == self.base or self._named(model, name)
            case ir.Shift(arg=ir.Ref(name=name), axis=self.axis) if name == self.base:
                return True
            case ir.Shift(axis=axis) | ir.At(axis=axis) | ir.Stack(axis=axis):
                below = children(node)
                return axis != self.axis and all(self.node(model, c) for c in below)
            case ir.Position() | ir.Sample():
                return self.axis not in node.type.axes
            case ir.Copy():
                return self.axis != TIME
            case ir.Result(call=call):
                return self._called(model, model.call[call])
            case _:
                over: tuple[str, ...] = getattr(node, "over", getattr(node, "axes", ()))
                mixes = self.axis in over or bool(set(over) & set(model.copies))
                return not mixes and all(self.node(model, c) for c in children(node))

    def _named(self, model: ir.Model, name: str) -> bool:
        if name in model.state:
            return self.axis not in model.state[name].type.axes
        if name not in model.equation:
            return True
        if name not in self.known:
            self.known[name] = self.node(model, model.equation[name].expr)
        return self.known[name]

    def _called(self, model: ir.Model, call: ir.CallSite) -> bool:
        inner = model.instance[call.instance].model
        if inner.states or inner.instances or self.axis != TIME:
            return False
        inside = _Local(self.axis, None)
        own = all(inside.node(inner, e.expr) for e in inner.equations)
        outputs = all(inside.node(inner, o.expr) for o in inner.outputs)
        return own and outputs and all(self.node(model, a) for _, a in call.args)


def _own(update: Affine) -> bool:
    """Whether each entry depends on itself one step before, and nothing else."""
    return all(
        t.kind == "diagonal" and t.state == update.state and t.lag == 1
        for t in update.terms
    ) or (
        not any(t.over for t in update.terms)
        and all(isinstance(t.read, ir.Shift) and t.lag == 1 for t in update.terms)
        and all(t.state == update.state for t in update.terms)
    )


def _relative(
    model: ir.Model, edges: tuple[Edge, ...], verdict: Verdict, bases: list[Verdict]
) -> str:
    """Sums that are kept divided by a function of a commuting state."""
    if verdict.semiring != "real" or len(verdict.updates) != 1:
        return ""
    (update,) = verdict.updates
    if not _own(update) or update.diagonal is None or update.offset is None:
        return ""
    for base in bases:
        recurrence = base.recurrence
        along = (recurrence.axis, recurrence.direction)
        own = (verdict.recurrence.axis, verdict.recurrence.direction)
        if along == own and len(recurrence.states) == 1:
            (state,) = recurrence.states
            values = (update.diagonal, update.offset)
            if not _are_local(model, verdict, values, base=state):
                continue
            if _is_mean(model, edges, verdict, update, base):
                return f"it is a sum, kept relative to `{state}`, whose steps commute"
    return ""


def _is_mean(
    model: ir.Model,
    edges: tuple[Edge, ...],
    verdict: Verdict,
    update: Affine,
    base: Verdict,
) -> bool:
    (state,) = base.recurrence.states
    members = _readers(model, edges, state) - set(verdict.recurrence.states)
    own = tuple(e for e in edges if e.source in members)
    axis = verdict.recurrence.axis
    normal = Normal(model, axis, members, own, current=(state,))
    now = build.ref(state, model.equation[state].expr.type)
    offset = -1 if verdict.recurrence.direction == "forward" else 1
    before = build.shift(now, axis, offset)
    added = base.updates[0].offset if base.structure == "identity" else None
    assert update.diagonal is not None and update.offset is not None
    try:
        coefficient = normal.poly(update.diagonal)
        rest = normal.poly(update.offset)
        log = added if base.semiring == "log" else None
        real = added if base.semiring == "real" else None
        return _exponential(normal, coefficient, rest, now, before, log) or _quotient(
            normal, coefficient, rest, now, before, real
        )
    except (TooLong, build.Issue, RecursionError):
        return False


def _readers(model: ir.Model, edges: Iterable[Edge], state: str) -> set[str]:
    """`state`, and what reads it without being a state itself."""
    found = {state}
    readers = [(e.source, e.reader) for e in edges if e.reader not in model.state]
    growing = True
    while growing:
        more = {r for s, r in readers if s in found and r in model.equation} - found
        found |= more
        growing = bool(more)
    return found


def _exponential(
    normal: Normal,
    coefficient: Poly,
    rest: Poly,
    now: ir.Ref,
    before: ir.Node,
    added: ir.Node | None,
) -> bool:
    """Whether the state times `exp(now)` is a plain sum.

    Where `exp(added)` is what a step adds to `exp(before)`, the coefficient may also say
    by how much it is less than 1.
    """
    scaled = normal.poly(build.map_("exp", now))
    carried = product(normal, coefficient, scaled)
    gain = None if added is None else normal.poly(build.map_("exp", added))
    then = normal.poly(build.map_("exp", before))
    kept = same(carried, then) or _is_less(carried, scaled, gain)
    return kept and is_free(product(normal, rest, scaled))


def _quotient(
    normal: Normal,
    coefficient: Poly,
    rest: Poly,
    now: ir.Ref,
    before: ir.Node,
    added: ir.Node | None,
) -> bool:
    """Whether the state times `now` is a plain sum; `added` is what a step adds to it."""
    (inverse,) = normal.poly(build.map_("div", build.const(1.0), now))
    (divided,) = inverse.factors
    scaled = normal.poly(now)
    carried = add(
        *(
            _without(term, divided) or product(normal, (term,), scaled)
            for term in coefficient
        )
    )
    gain = None if added is None else normal.poly(added)
    kept = same(carried, normal.poly(before)) or _is_less(carried, scaled, gain)
    return kept and all(
        t.scale and [f.key for f in t.active] == [divided.key] for t in rest
    )


def _is_less(carried: Poly, scaled: Poly, gain: Poly | None) -> bool:
    """Whether what is carried is what there is now without what the step adds."""
    return gain is not None and same(carried, add(scaled, scale(gain, Fraction(-1))))


def _without(term: Term, factor: Factor) -> Poly:
    """`term` divided by `factor`; empty where that is none of its factors."""
    kept = [f for f in term.factors if f.key != factor.key]
    if len(kept) != len(term.factors) - 1:
        return ()
    return (Term(term.scale, tuple(kept), term.bound),)
