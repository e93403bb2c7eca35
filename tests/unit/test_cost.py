"""What `auto` goes by: operations to start, work, and memory, at the sizes it knows."""

from __future__ import annotations

import pytest

from seqdsl.analysis import analyze
from seqdsl.analysis.formula import number, symbol
from seqdsl.elaborate import elaborate_text
from seqdsl.ir.bind import with_defaults
from seqdsl.schedule.choose import chosen
from seqdsl.schedule.cost import ROWS, STEPS, UNKNOWN, Estimate

DENSE = """
layer L(D):
    input x: [D]
    param W: [D, D as J] = normal(0, 0.1)
    state h: [D] = 0
    h = dot[J](W, h[t-1].(D -> J)) + x
    output h
"""
PATHS = DENSE.replace(
    "dot[J](W, h[t-1].(D -> J)) + x", "max[J](W + h[t-1].(D -> J)) + x"
)
ATTENTION = """
layer L(K, V):
    input k: [K]
    input v: [V]
    state S: [K, V] = 0
    S = 0.9 * S[t-1] + k * v
    output dot[K](k, S)
"""


def pick(text: str, **sizes: int) -> str | None:
    model = with_defaults(elaborate_text(text), sizes)
    (verdict,) = analyze(model).verdicts
    return chosen(model, verdict)


@pytest.mark.parametrize(("size", "wanted"), [(2, "scan"), (8, "scan"), (256, "loop")])
def test_small_matrices_are_scanned(size: int, wanted: str) -> None:
    assert pick(DENSE, D=size) == wanted


def test_what_is_not_known_is_taken_to_be_large() -> None:
    assert pick(DENSE) == "loop"


def test_ties_between_paths_are_those_of_a_step() -> None:
    assert pick(PATHS, D=2) == "loop"


def test_matrix_states_run_by_chunks() -> None:
    assert pick(ATTENTION, K=32, V=32) == "chunk"


def test_formulas_are_evaluated_at_sizes_that_are_known() -> None:
    model = with_defaults(elaborate_text(DENSE), {"D": 3})
    (verdict,) = analyze(model).verdicts
    estimate = Estimate(model, verdict)
    formula = symbol("T") * symbol("B") * symbol("D") + number(5)
    assert estimate.value(formula) == STEPS * ROWS * 3 + 5
    assert estimate.value(symbol("nobody knows")) == UNKNOWN
    assert estimate.seconds("newton") > estimate.seconds("loop") > 0
