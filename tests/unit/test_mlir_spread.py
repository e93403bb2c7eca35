"""Gradients through values that are larger than all they are made of, which nothing stores."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import seqdsl
from seqdsl.bench.measure import peak_bytes
from seqdsl.native.load import available

pytestmark = pytest.mark.skipif(not available(), reason="torch-mlir is not installed")

UPDATES = {
    "viterbi": "max[M](a[t-1].(N -> M) + A) + e",
    "log-space HMM": "logsumexp[M](a[t-1].(N -> M) + A) + e",
    "pairs": "tanh(sum[M](sigmoid(a[t-1].(N -> M) * A + e))) + 0.5 * e",
    "normalized": "e + sum[M](softmax[N](A + a[t-1]) * a[t-1].(N -> M))",
}
STATES = 9


def layer(update: str, target: str) -> Any:
    text = (
        "layer Row(N):\n    input e: [N]\n    dim M = N\n"
        "    param A: [M, N] ~ normal(0, 1)\n    state a: [N] = 0.25\n"
        f"    a = {update}\n    output a\n"
    )
    return seqdsl.loads(text).Row(N=STATES, target=target, strategy="loop").double()


def gradients(module: Any, e: Tensor) -> list[Tensor]:
    e = e.clone().requires_grad_()
    y = module(e)
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)
    (y * weights).sum().backward()
    return [
        y.detach(),
        *(p.grad for p in (e, *module.parameters()) if p.grad is not None),
    ]


@pytest.mark.parametrize("name", UPDATES)
def test_gradients_are_those_of_torch(name: str) -> None:
    kernel, plain = layer(UPDATES[name], "mlir"), layer(UPDATES[name], "torch")
    plain.load_state_dict(kernel.state_dict())
    e = torch.randn(3, 21, STATES, dtype=torch.float64)
    for a, b in zip(gradients(kernel, e), gradients(plain, e), strict=True):
        torch.testing.assert_close(a, b)


POINTWISE = ("viterbi", "log-space HMM", "pairs")
"""Without a softmax of pairs, which is kept: it is no pointwise work."""


@pytest.mark.parametrize("name", POINTWISE)
def test_no_pair_of_states_is_stored_for_every_step(name: str) -> None:
    """Neither kept for the backward pass nor made in it."""
    kernel, steps = layer(UPDATES[name], "mlir"), 200
    e = torch.randn(1, steps, STATES, dtype=torch.float64, requires_grad=True)
    kernel(e).sum().backward()

    def run() -> None:
        kernel(e).sum().backward()

    entries = peak_bytes(run) / 8
    assert entries < steps * STATES * STATES
