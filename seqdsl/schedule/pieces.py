"""What a piece of a sequence does to states, without the states: for scans by pieces.

A state that is affine in itself, entry by entry, after a piece is `kept * before + added`
in its semiring, whatever it was before. The region of both is read off the normal forms of
the verdicts; pieces then run side by side, and once all borders are known, in full.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from seqdsl.analysis.analyze import own_verdicts
from seqdsl.ir import build
from seqdsl.ir import nodes as ir
from seqdsl.ir.names import fresh, names_of
from seqdsl.ir.sizes import Lit
from seqdsl.ir.types import BATCH, TIME
from seqdsl.ir.walk import references
from seqdsl.schedule.forms import DiagonalScan
from seqdsl.schedule.region import Region
from seqdsl.schedule.scans import PLUS, scan_of

TIMES: Mapping[str, str] = {
    "real": "mul",
    "log": "add",
    "max_plus": "add",
    "min_plus": "add",
}
"""The product of a semiring as a pointwise operator."""

ZERO: Mapping[str, float] = {
    "real": 0.0,
    "log": float("-inf"),
    "max_plus": float("-inf"),
    "min_plus": float("inf"),
}


@dataclass(frozen=True)
class Piece:
    """`region` computes what a piece adds to each state, under the state's name, and how
    much it keeps of it, under the name in `kept`; `semirings` says how they combine.

    `sums` are states that nothing reads but what they end as: pieces add up to them."""

    region: Region
    kept: Mapping[str, str]
    semirings: Mapping[str, str]
    sums: tuple[str, ...]


def piece_of(region: Region) -> Piece | None:
    """What a piece of `region` does to states; None where their updates do not tell."""
    if region.replay or region.still or region.lags:
        return None
    forms = _forms(region)
    if forms is None:
        return None
    model, offset = region.model, -1 if region.direction == "forward" else 1
    sums = tuple(s for s, f in forms.items() if _is_sum(model, f))
    forms = {s: f for s, f in forms.items() if s not in sums}
    needed = _needed(model, forms.values())
    if not forms or needed & set(region.states):
        return None
    taken = names_of(model) | {s.name for s in model.states}
    kept = {s: fresh(f"{s}_kept", taken) for s in forms}
    equations = [e for e in model.equations if e.name in needed]
    states: list[ir.State] = []
    for name, form in forms.items():
        state = model.state[name]
        for own, added in ((name, form.offset), (kept[name], None)):
            equations.append(_update(own, state, form, added, offset))
            states.append(_named(state, own))
    reads = {r for e in equations for r in _names(e.expr)}
    first = [
        ir.Input(name=f"{s.name}_0", type=replace(s.type, axes=frozenset([BATCH])))
        for s in states
    ]
    starts = {f"{s.name}_0" for s in model.states}
    inputs = [i for i in model.inputs if i.name in reads - starts]
    body = replace(
        model,
        name=f"{model.name}_piece",
        inputs=(*inputs, *first),
        equations=tuple(equations),
        states=tuple(states),
        outputs=(),
    )
    made = replace(
        region,
        name=body.name,
        model=body,
        states=tuple(s.name for s in states),
        steps=tuple(e.name for e in equations),
        reads=(),
    )
    return Piece(made, kept, {s: f.semiring for s, f in forms.items()}, sums)


def _is_sum(model: ir.Model, form: DiagonalScan) -> bool:
    """Whether a state adds up what others compute, and nothing reads it on the way."""
    kept = form.coefficient
    if isinstance(kept, ir.Const) and kept.value == Lit(1.0):
        kept = None
    if form.semiring != "real" or kept is not None:
        return False
    others = [e.expr for e in model.equations if e.name != form.state]
    exprs = (*others, *(o.expr for o in model.outputs))
    return all(form.state not in _names(e) for e in exprs)


def _forms(region: Region) -> dict[str, DiagonalScan] | None:
    """The scan of every state; None where one has another form."""
    found: dict[str, DiagonalScan] = {}
    for verdict in own_verdicts(region.model):
        if not set(verdict.recurrence.states) & set(region.states):
            continue  # an input that is read at the step before
        form = (
            scan_of(region.model, verdict) if verdict.recurrence.axis == TIME else None
        )
        if not isinstance(form, DiagonalScan) or form.semiring not in TIMES:
            return None
        found[form.state] = form
    states = [region.model.state[s] for s in region.states]
    floats = all(s.type.dtype == "float" for s in states)
    return found if floats and set(found) == set(region.states) else None


def _names(node: ir.Node) -> Iterator[str]:
    return (r.name for r in references(node) if isinstance(r, ir.Ref))


def _needed(model: ir.Model, forms: Iterable[DiagonalScan]) -> set[str]:
    """Names of all equations that coefficients and offsets are computed from."""
    left: list[str] = []
    for form in forms:
        for node in (form.coefficient, form.offset):
            left += [] if node is None else _names(node)
    found: set[str] = set()
    while left:
        name = left.pop()
        if name in model.equation and name not in found:
            found.add(name)
            left += _names(model.equation[name].expr)
    return found


def _update(
    name: str, like: ir.State, form: DiagonalScan, added: ir.Node | None, offset: int
) -> ir.Equation:
    """One step of what is kept, or of what is added."""
    before = build.shift(build.ref(name, like.type), TIME, offset)
    value: ir.Node = before
    if form.coefficient is not None:
        value = build.map_(TIMES[form.semiring], form.coefficient, before)
    if added is not None:
        value = build.map_(PLUS[form.semiring], value, added)
    return ir.Equation(name=name, expr=value)


def _named(state: ir.State, name: str) -> ir.State:
    type_ = replace(state.type, axes=frozenset([BATCH]))
    return replace(state, name=name, initial=build.ref(f"{name}_0", type_))
