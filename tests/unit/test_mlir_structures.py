"""Kernels of states that are complex, or read several steps back, from either side."""

from __future__ import annotations

from functools import partial

import pytest

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
        for outcome in check_subject(subject, examples=1, names=PROPERTIES)
        if outcome.failure is not None
    ]
    assert not failures, "\n\n".join(failures)


@pytest.mark.parametrize(
    ("back", "form", "ahead"),
    [(2, "tanh({})", False), (3, "{}", True), (4, "sigmoid(x) * {}", False)],
)
def test_states_are_read_several_steps_back(back: int, form: str, ahead: bool) -> None:
    sign = "+" if ahead else "-"
    read = form.format(f"(0.6 * h[t{sign}1] - 0.3 * h[t{sign}{back}])")
    check(
        f"layer Row(D):\n    input x: [D]\n    state h: [D] = 0.5\n"
        f"    h = {read} + x\n    output h\n"
    )


UPDATES = (
    "a * h[t-1] + complex(x, y)",
    "a * h[t-1] / complex(2 + x * x, y) - conj(h[t-1]) * 0.2 + y",
    "exp(complex(-1 - x * x, y)) * h[t-1] + square(complex(0.3, x))",
    "where(x > 0, a * h[t-1], -h[t-1] * 0.5) + x",
    "0.1 * dot[E](m, h[t-1].(D -> E)) + x",
    "a * h[t-1] / (1 + abs(h[t-1])) + complex(x, abs(y))",
)
"""Of a complex state; `a` and `m` are complex parameters."""


def test_floats_of_what_holds_none_have_the_dtype_of_the_layer() -> None:
    check(
        "layer Row(D):\n    input x: [D]\n    param p: [] = 0.5\n    state f: bool [] = false\n"
        "    f = not f[t-1] or p > 1\n    output x\n    output 0.1 * float(f)\n"
    )


def test_loops_through_which_no_gradient_goes() -> None:
    check(
        "layer Row(D):\n    input x: [D]\n    state f: bool [] = false\n"
        "    f = f[t-1] or linear(x, []) > 0.2\n    output x\n    output float(f)\n"
    )


def test_complex_numbers_on_the_way() -> None:
    check(
        "layer Row(D):\n    input x: [D]\n    input y: [D]\n    state h: [D] = 0\n"
        "    h = 0.9 * h[t-1] + tanh(real(complex(x, y) * complex(0.3, -0.5)))\n"
        "    output h\n"
    )


OUTPUTS = ("real(h)", "imag(h) * y", "abs(h)")


@pytest.mark.parametrize("number", range(len(UPDATES)))
def test_complex_states(number: int) -> None:
    update, output = UPDATES[number], OUTPUTS[number % len(OUTPUTS)]
    check(
        "layer Row(D):\n    input x: [D]\n    input y: [D]\n    dim E = D\n"
        "    param nu: [D] ~ normal(0, 1)\n    param w: [E, D] ~ normal(0, 0.5)\n"
        "    a = exp(complex(-exp(nu), nu))\n    m = complex(w, 0.5 * w)\n"
        f"    state h: complex [D] = 0\n    h = {update}\n"
        f"    output {output} + 0 * sum[E](real(m))\n"
    )


MOVES = {
    "a merged state": (
        "A, B, C = A*B",
        "param w: [C] ~ normal(0, 1)\n    state h: [A, B] = 0.5",
        "h = tanh(x + 0.3 * h[t-1] * sum[C](h[t-1].([A, B] -> C) * w))",
        "x: [A, B]",
        "h",
    ),
    "one state from another, merged": (
        "A, B, C = A*B",
        "state h: [A, B] = 0\n    state g: [C] = 1",
        "h = 0.5 * h[t-1] + x\n    g = sigmoid(g[t-1]) + h[t-1].([A, B] -> C)",
        "x: [A, B]",
        "g * h.([A, B] -> C)",
    ),
    "a part of a state": (
        "D = 7",
        "state h: [D] = 0.5",
        "low = h[t-1][D = 1:5 as Low]\n    h = tanh(0.5 * h[t-1] + x * sum[Low](low * low))",
        "x: [D]",
        "h",
    ),
    "every second entry": (
        "D = 37",
        "state h: [D] = 0.5\n    state s: [] = 0",
        "s = 0.9 * s[t-1] + 0.1 * max[Half](h[t-1][D = 0:D:2 as Half])\n    h = 0.5 * h[t-1] + x * s",
        "x: [D]",
        "h",
    ),
}


@pytest.mark.parametrize("name", MOVES)
def test_states_are_read_merged_and_in_parts(name: str) -> None:
    options, states, update, given, output = MOVES[name]
    check(
        f"layer Row({options}):\n    input {given}\n    {states}\n    {update}\n"
        f"    output {output}\n"
    )


def test_what_varies_along_a_copy_of_time_stays_in_its_sum() -> None:
    """It is no work for a kernel, and has no name that other equations could read."""
    text = (
        "layer Row(D):\n    input x: [D]\n    input u: []\n"
        "    state h: [D] = 0\n    h = 0.7 * h[t-1] + x\n"
        "    state g: [] = 1\n"
        "    g = min(g[t-1] + 0.1, dot[s](sigmoid(dot[D](h, h[s])) * float(s <= t), u[s]))\n"
        "    output g\n"
    )
    program = load_text(text)
    failures = [
        str(outcome.failure)
        for made in subjects(program, "Row", build=partial(compiled, target="auto"))
        for outcome in check_subject(made, examples=1, names=PROPERTIES)
        if outcome.failure is not None
    ]
    assert not failures, "\n\n".join(failures)
