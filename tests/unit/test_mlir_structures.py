"""Kernels of what a state is read through: several steps back, from either side."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqdsl.elaborate import elaborate, load_text
from seqdsl.native.artifact import native_artifact
from seqdsl.native.load import available
from seqdsl.testing.check import check_subject
from seqdsl.testing.layers import compiled, subjects

pytestmark = pytest.mark.skipif(not available(), reason="torch-mlir is not installed")

PROPERTIES = (
    "forward_equals_reference",
    "pieces_equal_whole",
    "steps_equal_forward",
    "segments_equal_reference",
    "packed_gradients_equal_reference",
)


def check(text: str) -> None:
    """The layer is kernels, which have all properties."""
    program = load_text(text)
    assert not native_artifact(elaborate(program, "Row", {}).model).refused
    failures = [
        str(outcome.failure)
        for subject in subjects(program, "Row", build=partial(compiled, target="mlir"))
        for outcome in check_subject(subject, examples=2, names=PROPERTIES)
        if outcome.failure is not None
    ]
    assert not failures, "\n\n".join(failures)


@settings(max_examples=3, deadline=None)
@given(
    st.integers(2, 4),
    st.sampled_from(["{}", "tanh({})", "sigmoid(x) * {}"]),
    st.booleans(),
)
def test_states_are_read_several_steps_back(back: int, form: str, ahead: bool) -> None:
    sign = "+" if ahead else "-"
    read = form.format(f"(0.6 * h[t{sign}1] - 0.3 * h[t{sign}{back}])")
    check(
        f"layer Row(D):\n    input x: [D]\n    state h: [D] = 0.5\n"
        f"    h = {read} + x\n    output h\n"
    )
