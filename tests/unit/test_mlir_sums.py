"""Gradients of what is the same at every step: sums that kernels keep while they run."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import seqdsl
from seqdsl.bench.measure import peak_bytes
from seqdsl.native.load import available

pytestmark = pytest.mark.skipif(not available(), reason="torch-mlir is not installed")

K, V = 12, 20
HEAD = "layer Row(K, V):\n    input q: [K]\n    input k: [K]\n    input v: [V]\n"
S = "state S: [K, V] = 0"
LAYERS = {
    "a constant": (S, "S = (1 - 2 ** (-3.0 - index[K])) * S[t-1] + k * v", "output dot[K](q, S)"),
    "a number": (
        "param g: [] = 1", S, "S = sigmoid(g) * S[t-1] + k * v", "output dot[K](q, S)",
    ),
    "a decay by row": (
        "param g: [K] = 1", "param u: [K] = 0.5", S, "S = sigmoid(g) * S[t-1] + k * v",
        "output dot[K](q, S[t-1] + u * k * v)",
    ),
    "a decay by entry, data-dependent": (
        "param A: [K, V] = 0.5", S, "S = exp(-square(v) * exp(A)) * S[t-1] + k * v",
        "output dot[K](q, S)",
    ),
    "complex poles": (
        "param a: [K, V] = 0.5", "param b: [K, V] = 1", "param c: [K, V] ~ normal(0, 1)",
        "state S: complex [K, V] = 0",
        "S = exp(complex(-exp(a), b)) * S[t-1] + k * c", "output v * dot[K](q * b, real(S))",
    ),
    "a memory and its normalizer": (
        S, "state z: [K] = 0", "S = S[t-1] + k * v", "z = z[t-1] + k",
        "output dot[K](q, S) / (1 + square(dot[K](q, z)))",
    ),
    "from the end": (
        "param g: [K] = 1", S, "S = sigmoid(g) * S[t+1] + k * v", "output dot[K](q, S)",
    ),
}  # fmt: skip


def layer(name: str, target: str) -> Any:
    text = HEAD + "".join(f"    {line}\n" for line in LAYERS[name])
    return seqdsl.loads(text).Row(K=K, V=V, target=target, strategy="loop").double()


def inputs(batch: int, steps: int) -> list[Tensor]:
    return [torch.randn(batch, steps, n, dtype=torch.float64) for n in (K, K, V)]


def gradients(module: Any, given: list[Tensor], **more: Any) -> list[Tensor]:
    leaves = [x.clone().requires_grad_() for x in given]
    y = module(*leaves, **more)
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)
    wanted = [*leaves, *module.parameters()]
    return [y.detach(), *torch.autograd.grad((y * weights).sum(), wanted)]


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_are_those_of_torch(name: str) -> None:
    kernel, plain = layer(name, "mlir"), layer(name, "torch")
    plain.load_state_dict(kernel.state_dict())
    given = inputs(3, 13)
    ids = torch.tensor([[0] * 13, [1] * 4 + [2] * 9, [3] * 12 + [4]])
    for more in ({}, {"segments": ids}):
        ours, theirs = (gradients(m, given, **more) for m in (kernel, plain))
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9)


FORWARD = [n for n in LAYERS if n != "from the end"]
"""States that run from the end are stored, not run again."""


@pytest.mark.parametrize("name", FORWARD)
def test_no_matrix_is_stored_for_every_step(name: str) -> None:
    """Neither states nor their gradients, whatever else is summed up over time."""
    kernel, steps = layer(name, "mlir"), 300
    given = [x.requires_grad_() for x in inputs(1, steps)]

    def run() -> None:
        kernel(*given).sum().backward()

    run()
    assert peak_bytes(run) / 8 < steps * K * V


def test_only_gradients_that_are_wanted_are_computed() -> None:
    """A kernel without them is made for inputs that do not learn."""
    kernel, plain = layer("a decay by row", "mlir"), layer("a decay by row", "torch")
    plain.load_state_dict(kernel.state_dict())
    given = inputs(2, 7)
    for i in range(3):
        leaves = [[x.clone() for x in given] for _ in range(2)]
        for one, module in zip(
            leaves, (kernel.requires_grad_(i == 1), plain), strict=True
        ):
            one[i].requires_grad_()
            module(*one).square().sum().backward()
        torch.testing.assert_close(leaves[0][i].grad, leaves[1][i].grad)
        assert all(x.grad is None for n, x in enumerate(leaves[0]) if n != i)


def test_starts_of_segments_are_computed_where_there_are_segments_alone() -> None:
    """States that begin with a sum over the sequence begin with it once."""
    text = (
        "layer Row(K, V):\n    input k: [K]\n    input v: [V]\n"
        "    state S: [K, V] = dot[s](k[s], v[s])\n    S = S[t-1] + k * v\n"
        "    output dot[K](k, S)\n"
    )
    module = seqdsl.loads(text).Row(K=K, V=V, target="mlir").double()
    plain = seqdsl.loads(text).Row(K=K, V=V, target="torch", strategy="loop").double()
    steps = 200
    given = inputs(1, steps)[1:]
    with torch.no_grad():
        module(*given)
        assert peak_bytes(lambda: module(*given)) / 8 < steps * K * V / 4
        torch.testing.assert_close(module(*given), plain(*given))
        ids = torch.arange(steps)[None] // 70
        torch.testing.assert_close(
            module(*given, segments=ids), plain(*given, segments=ids)
        )
