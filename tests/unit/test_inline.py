"""Inlining a call changes no value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch

from seqdsl.backends.reference import initial_params, interpret
from seqdsl.elaborate import elaborate_text
from seqdsl.ir.sizes import Scalar
from seqdsl.rewrite.inline import inline_calls

CASES: Mapping[str, tuple[str, dict[str, Scalar]]] = {
    "recurrent callee": (
        """
layer G(D, H):
    input x: [D]
    state h: [H] = 1
    h = tanh(linear(x, H) + linear(h[t-1], H)) + t
    output h

layer L(D, H):
    input x: [D]
    output G(x, H = H)
""",
        {"D": 2, "H": 3},
    ),
    "one instance twice": (
        """
layer G(D):
    input x: [D]
    output linear(x, D) + x[t-1]

layer L(D):
    input x: [D]
    g = G(D)
    output g(x) + g(2 * x)
""",
        {"D": 2},
    ),
    "a state read at another step": (
        """
layer G(D):
    input x: [D]
    state h: [D] = 5
    h = 0.5 * h[t-1] + x
    output h

layer L(D):
    input x: [D]
    y = G(x)
    output y[t-1]
""",
        {"D": 2},
    ),
    "two dims of the callee are one of ours": (
        """
layer G(D, H):
    input x: [D]
    output linear(x, H)

layer L(D):
    input x: [D]
    output G(x, H = D)
""",
        {"D": 3},
    ),
    "untied, with loops and calls inside": (
        """
layer F(D):
    input x: [D]
    output tanh(linear(x, D))

layer G(D, M):
    input x: [D]
    repeat m in M:
        state h: [D] = x
        h = h[m-1] + F(h[m-1]) * m
    output h[m = M]

layer L(D, N):
    input x: [D]
    repeat n in N:
        state h: [D] = x
        h = h[n-1] + G(h[n-1], M = n + 1 if false else 2)
    output h[n = N]
""",
        {"D": 2, "N": 2},
    ),
    "attention and two outputs": (
        """
layer A(D):
    input x: [D]
    y = linear(x, D)
    output a = attend(y, y, y, window = 2)
    output b = y

layer L(D):
    input x: [D]
    a, b = A(x)
    output a * b
""",
        {"D": 2},
    ),
    "random numbers": (
        """
layer G(D):
    input x: [D]
    output dropout(x, 0.5)

layer L(D, N):
    input x: [D]
    g = G(D)
    repeat n in N:
        state h: [D] = x
        h = g(h[n-1]) + g(x) * 2
    output h[n = N]
""",
        {"D": 3, "N": 2},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_same_meaning(name: str) -> None:
    text, options = CASES[name]
    model = elaborate_text(text)
    params = initial_params(model, options, seed=0)
    x = torch.randn(2, 4, int(options["D"]), dtype=torch.float64)
    segments = torch.tensor([[0, 0, 1, 1], [2, 2, 2, 3]])
    inlined = model
    while inlined.calls:
        inlined = inline_calls(inlined, [c.name for c in inlined.calls])
    assert not inlined.instances
    assert {p.key for p in inlined.params} >= {p.key for p in model.params}
    assert set(initial_params(inlined, options, seed=0)) == set(params)
    results = [
        interpret(
            m,
            options=options,
            params=params,
            inputs={"x": x},
            segments=segments,
            training=True,
        )
        for m in (model, inlined)
    ]
    for output in model.outputs:
        torch.testing.assert_close(results[0][output.name], results[1][output.name])


def test_only_the_calls_named() -> None:
    model = elaborate_text(CASES["one instance twice"][0])
    first, second = (c.name for c in model.calls)
    half = inline_calls(model, [first])
    assert [c.name for c in half.calls] == [second]
    assert [i.name for i in half.instances] == [i.name for i in model.instances]


def test_a_layer_that_nothing_calls_keeps_its_parameters() -> None:
    """A state dict holds them, although no output needs them."""
    model = elaborate_text(
        """
layer L(D):
    input x: [D]
    unused = rmsnorm[D](x)
    output layernorm[D](x)
"""
    )
    unused, other = model.calls
    left = inline_calls(replace(model, calls=(other,)), [other.name])
    assert not left.calls
    assert [i.name for i in left.instances] == [unused.instance]
