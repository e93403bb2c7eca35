"""What a random spec has in it: constructs, verdicts, and how they are run."""

from __future__ import annotations

from collections.abc import Iterator

from seqdsl.ir import nodes as ir
from seqdsl.ir.types import TIME
from seqdsl.schedule.choose import chosen
from seqdsl.testing.subject import Subject
from seqdsl.testing.traits import all_nodes


def met(subject: Subject) -> dict[str, frozenset[str]]:
    """Names by kind: what is in the layer at least once."""
    return {
        "constructs": frozenset(_constructs(subject)),
        "verdicts": frozenset(_verdicts(subject)),
        "runs as": frozenset(_ways(subject)),
    }


def _constructs(subject: Subject) -> Iterator[str]:
    model = subject.model
    for node in all_nodes(model):
        yield type(node).__name__
    for state in model.states:
        yield f"{state.type.dtype} state"
    for repeat in model.repeats:
        kind = "counted at run time" if isinstance(repeat.count, ir.Base) else "counted"
        yield "repeat until" if repeat.condition is not None else f"repeat {kind}"
    if model.monoids:
        yield "monoid"
    for name, holds in vars(subject.traits).items():
        if holds:
            yield name.replace("_", " ")


def _verdicts(subject: Subject) -> Iterator[str]:
    for verdict in subject.analyzed.verdicts:
        words = [verdict.verdict, verdict.structure, verdict.semiring]
        if verdict.recurrence.direction == "backward":
            words.append("backward")
        if len(verdict.recurrence.states) > 1:
            words.append("several states")
        if verdict.recurrence.axis != TIME:
            words.append("over depth")
        yield " ".join(w.replace("_", " ") for w in words if w)


def _ways(subject: Subject) -> Iterator[str]:
    found = subject.analyzed
    for verdict in found.verdicts:
        yield from (f"may {s}" for s in verdict.strategies)
        way = chosen(found.model_of(verdict), verdict)
        if way is not None:
            yield f"auto {way}"
