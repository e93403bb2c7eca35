"""Kernels of states that are read at a computed place."""

from __future__ import annotations

from functools import partial

import pytest
import torch

import seqdsl
from seqdsl.diagnostics import CallError
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
HEAD = "layer Row(D = 3, N = 4):\n    input x: [D]\n"
BODIES = {
    "a pointer into a memory": (
        "input move: bool",
        "state M: [N, D] = 0",
        "state p: int = 0",
        "p = (p[t-1] + int(move)) % N",
        "r = M[t-1][N = p]",
        "M = where(index[N] == p, tanh(r + x), M[t-1])",
        "output r",
    ),
    "an automaton": (
        "dim J = N",
        "param w: [N, J] ~ normal(0, 1)",
        "state f: int = 0",
        "g = int(sum[D](x) > 0)",
        "f = (2 * f[t-1] + g + 1) % N",
        "e = sin(index[N] + 0.5)",
        "state h: [D] = 0",
        "h = 0.5 * h[t-1] * e[N = f[t-1]] + x",
        "output h",
    ),
    "a place for each entry": (
        "state h: [D, N] = 0.1 * index[N]",
        "state p: int [D] = 1",
        "p = where(x > 0, (p[t-1] + 1) % N, p[t-1])",
        "r = h[t-1][N = p]",
        "h = 0.9 * h[t-1] + (x - 0.1 * r)",
        "output r",
    ),
    "bools": (
        "state seen: bool [N] = false",
        "state p: int = 0",
        "p = (p[t-1] + int(sum[D](x) > 0) + 1) % N",
        "old = seen[t-1][N = p]",
        "seen = seen[t-1] or index[N] == p",
        "output x * float(old)",
    ),
}


@pytest.mark.parametrize("name", BODIES)
def test_look_ups_run_in_the_kernel(name: str) -> None:
    text = HEAD + "".join(f"    {line}\n" for line in BODIES[name])
    program = load_text(text)
    assert not native_artifact(elaborate(program, "Row", {}).model).refused
    failures = [
        str(outcome.failure)
        for subject in subjects(program, "Row", build=partial(compiled, target="mlir"))
        for outcome in check_subject(subject, examples=1, names=PROPERTIES)
        if outcome.failure is not None
    ]
    assert not failures, "\n\n".join(failures)


OUTSIDE = HEAD + (
    "    input move: int\n    state p: int = 0\n    state M: [N, D] = 0\n"
    "    p = p[t-1] + move\n    M = 0.5 * M[t-1] + x\n    output M[t-1][N = p]\n"
)


@pytest.mark.parametrize("move", [1, -1])
def test_a_place_outside_is_an_error_as_in_torch(move: int) -> None:
    made = [seqdsl.loads(OUTSIDE).Row(target=t) for t in ("mlir", "torch")]
    x, steps = torch.randn(2, 5, 3), torch.full((2, 5), move)
    messages: list[str] = []
    for module in made:
        with pytest.raises((CallError, ValueError)) as caught:
            module(x, steps)
        messages.append(str(caught.value))
    assert "p" in messages[0] and messages[0].split(";")[0] == messages[1].split(";")[0]


def test_tables_of_weights_stay_with_torch() -> None:
    """A kernel would go through all entries for each that it reads."""
    text = HEAD + (
        "    param table: [N, D] ~ normal(0, 1)\n    state p: int = 0\n    state h: [D] = 0\n"
        "    p = (p[t-1] + int(sum[D](h[t-1]) > 0)) % N\n"
        "    h = tanh(h[t-1] + table[N = p]) + x\n    output h\n"
    )
    assert native_artifact(elaborate(load_text(text), "Row", {}).model).refused
