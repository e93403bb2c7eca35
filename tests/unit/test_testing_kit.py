"""The property kit finds planted mistakes, and each property finds its own."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from planted import MUTANTS, Broken
from torch import nn

from seqdsl.elaborate import elaborate_text
from seqdsl.testing.cases import Case, parse_case
from seqdsl.testing.check import check_property, chosen
from seqdsl.testing.layers import compiled, subject
from seqdsl.testing.properties import PROPERTIES
from seqdsl.testing.subject import Subject

BASE = """
layer Base(D = 2):
    input x: [D]
    state h: [D] = 0.3
    state c: [D] = param
    k = conv(x, width = 3)
    g = sigmoid(linear(x, D))
    h = g * h[t-1] + 0.5 * x[t-1] + k
    c = tanh(linear(c[t-1], D) - h) * cos(0.1 * t)
    past = mean[s <= t](tanh(x[s]))
    output c + h + past
"""

AHEAD = """
layer Ahead(D = 2):
    input x: [D]
    state h: [D] = 0
    h = 0.5 * h[t+1] + x
    output h
"""

# What the module computes in place of the spec; the reference keeps the spec.
WRONG_SPECS = {
    "a sign": ("0.5 * x[t-1]", "-0.5 * x[t-1]"),
    "a missing decay": ("g * h[t-1]", "h[t-1]"),
    "a wrong shift": ("x[t-1]", "x[t-2]"),
    "a state read after its update": (
        "linear(c[t-1], D) - h)",
        "linear(c[t-1], D) - h[t-1])",
    ),
    "another initial value": ("= 0.3", "= 0"),
    "a convolution that looks at other steps": (
        "width = 3)",
        "width = 3, dilation = 2)",
    ),
    "a position that starts at one": ("cos(0.1 * t)", "cos(0.1 * (t + 1))"),
    "a mask that hides the present": ("s <= t", "s <= t and (s < t or t == 0)"),
    "a gate the wrong way round": ("g = sigmoid", "g = 1 - sigmoid"),
    "a mean that is a sum": ("mean[s", "sum[s"),
}


def made(text: str = BASE) -> Subject:
    """The layer as compiled."""
    return subject(elaborate_text(text), text=text)


def test_nothing_is_found_in_a_correct_layer() -> None:
    for text in (BASE, AHEAD):
        for row in PROPERTIES:
            outcome = check_property(row, made(text), examples=6)
            assert outcome.failure is None, str(outcome.failure)


@pytest.mark.parametrize("name", WRONG_SPECS)
def test_a_wrong_module_is_found(name: str) -> None:
    old, new = WRONG_SPECS[name]
    assert old in BASE
    other = elaborate_text(BASE.replace(old, new))
    wrong = replace(made(), make=lambda: compiled(other, {}, {}))
    (row,) = chosen(["forward_equals_reference"])
    failure = check_property(row, wrong, examples=20).failure
    assert failure is not None
    assert "differs" in failure.reason


def _planted(plant: Broken) -> Subject:
    def make() -> nn.Module:
        module = compiled(elaborate_text(BASE), {}, {})
        plant(module)
        return module

    return replace(made(), make=make)


@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_mistake_is_found(name: str) -> None:
    mutant = MUTANTS[name]
    for row in chosen(mutant.killers):
        wrong = _planted(mutant.plant)
        outcome = check_property(row, wrong, examples=30)
        assert outcome.failure is not None, row.name


def test_every_property_finds_some_mistake() -> None:
    killers = {name for mutant in MUTANTS.values() for name in mutant.killers}
    assert killers == {row.name for row in PROPERTIES}


# ---- Reports


def test_a_failure_is_small_and_says_how_to_run_it_again() -> None:
    wrong = _planted(MUTANTS["rows that mix"].plant)
    (row,) = chosen(["rows_are_independent"])
    failure = check_property(row, wrong, examples=30).failure
    assert failure is not None
    assert (failure.case.batch, failure.case.time) == (2, 1)
    assert "--property rows_are_independent --case" in failure.command
    again = check_property(row, wrong, case=parse_case(str(failure.case)))
    assert again.failure is not None and again.failure.reason == failure.reason


def test_cases_read_back() -> None:
    case = Case(3, 2, 5, (0, 4, 1), ((5,), (2, 3)), "steps")
    assert parse_case(str(case)) == case
    wanted = torch.tensor([[0] * 5, [0, 0, 1, 1, 1]])
    assert torch.equal(case.segments(), wanted)
    for text in ("seed=x", "color=1", "values=huge"):
        with pytest.raises(ValueError):
            parse_case(text)


def test_a_layer_that_looks_ahead_is_excused_from_streaming() -> None:
    (row,) = chosen(["pieces_equal_whole"])
    assert check_property(row, made(AHEAD)).excuse is not None
