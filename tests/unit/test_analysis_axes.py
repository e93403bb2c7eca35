"""Verdicts per axis: depth, space and time, repeats and what is inside."""

from __future__ import annotations

import pytest
import torch
from verdicts import by_name, lines

from seqdsl.backends.reference import interpret
from seqdsl.elaborate import elaborate_text
from seqdsl.ir.sizes import Scalar


def test_two_axes_are_two_recurrences() -> None:
    text = """
layer G(D, N):
    input x: [D]
    repeat n in N:
        state h: [D] = 0
        h = x * h[t-1] + 0.5 * h[n-1]
    output h[n = N]
"""
    found = by_name(text)
    assert found["", "h", "t"].structure == "diagonal"
    assert found["", "h", "n"].structure == "scalar" and found["", "h", "n"].invariant


def test_depth_with_a_time_state_inside() -> None:
    text = """
layer L(D, N):
    input x: [D]
    repeat n in N:
        state y: [D] = x
        state s: [D] = 0
        s = 0.9 * s[t-1] + y[n-1]
        y = y[n-1] + tanh(linear(s, D))
    output y[n = N]
"""
    found = by_name(text)
    assert found["", "s", "t"].structure == "scalar"
    assert found["", "y", "n"].verdict == "sequential"


PRODUCT = """
layer L(K, V, N):
    input k: [K]
    input v: [V]
    input a: []
    input W0: [K, V] per batch
    state W: [K, V] = W0
    repeat n in {steps}:
        state S: [K, V] = {first}
        S = {update}
    W = S[n = {steps}]
    output W
"""
DELTA = "S[n-1] - a * k * (dot[K](k, S[n-1]) - n * v)"


@pytest.mark.parametrize(
    ("steps", "first", "update", "expected"),
    [
        ("3", "a * W[t-1]", DELTA, "scalar plus low rank 3 (real)"),
        ("N", "a * W[t-1]", DELTA, "scalar plus low rank N (real)"),
        ("2", "k * W[t-1]", DELTA, "diagonal plus low rank 2 (real)"),
        ("N", "W[t-1]", "v * S[n-1] + k * v", "diagonal (real)"),
        ("N", "W[t-1]", "S[n-1] + W[t-1] + k * v", "dense (real)"),
        ("N", "k * v", "0.5 * S[n-1] + W[t-1]", "dense (real)"),
    ],
)
def test_a_repeat_of_affine_steps_is_affine(
    steps: str, first: str, update: str, expected: str
) -> None:
    text = PRODUCT.format(steps=steps, first=first, update=update)
    model = elaborate_text(text)
    (line,) = (s for s in lines(text) if s.startswith("W over t"))
    assert expected in line and "scannable" in line
    make = torch.Generator().manual_seed(0)
    inputs = {
        "k": torch.randn(1, 1, 3, generator=make, dtype=torch.float64),
        "v": torch.randn(1, 1, 2, generator=make, dtype=torch.float64),
        "a": torch.randn(1, 1, generator=make, dtype=torch.float64),
    }
    inputs = {n: x.expand(3, *x.shape[1:]) for n, x in inputs.items()}
    start = torch.randn(2, 3, 2, generator=make, dtype=torch.float64)
    inputs["W0"] = torch.stack([start[0], start[1], 0.3 * start[0] + 0.7 * start[1]])
    options: dict[str, Scalar] = {"K": 3, "V": 2, "N": 2}
    found = interpret(model, options=options, params={}, inputs=inputs)["W"]
    assert torch.allclose(0.3 * found[0] + 0.7 * found[1], found[2])


@pytest.mark.parametrize(
    ("first", "update"),
    [
        ("a * W[t-1]", "tanh(S[n-1])"),
        ("tanh(W[t-1])", "a * S[n-1]"),
        ("W[t-1]", "S[n-1] * W[t-1]"),
        ("k * v", "sum[K](W[t-1]) * S[n-1]"),
    ],
)
def test_a_repeat_with_a_nonlinear_step_is_not(first: str, update: str) -> None:
    text = PRODUCT.format(steps="N", first=first, update=update)
    found = by_name(text)["", "W", "t"]
    assert [r.code for r in found.reasons] == ["E0309"]


