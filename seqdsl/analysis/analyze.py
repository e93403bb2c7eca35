"""A model to the verdicts about its recurrences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from seqdsl.analysis.declared import declared_verdict
from seqdsl.analysis.graph import Edge, circles, edges_of
from seqdsl.analysis.lags import lags
from seqdsl.analysis.loops import through_repeat
from seqdsl.analysis.normal import Normal
from seqdsl.analysis.offset import offset
from seqdsl.analysis.reasons import explain
from seqdsl.analysis.remedies import Attempts, remedies
from seqdsl.analysis.semiring import semiring_verdict
from seqdsl.analysis.sides import known_rank
from seqdsl.analysis.structure import Found, affine_of, structure_of
from seqdsl.analysis.terms import TooLong
from seqdsl.analysis.verdict import Analyzed, Recurrence, Strategy, Verdict
from seqdsl.diagnostics import Diagnostic
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import TIME
from seqdsl.rewrite.expand_grad import expand_grad
from seqdsl.rewrite.inline import inline_calls
from seqdsl.source import Span


def analyze(model: ir.Model) -> Analyzed:
    """A verdict for every recurrence of `model` and of its sub-layers, per axis.

    The model in the result has gradients written out and those calls inlined through
    which a recurrence over time goes; the verdicts speak of its names. Raises
    `SpecError` where a gradient cannot be taken.
    """
    return _analyze(model, {})


def _analyze(model: ir.Model, known: dict[int, Analyzed]) -> Analyzed:
    """`known` remembers sub-layers by identity: each is analyzed once."""
    model = _inlined(expand_grad(model))
    edges = edges_of(model)
    verdicts: list[Verdict] = []
    for axis in (TIME, *(r.axis for r in model.repeats)):
        claimed, refused = _declared(model, edges, axis)
        verdicts += claimed
        known_states = {s for v in claimed for s in v.recurrence.states}
        for recurrence, inside in circles(model, edges, axis):
            if known_states.issuperset(recurrence.states):
                continue
            verdict = _verdict_of(model, recurrence, inside)
            verdicts.append(_remembered(_with(model, verdict, refused), edges))
        verdicts = [*lags(model, edges, axis, verdicts), *verdicts]
    order = {e.name: i for i, e in enumerate(model.equations)}
    verdicts.sort(key=lambda v: min(order.get(s, -1) for s in v.recurrence.states))
    inner: dict[str, ir.Model] = {}
    for instance in model.instances:
        found = known.get(id(instance.model))
        if found is None:
            found = known[id(instance.model)] = _analyze(instance.model, known)
        verdicts.extend(_inside(instance, found))
        inner[instance.name] = found.model
        inner |= {f"{instance.name}.{k}": m for k, m in found.inner.items()}
    return Analyzed(model, tuple(verdicts), inner)


def _declared(
    model: ir.Model, edges: tuple[Edge, ...], axis: str
) -> tuple[list[Verdict], list[ir.Monoid]]:
    """Verdicts by declared monoids, and those monoids whose steps read the state."""
    found: list[Verdict] = []
    refused: list[ir.Monoid] = []
    for monoid in model.monoids:
        if monoid.axis == axis:
            verdict = declared_verdict(model, monoid, edges)
            impossible = verdict is None or _impossible(model, verdict.recurrence, ())
            if verdict is None or impossible:
                refused.append(monoid)
            else:
                found.append(verdict)
    return found, refused


def _with(model: ir.Model, verdict: Verdict, refused: Iterable[ir.Monoid]) -> Verdict:
    """A sequential verdict with the reason why a monoid's declaration does not help."""
    states = set(verdict.recurrence.states)
    own = [m for m in refused if states & set(m.states)]
    if verdict.verdict != "sequential" or not own:
        return verdict
    span = _span(model, own[0].states)
    text = f"what the step of `{own[0].name}` is depends on {_names(own[0].states)}"
    reason = Diagnostic("E0320", text, span, help=(_STATE_FREE,))
    return replace(verdict, reasons=(reason, *verdict.reasons))


_STATE_FREE = "make the fields of the step of values that do not read the states"


def _remembered(verdict: Verdict, edges: Iterable[Edge]) -> Verdict:
    """A state that forgets itself is a finite memory where others read its past."""
    recurrence = verdict.recurrence
    read = any(
        e.kind == "shift" and e.axis == recurrence.axis
        for e in edges
        if e.source in recurrence.states and e.reader not in recurrence.members
    )
    if verdict.verdict != "none" or not read:
        return verdict
    return replace(verdict, verdict="fir", strategies=("loop", "convolve"))


def _inside(instance: ir.Instance, found: Analyzed) -> Iterator[Verdict]:
    for verdict in found.verdicts:
        recurrence = verdict.recurrence
        path = ".".join(filter(None, (instance.name, recurrence.layer)))
        yield replace(verdict, recurrence=replace(recurrence, layer=path))


def _inlined(model: ir.Model) -> ir.Model:
    """`model` without calls that a recurrence over time goes through."""
    while True:
        found = circles(model, edges_of(model), TIME)
        calls = {n for r, _ in found for n in r.members if n in model.call}
        if not calls:
            return model
        model = expand_grad(inline_calls(model, calls))


def _verdict_of(
    model: ir.Model, recurrence: Recurrence, inside: tuple[Edge, ...]
) -> Verdict:
    try:
        return _verdict(model, recurrence, inside)
    except (RecursionError, TooLong):
        text = "the update is too long a chain of definitions to be taken apart"
        problem = Diagnostic("E0314", text, _span(model, recurrence.states))
        return _sequential(recurrence, (problem,), ())


