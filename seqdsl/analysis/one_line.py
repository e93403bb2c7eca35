"""A verdict on one line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from seqdsl.analysis.verdict import Structure, Verdict
from seqdsl.ir import nodes as ir

_STRUCTURES: Mapping[Structure, str] = {
    "identity": "identity",
    "scalar": "scalar",
    "diagonal": "diagonal",
    "low_rank": "low rank",
    "scalar_plus_low_rank": "scalar plus low rank",
    "diagonal_plus_low_rank": "diagonal plus low rank",
    "dense": "dense",
    "monoid": "monoid",
}


def one_line(verdict: Verdict) -> str:
    """`h over t: scannable, diagonal (real), data-dependent: loop, scan`."""
    recurrence = verdict.recurrence
    where = f"{', '.join(recurrence.states)} over {recurrence.axis}"
    if recurrence.layer:
        where = f"{recurrence.layer}: {where}"
    if recurrence.direction == "backward":
        where += " (backward)"
    facts = [verdict.verdict if verdict.verdict != "fir" else "finite lag (fir)"]
    if verdict.structure is not None:
        facts.append(_structure(verdict))
    if verdict.verdict == "scannable" and verdict.structure != "monoid":
        facts.append("time-invariant" if verdict.invariant else "data-dependent")
    if verdict.commutes:
        facts.append("steps commute")
    facts.extend(_other_ways(verdict))
    if verdict.reasons:
        facts.append(verdict.reasons[0].message)
    ways = ", ".join(verdict.strategies)
    return f"{where}: {', '.join(facts)}" + (f": {ways}" if ways else "")


def _other_ways(verdict: Verdict) -> Iterator[str]:
    if verdict.per_chunk is not None:
        size = verdict.per_chunk.size
        chunk = "chunk" if size is None else f"chunk of {size}"
        kinds = dict.fromkeys(_kind(v) for v in verdict.per_chunk.verdicts)
        yield f"a scan per {chunk}: {'; '.join(kinds) or 'nothing is carried'}"
    if verdict.forced:
        yield f"parallel when {verdict.forced[0].condition}"
    if verdict.wavefront is not None:
        words = (
            "speculative wavefront" if verdict.wavefront.speculative else "wavefront"
        )
        yield f"{words} over {' and '.join(verdict.wavefront.axes)}"


def _kind(verdict: Verdict) -> str:
    return verdict.verdict if verdict.structure is None else _structure(verdict)


def _structure(verdict: Verdict) -> str:
    assert verdict.structure is not None
    text = _STRUCTURES[verdict.structure]
    if verdict.rank is not None:
        text += f" {verdict.rank}"
    elif verdict.rank_size is not None:
        text += f" {verdict.rank_size}"
    if isinstance(verdict.monoid, ir.Monoid):
        return f"{text} {verdict.monoid.name}"
    if verdict.monoid is not None:
        return f"{text} of {verdict.monoid}s"
    field_ = "complex" if verdict.complex else verdict.semiring
    return f"{text} ({str(field_).replace('_', '-')})"