def test_a_halting_condition_makes_depth_sequential() -> None:
    text = """
layer L(D, N):
    input x: [D]
    repeat n in N while q[n-1] < 0.99:
        state h: [D] = x
        state q: [] = 0
        h = linear(h[n-1], D)
        q = q[n-1] + sigmoid(linear(h, []))
    output h[n = N]
"""
    (found,) = by_name(text).values()
    assert [r.code for r in found.reasons] == ["E0313"]


def test_a_time_state_inside_a_halting_repeat_is_not_called_a_scan() -> None:
    text = """
layer L(D, N):
    input x: [D]
    repeat n in N while q[n-1] < 0.99:
        state s: [D] = 0
        state q: [] = 0
        s = 0.9 * s[t-1] + x
        q = q[n-1] + sigmoid(linear(s, []))
    output s[n = N]
"""
    assert {v.verdict for v in by_name(text).values()} == {"sequential"}


def test_a_convolution_of_its_own_past() -> None:
    text = """
layer L(D):
    input x: [D]
    state h: [D] = 0
    h = x + conv(h[t-1], width = 3)
    output h
"""
    found = by_name(text)["", "h", "t"]
    assert (found.structure, found.invariant) == ("dense", True)
    assert "fir" not in {v.verdict for v in by_name(text).values()}
    found = by_name(text.replace("width = 3", "width = D"))["", "h", "t"]
    assert [r.code for r in found.reasons] == ["E0306"]


def test_attention_that_asks_with_the_state() -> None:
    text = """
layer L(D):
    input x: [D]
    state h: [D] = 0
    h = x + dot[s](softmax[s <= t](dot[D](h[t-1], x[s])), x[s])
    output h
"""
    found = by_name(text)["", "h", "t"]
    assert found.verdict == "sequential" and found.reasons


def test_a_state_that_forgets_itself_but_is_read_later_is_a_lag() -> None:
    text = """
layer L(D):
    input x: [D]
    state c: [D] = 0
    c = c[t-1] - c[t-1] + x
    output c[t-1] + x
"""
    assert [v.verdict for v in by_name(text).values()] == ["fir"]


def test_a_very_long_chain_is_given_up() -> None:
    steps = "".join(
        f"    y{i} = y{i - 1} + k{i} * sum[D](k{i} * y{i - 1})\n" for i in range(1, 12)
    )
    inputs = "".join(f"    input k{i}: [D]\n" for i in range(1, 12))
    text = (
        f"layer L(D):\n{inputs}    state h: [D] = 0\n    y0 = 0.5 * h[t-1]\n{steps}"
        "    h = y11 + k1\n    output h\n"
    )
    (found,) = by_name(text).values()
    assert {r.code for r in found.reasons} == {"E0314"}


LAYERS = """
layer Lin(D):
    input x: [D]
    output linear(x, D)

layer Gate(D):
    input x: [D]
    input h: [D]
    output sigmoid(linear(x, D)) * h + x

layer Twice(D):
    input x: [D]
    output Lin(Lin(x))
"""


@pytest.mark.parametrize(
    ("update", "structure"),
    [
        ("Lin(h[n-1]) + x", "dense"),
        ("Gate(x, h[n-1])", "diagonal"),
        ("Twice(h[n-1])", "dense"),
        ("h[n-1] + SwiGLU(h[n-1])", None),
        ("rmsnorm[D](h[n-1]) + x", None),
    ],
)
def test_layers_that_are_affine_in_the_state_of_a_repeat(
    update: str, structure: str | None
) -> None:
    text = f"""{LAYERS}
layer L(D, N):
    input x: [D]
    repeat n in N:
        state h: [D] = x
        h = {update}
    output h[n = N]
"""
    (found,) = (v for v in by_name(text).values() if not v.recurrence.layer)
    assert found.structure == structure
    assert found.verdict == ("scannable" if structure else "sequential")
    assert structure or found.reasons[0].code == "E0308"
