"""Which calls `auto` has learn by chunks in torch, and that these compute the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import seqdsl
from seqdsl.elaborate import elaborate_text
from seqdsl.native.learning import ByChunks
from seqdsl.native.load import available
from seqdsl.schedule.training import training_of

pytestmark = pytest.mark.skipif(not available(), reason="torch-mlir is not installed")

MEMORY = """
layer Row(K, V):
    input k: [K]
    input v: [V]
    state S: [K, V] = 0
    S = 0.9 * S[t-1] + k * v
    output dot[K](k, S)
"""
GATE = "layer Row(K):\n    input k: [K]\n    state h: [K] = 0\n    h = tanh(h[t-1]) + k\n    output h\n"


@pytest.mark.parametrize(
    ("size", "batch", "time", "chunks"),
    [
        (32, 2, 1024, False),
        (64, 2, 1024, False),
        (256, 2, 1024, True),
        (256, 1, 8, False),
    ],
)
def test_large_states_of_long_sequences_learn_by_chunks(
    size: int, batch: int, time: int, chunks: bool
) -> None:
    found = training_of(elaborate_text(MEMORY))
    assert found is not None
    assert found.by_chunks({"K": size, "V": size}, batch, time) == chunks


def test_what_would_run_step_by_step_in_torch_does_not() -> None:
    both = MEMORY.replace(
        "    output", "    state h: [V] = 0\n    h = tanh(h[t-1] + v)\n    output"
    )
    assert training_of(elaborate_text(both)) is None
    assert training_of(elaborate_text(GATE)) is None


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each call went to torch."""
    seen: list[bool] = []
    asked = ByChunks.__call__

    def note(self: ByChunks, module: Any, args: Any) -> bool:
        seen.append(asked(self, module, args))
        return seen[-1]

    monkeypatch.setattr(ByChunks, "__call__", note)
    return seen


def inputs(size: int, time: int = 256) -> list[Tensor]:
    k, v = torch.randn(2, 1, time, size)
    return [torch.nn.functional.normalize(k, dim=-1), v]


def test_only_calls_that_learn_go_to_torch(noted: list[bool]) -> None:
    layer = seqdsl.loads(MEMORY).Row
    module, kernels = layer(K=256, V=256), layer(K=256, V=256, strategy="loop")
    given = inputs(256)
    whole = kernels(*given)
    assert noted == []
    torch.testing.assert_close(module(*given), whole, rtol=1e-4, atol=1e-4)
    leaves = [x.clone().requires_grad_() for x in given]
    out = module(*leaves)
    torch.testing.assert_close(out, whole, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        module(*leaves)
    assert noted == [False, True, False]
    others = [x.clone().requires_grad_() for x in given]
    ours, theirs = (
        torch.autograd.grad(y.sum(), xs)
        for y, xs in ((out, leaves), (kernels(*others), others))
    )
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


def test_streams_go_on_from_one_to_the_other(noted: list[bool]) -> None:
    """A state that chunks leave is one that kernels take."""
    module = seqdsl.loads(MEMORY).Row(K=256, V=256)
    given = inputs(256, 300)
    whole = module(*given)
    leaves = [x[:, :256].clone().requires_grad_() for x in given]
    first, state = module(*leaves, return_state=True)
    state = {n: x.detach() for n, x in state.items()}
    second = module(*(x[:, 256:] for x in given), state=state)
    assert noted == [False, True, False]
    both = torch.cat([first.detach(), second], 1)
    torch.testing.assert_close(both, whole, rtol=1e-4, atol=1e-4)
