"""Scans by pieces of the sequence: one long sequence with few channels, several threads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import seqdsl
from seqdsl.backends.mlir import pieces
from seqdsl.native.load import available

pytestmark = pytest.mark.skipif(not available(), reason="torch-mlir is not installed")

UPDATES = {
    "gate": "(1 - sigmoid(x)) * h[t-1] + sigmoid(x) * x * y",
    "sum": "h[t-1] + x",
    "read of the step before": "sigmoid(x[t-1]) * h[t-1] + y",
    "log": "logaddexp(h[t-1] - x * x, y)",
    "max-plus": "max(h[t-1] + x, y)",
    "from the end": "sigmoid(x) * h[t+1] + y",
    "weights": "sigmoid(w) * h[t-1] + w * x + y",
}


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = torch.get_num_threads()
    monkeypatch.setattr(pieces, "LEAST", 50)
    yield
    torch.set_num_threads(before)


def pair(update: str) -> tuple[Any, Any]:
    text = (
        "layer Row(D):\n    input x: [D]\n    input y: [D]\n    state h: [D] = 0.5\n"
        f"    param w: [D] = 0.3\n    h = {update}\n    output h * y\n"
    )
    made = [
        seqdsl.loads(text).Row(D=5, target=t, strategy="loop").double()
        for t in ("mlir", "torch")
    ]
    return made[0], made[1]


def results(module: Any, x: Tensor, y: Tensor, **more: Any) -> list[Tensor]:
    given = [x.clone().requires_grad_(), y.clone().requires_grad_()]
    out = module(*given, **more)
    (
        out * torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
    ).sum().backward()
    leaves = [*given, *module.parameters()]
    return [out.detach(), *(g.grad for g in leaves if g.grad is not None)]


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many parts each call ran in."""
    seen: list[int] = []
    parts = pieces.InPieces._parts  # pyright: ignore[reportPrivateUsage]

    def noted(self: pieces.InPieces, time: int) -> list[tuple[int, int]]:
        found = parts(self, time)
        seen.append(len(found))
        return found

    monkeypatch.setattr(pieces.InPieces, "_parts", noted)
    return seen


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("name", UPDATES)
def test_pieces_compute_what_the_whole_does(
    name: str, threads: int, count: list[int]
) -> None:
    """Forward, and the gradients, whose recurrence runs from the end by pieces too."""
    torch.set_num_threads(threads)
    kernel, plain = pair(UPDATES[name])
    x, y = torch.randn(2, 1, 67, 5, dtype=torch.float64)
    ours = results(kernel, x, y)
    assert count == [threads + 1] * 2
    for a, b in zip(ours, results(plain, x, y), strict=True):
        torch.testing.assert_close(a, b)


def test_pieces_of_packed_sequences(count: list[int]) -> None:
    torch.set_num_threads(2)
    kernel, plain = pair(UPDATES["gate"])
    x, y = torch.randn(2, 1, 90, 5, dtype=torch.float64)
    ids = torch.arange(90)[None] // 37
    ours = results(kernel, x, y, segments=ids)
    for a, b in zip(ours, results(plain, x, y, segments=ids), strict=True):
        torch.testing.assert_close(a, b)
    assert count == [3, 3]


def test_states_continue_behind_pieces() -> None:
    torch.set_num_threads(2)
    kernel, plain = pair(UPDATES["gate"])
    x, y = torch.randn(2, 1, 160, 5, dtype=torch.float64)
    first, state = kernel(x[:, :90], y[:, :90], return_state=True)
    second = kernel(x[:, 90:], y[:, 90:], state=state)
    torch.testing.assert_close(torch.cat([first, second], 1), plain(x, y))


def test_a_state_that_reads_another_runs_in_one_piece(count: list[int]) -> None:
    text = (
        "layer Row(D):\n    input x: [D]\n    state c: [D] = 0\n    state h: [D] = 0\n"
        "    c = 0.9 * c[t-1] + x\n    h = sigmoid(x) * h[t-1] + c * x\n    output h\n"
    )
    torch.set_num_threads(2)
    made = [
        seqdsl.loads(text).Row(D=3, target=t, strategy="loop")
        for t in ("mlir", "torch")
    ]
    x = torch.randn(1, 70, 3, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(made[0](x), made[1](x))
    assert not count
