"""The adjoint and the tangent of every layer are what autograd makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from seqdsl.diagnostics import UnsupportedError
from seqdsl.differentiate.adjoint import adjoint
from seqdsl.elaborate import load_file
from seqdsl.testing.cases import Case
from seqdsl.testing.corpus import passing_specs
from seqdsl.testing.fuzz import fuzz
from seqdsl.testing.layers import subjects
from seqdsl.testing.properties.adjoints import (
    adjoint_equals_autograd,
    tangent_equals_autograd,
)
from seqdsl.testing.properties.excuses import packs

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

WITHOUT = {
    "attention_in_recurrence:SelfRead": "reads a copy of `made`",
    "attention_in_recurrence:SelfAttention": "reads a copy of `made`",
    "attention_running:CumMax": "through this `cummax`",
    "attention_running:PastStates": "reads a copy of `h`",
    "extern_call:Controlled": "extern op `simulator`",
    "language_calls_nested:AroundAttention": "reads a copy of `att_call_x`",
    "language_calls_nested:ExternCopy": "extern op `blend`",
    "language_calls_nested:Externs": "extern op `blend`",
    "titans_blocks:MAC": "reads a copy of `kh`",
}
"""Layers that have no adjoint, with why; all others have one."""

COMPILED = frozenset({"path:PaTH"})
"""Layers that there is no module of."""

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
RUN = [p for p in PLACES if str(p) not in {*COMPILED, *DRAWN}]
SMOOTH = [p for p in RUN if str(p) not in WITHOUT]


OPEN = {"sparse_attention:Linformer"}
"""Layers whose packed gradients are known to be wrong; see the test that says so."""


@pytest.mark.xfail(strict=True, reason="sums over a segment of rows of a table by t")
@pytest.mark.parametrize("place", [p for p in RUN if str(p) in OPEN], ids=str)
def test_packed_gradients_that_are_open(place: Place) -> None:
    subject = next(subjects(load_file(place.path), place.layer, count=1))
    adjoint_equals_autograd(subject, PACKED)


def _name(number: int) -> str:
    return str(RUN[number])


@pytest.mark.parametrize("number", range(len(RUN)), ids=_name)
def test_adjoint_equals_autograd(number: int) -> None:
    place = RUN[number]
    for subject in subjects(load_file(place.path), place.layer):
        if str(place) in WITHOUT:
            with pytest.raises(UnsupportedError, match=WITHOUT[str(place)]):
                adjoint(subject.model)
        else:
            packed = number % 2 and packs(subject) is None and str(place) not in OPEN
            adjoint_equals_autograd(subject, PACKED if packed else PLAIN)


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
