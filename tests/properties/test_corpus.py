"""Every layer of the corpus and of the standard library has every property."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from seqdsl.elaborate import load_file
from seqdsl.testing.check import check_subject
from seqdsl.testing.corpus import passing_specs
from seqdsl.testing.layers import subjects

ROOT = Path(__file__).parents[2]
FOLDERS = (ROOT / "tests" / "language" / "ok", ROOT / "stdlib")


@dataclass(frozen=True)
class Place:
    """A layer of a file."""

    path: Path
    layer: str


PLACES = tuple(
    Place(path, layer)
    for folder in FOLDERS
    for path in passing_specs(folder)
    for layer in load_file(path).layers
)


def _name(place: Place) -> str:
    return f"{place.path.stem}:{place.layer}"


def _check(place: Place, examples: int, options: int) -> None:
    program, failures = load_file(place.path), list[str]()
    for subject in subjects(program, place.layer, count=options):
        for outcome in check_subject(subject, examples=examples):
            if outcome.failure is not None:
                failures.append(str(outcome.failure))
            assert "it is not compiled" not in (outcome.excuse or ""), outcome.excuse
    assert not failures, "\n\n".join(failures)


@pytest.mark.parametrize("place", PLACES, ids=_name)
def test_properties(place: Place) -> None:
    _check(place, examples=2, options=1)


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES, ids=_name)
def test_properties_at_length(place: Place) -> None:
    _check(place, examples=100, options=4)
