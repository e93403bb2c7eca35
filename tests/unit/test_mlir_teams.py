"""Kernels whose steps several threads share: few sequences, large matrices."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor

import seqdsl
from seqdsl.backends.mlir import run, threads
from seqdsl.native.load import available

pytestmark = pytest.mark.skipif(not available(), reason="torch-mlir is not installed")

DOUBLE = torch.float64

MIXED = """layer Row(D, H):
    input x: [D]
    dim M = H
    param A: [M, H] ~ normal(0, 0.05)
    state h: [H] = 0.5
    state c: [] = 1
    u = dot[M](h[t-1].(H -> M), A)
    s = sum[H](u * u)
    c = 0.9 * c[t-1] + sigmoid(s)
    h = tanh(u / c + dot[D](x, x)) * (1 + 0 * h[t-1])
    output h * c[t-1]
"""
"""Between two products a number that one thread computes and all read."""

LAYERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "gru": (seqdsl.std.gru.GRU, {"D": 5, "H": 165}),
    "lstm": (seqdsl.std.lstm.LSTM, {"D": 5, "H": 131}),
    "mixed": (seqdsl.loads(MIXED).Row, {"D": 5, "H": 259}),
}


@pytest.fixture(autouse=True)
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As many threads as a team has, whatever the machine."""
    before = torch.get_num_threads()
    monkeypatch.setattr(threads, "_processors", lambda: 3)
    monkeypatch.setattr(threads, "_busy", lambda: False)
    monkeypatch.setattr(threads, "_ALONE", 0)
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def teams(module: Any, x: Tensor) -> set[int]:
    """Members of the teams that run `module`."""
    found: set[int] = set()
    launch = run.launch

    def note(kernel: Any, *rest: Any) -> None:
        found.add(kernel.members)
        launch(kernel, *rest)

    run.launch = note
    try:
        module(x)
    finally:
        run.launch = launch
    return found


def results(module: Any, x: Tensor) -> list[Tensor]:
    """Values, and gradients of the input and all parameters."""
    x = x.clone().requires_grad_()
    y = module(x)
    (y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)).sum().backward()
    gradients = [p.grad for p in (x, *module.parameters())]
    return [y.detach(), *(g for g in gradients if g is not None)]


def pair(name: str) -> tuple[Any, Any]:
    layer, options = LAYERS[name]
    torch.random.manual_seed(0)  # pyright: ignore[reportUnknownMemberType]
    kernel = layer(target="mlir", **options).to(DOUBLE)
    plain = layer(target="torch", strategy="loop", **options).to(DOUBLE)
    plain.load_state_dict(kernel.state_dict())
    return kernel, plain


@pytest.mark.parametrize("name", LAYERS)
def test_threads_that_share_steps_compute_what_one_does(name: str) -> None:
    """Sizes that neither vectors nor threads divide, forward and backward."""
    kernel, plain = pair(name)
    x = torch.randn(1, 13, 5, dtype=DOUBLE)
    assert max(teams(kernel, x)) > 1
    for a, b in zip(results(kernel, x), results(plain, x), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


def test_more_threads_than_sequences() -> None:
    kernel, plain = pair("gru")
    torch.set_num_threads(3)
    x = torch.randn(2, 9, 5, dtype=DOUBLE)
    torch.testing.assert_close(kernel(x), plain(x))


def test_teams_of_several_callers_do_not_wait_for_each_other() -> None:
    """Every thread of one team would else wait for one that another team has."""
    torch.set_num_threads(3)
    kernel, _ = pair("gru")
    x = torch.randn(4, 1, 11, 5, dtype=DOUBLE)
    with torch.no_grad():
        expected = [kernel(row) for row in x]
        with ThreadPoolExecutor(4) as callers:
            found = list(callers.map(kernel, [*x, *x]))
    for a, b in zip(found, (*expected, *expected), strict=True):
        torch.testing.assert_close(a, b)


def test_a_busy_machine_changes_who_computes_but_not_what(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kernel, _ = pair("gru")
    x = torch.randn(1, 10, 5, dtype=DOUBLE)
    shared = kernel(x)
    monkeypatch.setattr(threads, "_busy", lambda: True)
    assert torch.equal(kernel(x), shared)


FORKED = """
import os, torch, seqdsl
torch.set_num_threads(2)
text = "layer Row(D):\\n    input x: [D]\\n    state h: [D] = 0\\n"
text += "    h = sigmoid(x) * h[t-1] + x\\n    output h\\n"
kernel = seqdsl.loads(text).Row(D=64, target="mlir")
x = torch.randn(4, 300, 64)
def last():
    return kernel(x)[:, -1, :8].tolist()
expected = last()
child = os.fork()
if child == 0:
    os._exit(0 if last() == expected else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_has_threads_of_its_own() -> None:
    done = subprocess.run([sys.executable, "-c", FORKED], timeout=120, check=False)
    assert done.returncode == 0