def _verdict(
    model: ir.Model, recurrence: Recurrence, inside: tuple[Edge, ...]
) -> Verdict:
    states = recurrence.states
    normal = Normal(model, recurrence.axis, recurrence.members, inside)
    if problem := _impossible(model, recurrence, inside):
        return _sequential(recurrence, (problem,), ())
    polys = {s: normal.value(s) for s in states}
    bools = any(model.equation[s].expr.type.dtype == "bool" for s in states)
    if not bools and not any(normal.bad(p) for p in polys.values()):
        return _affine(normal, recurrence)
    found = semiring_verdict(normal, recurrence)
    if found is None:
        found = through_repeat(model, recurrence, inside)
    return found if found is not None else _nonlinear(normal, recurrence, inside)


def _impossible(
    model: ir.Model, recurrence: Recurrence, inside: tuple[Edge, ...]
) -> Diagnostic | None:
    """What makes a recurrence sequential whatever its updates are."""
    axis, states = recurrence.axis, recurrence.states
    calls = [n for n in (*states, *recurrence.members) if n in model.call]
    signs = {e.offset > 0 for e in inside if e.kind == "shift" and e.axis == axis}
    if len(signs) > 1:
        text = f"{_names(states)} read both earlier and later steps of `{axis}`"
        return Diagnostic("E0310", text, _span(model, states))
    if any(s in model.call for s in states):
        layer = model.instance[model.call[calls[0]].instance].model.name
        text = f"the recurrence goes through the layer `{layer}`"
        return Diagnostic("E0308", text, model.call[calls[0]].span)
    around = {a for m in recurrence.members for a in _scope(model, m)}
    for repeat in model.repeats:
        # A step not taken keeps the value of the step before it along that axis.
        if repeat.condition is not None and repeat.axis in around:
            text = (
                f"how many steps of `{repeat.axis}` are taken is decided while it runs"
            )
            return Diagnostic("E0313", text, repeat.condition.span)
    return None


def _scope(model: ir.Model, name: str) -> tuple[str, ...]:
    found = model.equation.get(name) or model.call.get(name)
    return found.scope if found is not None else ()


def _span(model: ir.Model, states: tuple[str, ...]) -> Span | None:
    return model.equation[states[0]].span if states[0] in model.equation else None


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{n}`" for n in names)


def _affine(normal: Normal, recurrence: Recurrence) -> Verdict:
    model, states = normal.model, recurrence.states
    shapes = {s: model.equation[s].expr.type.dims for s in states}
    polys = {s: normal.linear(s) for s in states}
    found = structure_of(normal, shapes, polys)
    updates = tuple(
        affine_of(
            normal, s, shapes[s], polys[s], offset(normal, model.equation[s].expr)
        )
        for s in states
    )
    if found.structure is None:
        return Verdict(recurrence, "none", invariant=True, updates=updates)
    return Verdict(
        recurrence,
        "scannable",
        structure=found.structure,
        rank=known_rank(found.rank),
        rank_size=found.rank,
        semiring="real",
        invariant=found.invariant,
        complex=any(model.equation[s].expr.type.dtype == "complex" for s in states),
        strategies=_strategies(recurrence, found),
        updates=updates,
        dims=dict(normal.dims.added),
    )


def _strategies(recurrence: Recurrence, found: Found) -> tuple[Strategy, ...]:
    if recurrence.axis != TIME or found.structure == "dense":
        return ("loop", "scan")
    if found.rank is not None:
        return ("loop", "chunk", "scan")
    if found.invariant:
        return ("loop", "scan", "chunk", "convolve")
    return ("loop", "scan", "chunk")


def _nonlinear(
    normal: Normal, recurrence: Recurrence, inside: tuple[Edge, ...]
) -> Verdict:
    model, states = normal.model, recurrence.states

    def attempt(without: Iterable[str], frozen: Iterable[ir.Node]) -> Normal:
        members = [m for m in recurrence.members if m not in set(without)]
        return Normal(model, recurrence.axis, members, inside, frozen)

    def unread(state: str) -> list[tuple[Recurrence, Normal]]:
        edges = tuple(e for e in inside if e.source != state or e.kind == "same")
        left = circles(model, edges, recurrence.axis)
        return [(r, Normal(model, r.axis, r.members, e)) for r, e in left]

    reasons = explain(
        normal, states, remedies(Attempts(attempt, unread), normal, states)
    )
    smooth = all(model.equation[s].expr.type.dtype == "float" for s in states)
    codes = {r.code for r in reasons}
    newton = smooth and recurrence.axis == TIME and codes <= _SMOOTH
    if newton and reasons:
        first = replace(reasons[0], help=(*reasons[0].help, _NEWTON))
        reasons = (first, *reasons[1:])
    return _sequential(recurrence, reasons, ("newton",) if newton else ())


_NEWTON = "ask for `newton`, which finds all steps at once by iteration"
_SMOOTH = {"E0301", "E0302", "E0303", "E0304", "E0305"}


def _sequential(
    recurrence: Recurrence,
    reasons: tuple[Diagnostic, ...],
    more: tuple[Strategy, ...],
) -> Verdict:
    codes = {r.code for r in reasons}
    if "E0310" in codes:
        return Verdict(recurrence, "opaque", reasons=reasons)
    opaque = bool(codes) and codes <= {"E0307"}
    return Verdict(
        recurrence,
        "opaque" if opaque else "sequential",
        strategies=("loop", *more),
        reasons=reasons,
    )
