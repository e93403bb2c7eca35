"""The adjoint of every layer is what autograd makes of its compiled module."""

from __future__ import annotations

from pathlib import Path

import pytest

from seqdsl.elaborate import load_file
from seqdsl.testing.cases import Case
from seqdsl.testing.layers import subjects
from seqdsl.testing.properties.adjoints import adjoint_equals_autograd

ROOT = Path(__file__).parents[2]
PLACES = (
    ("stdlib/mingru.seq", "MinGRU"),
    ("stdlib/gru.seq", "GRU"),
    ("stdlib/gla.seq", "GLA"),
    ("stdlib/gated_deltanet.seq", "GatedDeltaNet"),
    ("tests/language/ok/axes_backward.seq", "Reverse"),
    ("tests/language/ok/input_short_conv.seq", "ShortConvs"),
)
CASES = (
    Case(seed=1, batch=2, time=4),
    Case(seed=2, batch=2, time=5, runs=((2, 3), (1, 4))),
)


@pytest.mark.parametrize(("path", "layer"), PLACES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_adjoint_equals_autograd(path: str, layer: str, case: Case) -> None:
    program = load_file(ROOT / path)
    for subject in subjects(program, layer):
        adjoint_equals_autograd(subject, case)
