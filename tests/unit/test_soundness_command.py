"""The soundness command: a fixed number of recurrences, and what they reach."""

from __future__ import annotations

import subprocess
import sys

import pytest

from seqdsl.analysis import tropical
from seqdsl.testing.soundness import check


def test_no_verdict_is_wrong_and_everything_is_reached() -> None:
    report = check(1800, seed=4)
    assert report.wrong == []
    assert report.refused < report.examples / 20
    assert "never met:  nothing" in report.text()


def test_the_same_seed_makes_the_same_recurrences() -> None:
    assert check(12, seed=5) == check(12, seed=5)
    assert check(12, seed=5) != check(12, seed=6)


def test_a_wrong_rule_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tropical.PLUS, "max_plus", "min")
    report = check(240, seed=0)
    assert report.wrong and any("max" in text or "min" in text for text in report.wrong)


def test_the_command_prints_what_it_reached() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "seqdsl.testing.soundness", "--examples", "30"],
        capture_output=True,
        text=True,
        check=True,
    )
    first, *_, last = run.stdout.splitlines()
    assert first.startswith("30 recurrences") and last == "0 wrong"
