"""Positions in half precision, which cannot count beyond 256."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import seqdsl
from seqdsl.native.load import available

STEPS = 700
LAYERS = {
    "angles": """
import std.parts: rotary
layer L(D):
    input x: [D]
    dim K = D
    angle = t / 100 ** (index[D] / D)
    output a = rotary[K](x.(D -> K))
    output b = x * sin(angle) + cos(angle)
""",
    "learned": """
layer L(D):
    input x: [D]
    param rate: [D] = log(1 + index[D])
    angle = t * exp(rate / 2)
    slow = stopgrad(-angle)
    output x * sin(angle) * cos(slow / 2)
""",
    "borders": """
layer L(D, C = 7):
    input x: [D]
    state h: [D] = 0
    state g: [D] = index[D] / D
    h = where(t % C == 0, x, 0.5 * h[t-1])
    g = where(int(t / C) % 2 == 0, x, g[t-1])
    output a = h
    output b = g
""",
    "distances": """
layer L(D):
    input x: [D]
    y = sum[s <= t and s > t - 9](x[s] * exp(-0.1 * (t - s)) * cos(2 * s))
    output y
""",
    "chunks": """
layer L(D, C = 16):
    input x: [D]
    k = sin(x)
    dim V = D
    state W: [D, V] = 0.1
    state W0: [D, V] = 0
    W0 = where(t % C == 0, W[t-1], W0[t-1])
    W = 0.9 * W[t-1] - 0.1 * k * tanh(dot[D](k, W0))
    output dot[D](x, W)
""",
}
TARGETS = [
    "torch",
    pytest.param(
        "auto", marks=pytest.mark.skipif(not available(), reason="needs torch-mlir")
    ),
]


def _outcome(module: Any, x: torch.Tensor, *, steps: bool) -> list[torch.Tensor]:
    if not steps:
        made = module(x)
        return [made] if isinstance(made, torch.Tensor) else list(made)
    state, found = module.initial_state(len(x), dtype=x.dtype), list[Any]()
    for t in range(x.shape[1]):
        made, state = module.step(x[:, t], state)
        found.append([made] if isinstance(made, torch.Tensor) else list(made))
    return [torch.stack(list(outputs), 1) for outputs in zip(*found, strict=True)]


@pytest.mark.parametrize("steps", [False, True])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", LAYERS)
def test_positions_are_exact_in_half_precision(
    name: str, target: str, steps: bool
) -> None:
    make = torch.Generator().manual_seed(1)
    x = torch.randn(2, STEPS, 4, generator=make).bfloat16()
    module: Any = seqdsl.loads(LAYERS[name]).L(D=4, target=target)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(parameter.bfloat16())
        wanted = _outcome(module.double(), x.double(), steps=False)
        found = _outcome(module.bfloat16(), x, steps=steps)
    for ours, exact in zip(found, wanted, strict=True):
        error = (ours.double() - exact).abs().amax((0, 2)) / exact.abs().max()
        assert float(error.max()) < 0.05, (name, int(error.argmax()))
