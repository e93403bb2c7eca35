"""The adjoint and the tangent of every layer are what autograd makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from seqdsl.diagnostics import CallError, UnsupportedError
from seqdsl.differentiate.adjoint import adjoint
from seqdsl.elaborate import load_file
from seqdsl.testing.cases import Case
from seqdsl.testing.corpus import passing_specs
from seqdsl.testing.fuzz import fuzz
from seqdsl.testing.layers import subjects
from seqdsl.testing.properties.adjoints import (
    Compiled,
    adjoint_equals_autograd,
    tangent_equals_autograd,
)
from seqdsl.testing.properties.excuses import packs
from seqdsl.testing.subject import Subject

ROOT = Path(__file__).parents[2]
FOLDERS = (ROOT / "tests" / "language" / "ok", ROOT / "stdlib")
PLAIN = Case(seed=1, batch=1, time=3)
PACKED = Case(seed=2, batch=1, time=3, runs=((1, 2),))
LONGER = (
    Case(seed=3, batch=2, time=6),
    Case(seed=4, batch=3, time=5, runs=((2, 3), (5,), (1, 1, 3))),
    Case(seed=5, batch=2, time=4, values="steps"),
    Case(seed=6, batch=2, time=1),
)

EMPTY = Case(seed=7, batch=2, time=0)

A_STEP = frozenset(
    {
        "attention_running:Whole",
        "axes_backward:Bidirectional",
        "axes_time:Average",
        "forecaster:Forecaster",
        "hmm:HMM",
        "language_reductions:OfTheLast",
        "state_before_the_start:Average",
    }
)
"""Layers that read the first or the last step, so that there must be one."""

WITHOUT = {
    "extern_call:Controlled": "extern op `simulator`",
    "language_calls_nested:ExternCopy": "extern op `blend`",
    "language_calls_nested:Externs": "extern op `blend`",
}
"""Layers that have no adjoint: nothing says what the derivative of an extern op is."""

DRAWN = frozenset(
    {"state_noise:NoisyState", "training_modes:Dropped", "hmm_rnn:Emitter"}
)
"""Layers that draw new numbers in every call; `test_adjoint_runs.py` gives them a seed."""


@dataclass(frozen=True)
class Place:
    """A layer of a file."""

    path: Path
    layer: str

    def __str__(self) -> str:
        return f"{self.path.stem}:{self.layer}"


PLACES = tuple(
    Place(path, layer)
    for folder in FOLDERS
    for path in passing_specs(folder)
    for layer in load_file(path).layers
)
RUN = [p for p in PLACES if str(p) not in DRAWN]
SMOOTH = [p for p in RUN if str(p) not in WITHOUT]


def ways(subject: Subject) -> tuple[Case, ...]:
    return (PLAIN,) if packs(subject) is not None else (PLAIN, PACKED)


@pytest.mark.parametrize(
    "place", [p for i, p in enumerate(RUN) if i % 3 == 0 or str(p) in WITHOUT], ids=str
)
def test_adjoint_equals_autograd(place: Place) -> None:
    """All others have it as one of the properties of `test_corpus.py`."""
    for subject in subjects(load_file(place.path), place.layer):
        if str(place) in WITHOUT:
            with pytest.raises(UnsupportedError, match=WITHOUT[str(place)]):
                adjoint(subject.model)
            continue
        for case in ways(subject):
            adjoint_equals_autograd(subject, case)


def _in_torch(place: Place) -> None:
    for subject in subjects(load_file(place.path), place.layer):
        for case in ways(subject):
            adjoint_equals_autograd(subject, case, Compiled)


@pytest.mark.parametrize("place", SMOOTH[::5], ids=str)
def test_the_torch_backend_runs_adjoints(place: Place) -> None:
    _in_torch(place)


@pytest.mark.slow
@pytest.mark.parametrize("place", SMOOTH, ids=str)
def test_the_torch_backend_runs_every_adjoint(place: Place) -> None:
    _in_torch(place)


@pytest.mark.parametrize("place", SMOOTH[::8], ids=str)
def test_sequences_without_steps(place: Place) -> None:
    _without_steps(place)


@pytest.mark.slow
@pytest.mark.parametrize("place", SMOOTH, ids=str)
def test_every_layer_without_steps(place: Place) -> None:
    _without_steps(place)


def _without_steps(place: Place) -> None:
    for subject in subjects(load_file(place.path), place.layer):
        if str(place) in A_STEP:
            with pytest.raises(CallError, match="at least one step"):
                adjoint_equals_autograd(subject, EMPTY)
        else:
            adjoint_equals_autograd(subject, EMPTY)


@pytest.mark.parametrize("place", SMOOTH[::6], ids=str)
def test_tangent_equals_autograd(place: Place) -> None:
    for subject in subjects(load_file(place.path), place.layer):
        tangent_equals_autograd(subject, PLAIN)


def test_random_specs() -> None:
    assert fuzz(30, 7, ["adjoint_equals_autograd"]) is None


@pytest.mark.slow
@pytest.mark.parametrize("place", SMOOTH, ids=str)
def test_more_cases(place: Place) -> None:
    for subject in subjects(load_file(place.path), place.layer, count=2):
        for case in LONGER:
            adjoint_equals_autograd(subject, case)
        tangent_equals_autograd(subject, LONGER[0])


@pytest.mark.slow
@pytest.mark.parametrize("start", range(10))
def test_many_random_specs(start: int) -> None:
    assert fuzz(300, 2000 + start, ["adjoint_equals_autograd"]) is None
