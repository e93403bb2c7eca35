"""Planted bugs in scans are found; `scan_mutants.py` tries all of them."""

from __future__ import annotations

import pytest
from scan_mutants import CHECKS, Mutant, mutants, program, run, survives


# torch's own: it compiles something when jvp is first used
@pytest.mark.filterwarnings("ignore")
def test_without_a_mistake_nothing_is_found() -> None:
    assert len(CHECKS) == 7
    assert survives(Mutant("nothing", program()))


def test_there_are_many_places_for_a_mistake() -> None:
    assert sum(1 for _ in mutants()) >= 150


@pytest.mark.filterwarnings("ignore")
def test_planted_bugs_are_found() -> None:
    count, left = run(every=11)
    assert count >= 15
    assert 20 * len(left) <= count, left


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_all_planted_bugs_are_found() -> None:
    count, left = run()
    assert 20 * len(left) <= count, left
