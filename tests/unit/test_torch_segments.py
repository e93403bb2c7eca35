"""What is taken over a sequence is one for each segment of a packed row."""

from __future__ import annotations

import pytest
import torch

from seqdsl.elaborate import elaborate_text
from seqdsl.testing.cases import Case
from seqdsl.testing.layers import subject
from seqdsl.testing.properties.adjoints import Compiled, adjoint_equals_autograd
from seqdsl.testing.properties.gradients import gradients_equal_reference
from seqdsl.testing.properties.streaming import steps_equal_forward
from seqdsl.testing.properties.values import segments_equal_reference

PACKED = Case(seed=2, batch=2, time=5, runs=((1, 4), (2, 3)))
SPECS = {
    "summed": """
layer A(D = 2):
    input x: [D]
    m = sum[t](float(t) * x)
    output m * x
""",
    "table": """
layer A(D = 2, n = 8):
    input x: [D]
    param E: [n, D] = normal(0, 1)
    m = sum[t](E[n = t] * x)
    output m * x
""",
    "iterated": """
layer A(D = 2, N = 3):
    input x: [D]
    repeat n in N:
        state h: [D] = mean[t](x)
        state o: [D] = 0
        h = tanh(linear(h[n-1], D))
        o = o[n-1] + h * x
    output o[n = N]
    output chosen = h[n = int(1 + (t % 2))]
""",
    "halted": """
layer A(D = 2):
    input x: [D]
    m = max[t](x)
    repeat n in 4 while sum[D](square(h[n-1])) > 0.2:
        state h: [D] = m
        h = 0.6 * h[n-1]
    output h[n = last] * x
""",
    "initial": """
layer A(D = 2):
    input x: [D]
    m = mean[t](x)
    state h: [D] = linear(m, D)
    state b: [D] = m
    h = tanh(x)
    b = sin(x)
    output h[t-1] + b[t+1]
""",
}


@pytest.mark.parametrize("name", SPECS)
def test_values_and_gradients(name: str) -> None:
    layer = subject(elaborate_text(SPECS[name]), text=SPECS[name])
    segments_equal_reference(layer, PACKED)
    gradients_equal_reference(layer, PACKED)
    adjoint_equals_autograd(layer, PACKED)
    adjoint_equals_autograd(layer, PACKED, Compiled)


def test_a_table_read_by_position_in_a_stream() -> None:
    text = """
layer A(D = 2, n = 8):
    input x: [D]
    param E: [n, D] = normal(0, 1)
    output E[n = t] * x
"""
    layer = subject(elaborate_text(text), text=text)
    steps_equal_forward(layer, Case(seed=1, batch=2, time=4))
    segments_equal_reference(layer, PACKED)


def test_a_packed_sum_takes_memory_for_its_steps_alone() -> None:
    text = SPECS["summed"]
    layer = subject(elaborate_text(text), {"D": 64}, text=text)
    x = torch.randn(1, 4000, 64, dtype=torch.float64)
    ids = torch.arange(4000)[None] // 10
    found = layer.module(x, segments=ids)
    torch.testing.assert_close(found[:, 10:20], layer.module(x[:, 10:20]))
