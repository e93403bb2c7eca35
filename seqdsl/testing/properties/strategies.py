"""Every way in which the recurrences of a layer may run gives the same."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from seqdsl.backends.torch.load import load
from seqdsl.ir.types import TIME
from seqdsl.testing.cases import Case
from seqdsl.testing.layers import artifact, compiled
from seqdsl.testing.properties import excuses
from seqdsl.testing.properties.compare import Broken
from seqdsl.testing.properties.gradients import gradients_equal_reference
from seqdsl.testing.properties.streaming import pieces_equal_whole
from seqdsl.testing.properties.values import (
    forward_equals_reference,
    segments_equal_reference,
)
from seqdsl.testing.subject import Subject

_SPELLED = {"chunk": "chunk:4"}
"""Short chunks, so that short sequences have several."""


def ways(subject: Subject) -> tuple[str, ...]:
    """The strategies that some recurrence of the layer over time has."""

    def find() -> tuple[str, ...]:
        verdicts = subject.analyzed.verdicts
        found = [s for v in verdicts if v.recurrence.axis == TIME for s in v.strategies]
        return tuple(_SPELLED.get(s, s) for s in dict.fromkeys(found))

    return subject.known.once("ways", find)


def one_way(subject: Subject) -> str | None:
    """The excuse of a layer that can only run in one way."""
    alone = "nothing in it can run in another way"
    return excuses.never(subject) or (None if len(ways(subject)) > 1 else alone)


def others(subject: Subject) -> Mapping[str, Subject]:
    """The layer as it is, and in each of its ways that make a file of their own."""

    def find() -> dict[str, Subject]:
        made: dict[type, Subject] = {type(subject.module): subject}
        for way in ways(subject):
            # the same file is the same class
            other = load(artifact(subject.model, way))
            make = partial(build, strategy=way)
            made.setdefault(other, replace(subject, make=make))
            names.setdefault(other, way)
        return {names[kind]: other for kind, other in made.items() if kind in names}

    build = partial(compiled, subject.model, subject.options, subject.externs)
    names: dict[type, str] = {type(subject.module): "it is"}
    return subject.known.once("others", find)


def strategies_agree(subject: Subject, case: Case) -> None:
    """Values are those of the language, whole and in pieces."""

    def check(other: Subject, case: Case) -> None:
        forward_equals_reference(other, case)
        if other.refusal is None:
            pieces_equal_whole(other, case)

    _each(subject, case, check)


def strategies_agree_packed(subject: Subject, case: Case) -> None:
    """Values of packed sequences are those of the language."""
    _each(subject, case, segments_equal_reference)


def strategies_agree_in_gradients(subject: Subject, case: Case) -> None:
    """Gradients of packed sequences are those of the language."""
    _each(subject, case, gradients_equal_reference)


def _each(subject: Subject, case: Case, check: Callable[[Subject, Case], None]) -> None:
    for way, other in others(subject).items():
        with warnings.catch_warnings():
            # Newton's iteration may give up, and says so
            warnings.filterwarnings("ignore", "newton did not come to rest")
            try:
                check(other, case)
            except Broken as error:
                raise Broken(f"as {way}: {error}") from None


def one_way_or_unpacked(subject: Subject) -> str | None:
    """The excuse of a layer that has one way, or does not take packed sequences."""
    return one_way(subject) or excuses.packs(subject)
