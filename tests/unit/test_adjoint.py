"""Adjoints as a reader sees them, what the analysis says of them, and that they are right.

Run with `UPDATE_GOLDEN=1` to write the files in `tests/golden/adjoint` anew.
"""

from __future__ import annotations

import doctest
import os
from pathlib import Path

import pytest

from seqdsl.analysis import analyze
from seqdsl.analysis.verdict import Verdict
from seqdsl.differentiate import adjoint as module
from seqdsl.differentiate.adjoint import Adjoint, adjoint
from seqdsl.differentiate.text import adjoint_text
from seqdsl.elaborate import elaborate, elaborate_text, load_std

GOLDEN = Path(__file__).parents[1] / "golden" / "adjoint"
NAMES = ("mingru", "gru", "gla", "gated_deltanet")


def of_std(name: str) -> Adjoint:
    """The adjoint of `file`'s last layer, or of `file:Layer`."""
    file, _, layer = name.partition(":")
    program = load_std(file)
    return adjoint(elaborate(program, layer or list(program.layers)[-1]).model)


def verdict(found: Adjoint, state: str) -> Verdict:
    verdicts = analyze(found.backward).verdicts
    return next(v for v in verdicts if state in v.recurrence.states)


@pytest.mark.parametrize("name", NAMES)
def test_text(name: str) -> None:
    text = adjoint_text(of_std(name))
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_the_example_of_the_docstring() -> None:
    assert doctest.testmod(module).attempted > 0
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize(
    ("name", "state", "structure"),
    [
        ("mingru", "d_h_prev", "diagonal"),
        ("gru", "d_h_prev", "dense"),
        ("lstm", "d_c_prev", "dense"),
        ("gla", "d_S_prev", "diagonal"),
        ("retnet", "d_S_prev", "scalar"),
        ("deltanet", "d_S_prev", "scalar_plus_low_rank"),
        ("gated_deltanet", "d_S_prev", "scalar_plus_low_rank"),
        ("rwkv7:RWKV7", "d_S_prev", "diagonal_plus_low_rank"),
    ],
)
def test_the_adjoint_of_a_recurrence_is_one_that_scans_backward(
    name: str, state: str, structure: str
) -> None:
    found = verdict(of_std(name), state)
    assert found.recurrence.direction == "backward"
    assert (found.verdict, found.structure) == ("scannable", structure)
    assert found.semiring == "real"


def test_what_is_kept_follows_the_cost_rule() -> None:
    found = of_std("gla").kept
    assert found.borders == ("S",)
    assert {"k", "v", "q", "log_alpha_in"} <= set(found.saved)
    assert "log_alpha_logsigmoid" in found.recomputed
    assert of_std("gru").kept.borders == ()
    assert "h" in of_std("gru").kept.saved


def test_gradients_are_only_of_what_is_asked_for() -> None:
    text = """
layer L(D):
    input x: [D]
    input y: [D]
    param a: [D] = 0.5
    state h: [D] = 0
    h = a * h[t-1] + x * y
    output h
"""
    found = adjoint(elaborate_text(text), wrt=["x"])
    assert found.gradients == {"x": "d_x"}
    assert {"a", "y"} == {*found.backward.param, *found.backward.input} - {
        "g_h",
        "g_h_last",
    }
