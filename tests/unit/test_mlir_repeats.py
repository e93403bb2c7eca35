"""Kernels of recurrences that go through a `repeat` in every step."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from seqdsl.elaborate import elaborate, load_file, load_std, load_text
from seqdsl.elaborate.program import Program
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
    "state_dict_round_trip",
)
HEAD = "layer Row(D = 3, N = 2):\n    input x: [D]\n    state h: [D] = 0.25\n"
BODIES = {
    "tied": (
        "w = param([D], normal(0, 1))",
        "repeat j in N:",
        "    state u: [D] = h[t-1]",
        "    u = tanh(w * u[j-1] + x)",
        "h = u[j = N]",
    ),
    "untied products": (
        "repeat j in N:",
        "    state u: [D] = 0.9 * h[t-1]",
        "    z = sigmoid(linear(x, D))",
        "    u = z * u[j-1] + j * linear(x, D)",
        "h = u[j = last]",
    ),
    "products of the state": (
        "repeat j in N:",
        "    state u: [D] = h[t-1]",
        "    u = u[j-1] + 0.5 * tanh(linear(u[j-1], D) + x)",
        "h = u[j = last] + u[j = 1]",
    ),
    "two states and a constant start": (
        "repeat j in 3:",
        "    state u: [D] = 0",
        "    state v: [D] = h[t-1]",
        "    v = 0.5 * v[j-1] + u[j-1] * x",
        "    u = tanh(u[j-1] + v)",
        "h = 0.5 * h[t-1] + u[j = last]",
    ),
    "what it begins with": (
        "g = linear(x, D)",
        "repeat j in N:",
        "    state u: [D] = g * h[t-1] + x",
        "    c = conv(x, width = 2)",
        "    u = u[j-1] / (1 + c * c)",
        "h = u[j = last] + u[j = 0]",
    ),
}


def failures(program: Program, layer: str, **given: int) -> list[str]:
    """What is wrong with a layer whose loops are all kernels."""
    assert not native_artifact(elaborate(program, layer, given).model).refused
    build = partial(compiled, target="mlir")
    return [
        str(outcome.failure)
        for subject in subjects(program, layer, given=given, build=build)
        for outcome in check_subject(subject, examples=1, names=PROPERTIES)
        if outcome.failure is not None
    ]


@pytest.mark.parametrize("name", BODIES)
def test_repeats_run_in_the_kernel(name: str) -> None:
    text = HEAD + "".join(f"    {line}\n" for line in (*BODIES[name], "output h"))
    found = failures(load_text(text), "Row")
    assert not found, "\n\n".join(found)


@pytest.mark.parametrize("count", [1, 3])
def test_a_step_has_as_many_turns_as_its_option_says(count: int) -> None:
    text = HEAD + "".join(f"    {line}\n" for line in (*BODIES["tied"], "output h"))
    found = failures(load_text(text), "Row", N=count)
    assert not found, "\n\n".join(found)


def test_several_householder_products_a_step() -> None:
    found = failures(load_std("gated_deltaproduct"), "GatedDeltaProduct", D=4, heads=2)
    assert not found, "\n\n".join(found)


def test_a_state_in_every_turn_stays_in_torch() -> None:
    path = Path(__file__).parents[1] / "language" / "ok" / "axes_wavefront.seq"
    model = elaborate(load_file(path), "Feedback", {}).model
    assert native_artifact(model).refused


@pytest.mark.parametrize(
    ("repeat", "read"),
    [
        ("repeat j in n:", "u[j = last]"),
        ("repeat j in N while sum[D](u[j-1]) < 1:", "u[j = last]"),
    ],
)
def test_repeats_of_a_number_of_turns_that_is_not_known_stay_in_torch(
    repeat: str, read: str
) -> None:
    text = (
        "layer Row(D, N = 2):\n    input x: [D]\n    input n: int per call\n"
        f"    state h: [D] = 0\n    {repeat}\n        state u: [D] = h[t-1]\n"
        f"        u = tanh(u[j-1] + x)\n    h = {read}\n    output h + float(n)\n"
    )
    assert native_artifact(elaborate(load_text(text), "Row", {}).model).refused
