"""A model to the verdicts about its recurrences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from seqdsl.analysis.commuting import with_commutes
from seqdsl.analysis.coordinates import in_parts
from seqdsl.analysis.graph import Edge, circles, closed, edges_of
from seqdsl.analysis.impossible import impossible, is_plain, names_of, span_of
from seqdsl.analysis.lags import lags, remembered
from seqdsl.analysis.loops import through_repeat
from seqdsl.analysis.modes import (
    forced,
    held_states,
    per_chunk,
    runs_per_chunk,
    wavefront,
)
from seqdsl.analysis.normal import Normal
from seqdsl.analysis.offset import offset
from seqdsl.analysis.refuse import nonlinear, sequential
from seqdsl.analysis.semiring import semiring_verdict
from seqdsl.analysis.sides import known_rank
from seqdsl.analysis.structure import Found, affine_of, structure_of
from seqdsl.analysis.terms import TooLong
from seqdsl.analysis.verdict import (
    Analyzed,
    Parted,
    Recurrence,
    Strategy,
    Verdict,
)
from seqdsl.diagnostics import Diagnostic
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import TIME
from seqdsl.rewrite.expand_grad import expand_grad
from seqdsl.rewrite.inline import inline_calls


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
    verdicts = list(own_verdicts(model))
    inner: dict[str, ir.Model] = {}
    for instance in model.instances:
        found = known.get(id(instance.model))
        if found is None:
            found = known[id(instance.model)] = _analyze(instance.model, known)
        verdicts.extend(_inside(instance, found))
        inner[instance.name] = found.model
        inner |= {f"{instance.name}.{k}": m for k, m in found.inner.items()}
    return Analyzed(model, tuple(verdicts), inner)


def own_verdicts(model: ir.Model) -> tuple[Verdict, ...]:
    """The verdicts of a layer without those of its sub-layers.

    In `model` gradients are written out and calls inlined that a recurrence goes through.
    """
    edges = edges_of(model)
    around = {name: inside for members, inside in closed(edges) for name in members}
    verdicts: list[Verdict] = []
    for axis in (TIME, *(r.axis for r in model.repeats)):
        claimed, refused = _declared(model, edges, axis)
        verdicts += claimed
        known_states = {s for v in claimed for s in v.recurrence.states}
        for recurrence, inside in circles(model, edges, axis):
            if known_states.issuperset(recurrence.states):
                continue
            verdict = _verdict_of(model, recurrence, inside)
            verdict = _with_modes(model, around, verdict, inside)
            verdicts.append(remembered(_with(model, verdict, refused), edges))
        verdicts = [*lags(model, edges, axis, verdicts), *verdicts]
    order = {e.name: i for i, e in enumerate(model.equations)}
    verdicts.sort(key=lambda v: min(order.get(s, -1) for s in v.recurrence.states))
    return with_commutes(model, edges, verdicts)


def _with_modes(
    model: ir.Model,
    around: Mapping[str, tuple[Edge, ...]],
    verdict: Verdict,
    inside: tuple[Edge, ...],
) -> Verdict:
    """What is no plain scan, with what else may be done with it."""
    recurrence, axis = verdict.recurrence, verdict.recurrence.axis
    costly = verdict.structure in ("dense", "low_rank") or verdict.rank_size is not None
    sequential = verdict.verdict == "sequential"
    if not sequential and not costly:
        return verdict
    args = (model, recurrence, inside, _verdict_of)
    chunks = per_chunk(*args) if axis == TIME else None
    strategies = verdict.strategies
    if sequential and chunks is not None and runs_per_chunk(verdict, chunks, inside):
        strategies = (strategies[0], "chunk", *strategies[1:])
    return replace(
        verdict,
        strategies=strategies,
        per_chunk=chunks,
        forced=forced(*args) if sequential and axis == TIME else (),
        wavefront=wavefront(model, around.get(recurrence.states[0], ()), recurrence)
        if sequential
        else None,
    )


def _declared(
    model: ir.Model, edges: tuple[Edge, ...], axis: str
) -> tuple[list[Verdict], list[ir.Monoid]]:
    """Verdicts by declared monoids, and those monoids whose steps read the state."""
    found: list[Verdict] = []
    refused: list[ir.Monoid] = []
    if not model.monoids:
        return found, refused
    # Trying laws takes modules that few specs need.
    from seqdsl.analysis.declared import declared_verdict

    for monoid in model.monoids:
        if monoid.axis == axis:
            verdict = declared_verdict(model, monoid, edges)
            if verdict is None or impossible(model, verdict.recurrence, ()):
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
    span = span_of(model, own[0].states)
    text = f"what the step of `{own[0].name}` is depends on {names_of(own[0].states)}"
    reason = Diagnostic("E0320", text, span, help=(_STATE_FREE,))
    return replace(verdict, reasons=(reason, *verdict.reasons))


_STATE_FREE = "make the fields of the step of values that do not read the states"


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
        problem = Diagnostic("E0314", text, span_of(model, recurrence.states))
        return sequential(recurrence, (problem,), ())


def _verdict(
    model: ir.Model, recurrence: Recurrence, inside: tuple[Edge, ...]
) -> Verdict:
    states = recurrence.states
    problem = impossible(model, recurrence, inside)
    if problem is None or problem.code == "E0308":
        found = _opened(model, recurrence)
        if found is not None:
            return found
    if problem is not None:
        return sequential(recurrence, (problem,), ())
    held = held_states(model, recurrence, inside)
    # What is not linear in a held state is not linear in what it was made of.
    atoms = _normal(model, recurrence, inside, held)
    if held and _has_bad(atoms, states):
        return nonlinear(recurrence, inside, atoms)
    normal = _normal(model, recurrence, inside)
    bools = any(model.equation[s].expr.type.dtype == "bool" for s in states)
    if not bools and not _has_bad(normal, states):
        return _seen_in_parts(model, inside, _affine(normal, recurrence))
    found = semiring_verdict(normal, recurrence)
    if found is None:
        found = through_repeat(model, recurrence, inside)
    return found if found is not None else nonlinear(recurrence, inside, normal)


def _opened(model: ir.Model, recurrence: Recurrence) -> Verdict | None:
    """The verdict if all layers that a recurrence over depth goes through are affine."""
    calls = {m for m in recurrence.members if m in model.call}
    if not calls or not all(
        is_plain(model.instance[model.call[c].instance].model) for c in calls
    ):
        return None
    opened = model
    while calls:
        opened = inline_calls(opened, calls)
        found = list(circles(opened, edges_of(opened), recurrence.axis))
        calls = {n for r, _ in found for n in r.members if n in opened.call}
    for inner, inside in circles(opened, edges_of(opened), recurrence.axis):
        if inner.states == recurrence.states:
            verdict = _verdict_of(opened, inner, inside)
            if verdict.verdict == "scannable":
                # Its normal form speaks of values that are inside the layers.
                ways: tuple[Strategy, ...] = ("loop",)
                short = replace(verdict, recurrence=recurrence, strategies=ways)
                return replace(short, updates=(), leaf=(), dims={})
    return None


def _normal(
    model: ir.Model,
    recurrence: Recurrence,
    inside: tuple[Edge, ...],
    current: Iterable[str] = (),
) -> Normal:
    axis, members = recurrence.axis, recurrence.members
    return Normal(model, axis, members, inside, current=current)


def _has_bad(normal: Normal, states: Iterable[str]) -> bool:
    return any(normal.bad(normal.value(s)) for s in states)


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
    dtypes = {model.equation[s].expr.type.dtype for s in states}
    return Verdict(
        recurrence,
        "scannable",
        structure=found.structure,
        rank=known_rank(found.rank),
        rank_size=found.rank,
        semiring="real",
        invariant=found.invariant,
        complex="complex" in dtypes,
        strategies=_strategies(recurrence, found, exact="int" in dtypes),
        updates=updates,
        dims=dict(normal.dims.added),
    )


def _seen_in_parts(
    model: ir.Model, inside: tuple[Edge, ...], verdict: Verdict
) -> Verdict:
    """The structure with dims of states split, where the step reads them split."""
    found = in_parts(model, verdict.recurrence)
    if found is None or verdict.verdict != "scannable":
        return verdict
    other, splits = found
    normal = _normal(other, verdict.recurrence, inside)
    if _has_bad(normal, verdict.recurrence.states):
        return verdict
    seen = _affine(normal, verdict.recurrence)
    finer = verdict.structure == "dense" or seen.structure == "diagonal"
    if seen.structure in (None, "dense", verdict.structure) or not finer:
        return verdict
    return replace(
        verdict,
        structure=seen.structure,
        rank=seen.rank,
        rank_size=seen.rank_size,
        strategies=seen.strategies,
        parted=Parted(other, seen, splits),
    )


def _strategies(
    recurrence: Recurrence, found: Found, exact: bool
) -> tuple[Strategy, ...]:
    if recurrence.axis != TIME or found.structure == "dense":
        return ("loop", "scan")
    if found.rank is not None:
        return ("loop", "chunk", "scan")
    if found.invariant and not exact:  # a Fourier transform of ints would round
        return ("loop", "scan", "chunk", "convolve")
    return ("loop", "scan", "chunk")
