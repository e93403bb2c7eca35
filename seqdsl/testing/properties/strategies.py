"""Every way in which the recurrences of a layer may run gives the same."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from seqdsl.analysis import analyze
from seqdsl.ir.types import TIME
from seqdsl.testing.cases import Case
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
    known = vars(subject)
    if "ways" not in known:
        verdicts = analyze(subject.model).verdicts
        found = [s for v in verdicts if v.recurrence.axis == TIME for s in v.strategies]
        known["ways"] = tuple(_SPELLED.get(s, s) for s in dict.fromkeys(found))
    return known["ways"]


def one_way(subject: Subject) -> str | None:
    """The excuse of a layer that can only run in one way."""
    alone = "nothing in it can run in another way"
    return excuses.never(subject) or (None if len(ways(subject)) > 1 else alone)


def others(subject: Subject) -> Mapping[str, Subject]:
    """The layer compiled in each of its ways."""
    from seqdsl.testing.layers import compiled

    known = vars(subject)
    if "others" not in known:
        build = partial(compiled, subject.model, subject.options, subject.externs)
        known["others"] = {
            way: replace(subject, make=partial(build, strategy=way))
            for way in ways(subject)
        }
    return known["others"]


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
    for way, other in {"it is": subject, **others(subject)}.items():
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
