"""Kernels that take several steps in one pass over a matrix, and tasks that take turns."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

import seqdsl
from seqdsl.backends.mlir import run
from seqdsl.backends.mlir.kernel import Kernel
from seqdsl.native.load import available

pytestmark = pytest.mark.skipif(not available(), reason="torch-mlir is not installed")

DOUBLE = torch.float64

HEAD = """layer Row(heads, K, V):
    input q: [heads, K]
    input k: [heads, K]
    input v: [heads, V]
    input a: [heads, K]
    input b: [heads]
    state S: [heads, K, V] = 0.25
    g = sigmoid(a)
    c = sigmoid(b)
"""

UPDATES = {
    "linear": "S = S[t-1] + k * v",
    "one gate": "S = c * S[t-1] + (1 - c) * k * v",
    "gates by key": "S = g * S[t-1] + k * v",
    "delta": "S = S[t-1] + c * k * (v - dot[K](k, S[t-1]))",
    "gated delta": "S = c * S[t-1] + c * k * (v - dot[K](k, c * S[t-1]))",
    "delta, gates by key": "S = g * S[t-1] - c * k * (dot[K](k, g * S[t-1]) - v)",
    "answers through tanh": "S = c * S[t-1] + k * tanh(v - dot[K](k, S[t-1]))",
    "gates by row and column": "S = g * sigmoid(v) * S[t-1] + k * dot[K](k, S[t-1])",
}
"""Updates that a block of steps has a form of."""

PLAIN = {
    "two products": "S = g * S[t-1] + c * a * dot[K](q, S[t-1]) + k * v",
    "asked twice": (
        "S = S[t-1] + c * k * (v - dot[K](k, S[t-1])) - c * q * dot[K](q, S[t-1])"
    ),
    "a sum over all entries": "S = c * S[t-1] + k * v / (1 + abs(sum[V](dot[K](k, S[t-1]))))",
    "not affine": "S = tanh(S[t-1]) + c * k * (v - dot[K](k, S[t-1]))",
    "a gate for each entry": "S = sigmoid(k * v) * S[t-1] + k * dot[K](k, S[t-1])",
    "rows and columns": "S = c * S[t-1] + k * dot[K](k, S[t-1]) + 0.1 * v * dot[V](v, S[t-1])",
}
"""Updates that run step by step."""

READS = {
    "with weights": "param u: [heads, K] = 0.5\n    output dot[K](q, S[t-1] + u * k * v)",
    "after": "output dot[K](q, S)",
    "before": "output dot[K](q, S[t-1]) + v",
    "both, and a norm": "output dot[K](q, S) / (1 + abs(dot[V](v, dot[K](k, S[t-1]))))",
}


def layers(update: str, read: str, **sizes: int) -> tuple[Any, Any]:
    text = f"{HEAD}    {update}\n    {read}\n"
    spec = seqdsl.loads(text)
    options: dict[str, Any] = {"heads": 3, "K": 29, "V": 31, **sizes}
    return (
        spec.Row(target="mlir", **options),
        spec.Row(target="torch", strategy="loop", **options),
    )


def inputs(batch: int, time: int, heads: int, keys: int, values: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((heads, keys), (heads, keys), (heads, values), (heads, keys), (heads,))
    made = [
        torch.randn(batch, time, *s, generator=generator, dtype=DOUBLE) for s in shapes
    ]
    return [x / keys**0.5 if i < 2 else x for i, x in enumerate(made)]


@contextmanager
def kernels() -> Generator[list[Kernel]]:
    """The kernels that run."""
    found: list[Kernel] = []
    launch = run.launch

    def note(kernel: Kernel, *rest: Any) -> None:
        found.append(kernel)
        launch(kernel, *rest)

    run.launch = note
    try:
        yield found
    finally:
        run.launch = launch


def check(update: str, read: str, batch: int, time: int) -> None:
    kernel, plain = layers(update, read)
    given = inputs(batch, time, 3, 29, 31)
    first = torch.linspace(-1, 1, batch * 3 * 29 * 31, dtype=DOUBLE)
    results: list[Any] = []
    for module in (kernel, plain):
        state = module.initial_state(batch, dtype=DOUBLE)
        state["S"] = first.view_as(state["S"])
        if "t" in state:  # as if steps had been before
            state["t"] = torch.ones_like(state["t"])
        with torch.no_grad():
            results.append(module(*given, state=state, return_state=True))
    found, expected = results
    torch.testing.assert_close(found[0], expected[0], rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(found[1]["S"], expected[1]["S"], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("update", UPDATES)
def test_blocks_compute_what_steps_do(update: str) -> None:
    """Rows and columns that vectors do not divide, more steps than a turn has."""
    with kernels() as found:
        check(UPDATES[update], READS["after"], 2, 71)
    assert [k.count > 1 for k in found] == [True]
    assert found[0].turns == 3


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("update", ["gates by key", "gated delta"])
def test_what_is_read_of_a_state(update: str, read: str) -> None:
    with kernels() as found:
        check(UPDATES[update], READS[read], 1, 38)
    assert found[0].count > 1


@pytest.mark.parametrize("update", PLAIN)
def test_other_updates_run_step_by_step(update: str) -> None:
    with kernels() as found:
        check(PLAIN[update], READS["after"], 2, 9)
    assert found[0].count == 1


@pytest.mark.parametrize("time", [0, 1, 2, 3, 4, 5, 31, 32, 33])
def test_sequences_that_blocks_do_not_divide(time: int) -> None:
    check(UPDATES["gated delta"], READS["after"], 1, time)
    check(UPDATES["one gate"], READS["after"], 3, time)


def test_small_states_run_step_by_step() -> None:
    """Where registers hold a state, passing over it costs nothing."""
    kernel, plain = layers(UPDATES["delta"], READS["after"], K=3, V=5)
    given = inputs(2, 11, 3, 3, 5)
    with kernels() as found, torch.no_grad():
        torch.testing.assert_close(kernel(*given), plain(*given))
    assert found[0].count == 1


@pytest.mark.parametrize("update", ["one gate", "gated delta"])
def test_segments(update: str) -> None:
    kernel, plain = layers(UPDATES[update], READS["after"])
    given = inputs(2, 41, 3, 29, 31)
    ids = torch.tensor([[0] * 3 + [1] * 18 + [2] * 20, [4] * 41])
    with torch.no_grad():
        found, expected = kernel(*given, segments=ids), plain(*given, segments=ids)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)


BACKWARD = """layer Row(heads, K, V):
    input q: [heads, K]
    input k: [heads, K]
    input v: [heads, V]
    input b: [heads]
    state S: [heads, K, V] = 0
    S = sigmoid(b) * S[t+1] + b * k * (v - dot[K](k, S[t+1]))
    output dot[K](q, S)
"""


@pytest.mark.parametrize("time", [1, 6, 67])
def test_recurrences_that_run_backward(time: int) -> None:
    spec = seqdsl.loads(BACKWARD)
    options: dict[str, Any] = {"heads": 2, "K": 27, "V": 33}
    kernel = spec.Row(target="mlir", **options)
    plain = spec.Row(target="torch", strategy="loop", **options)
    q, k, v, _, b = inputs(2, time, 2, 27, 33)
    with kernels() as found, torch.no_grad():
        y = kernel(q, k, v, b)
        torch.testing.assert_close(y, plain(q, k, v, b), rtol=1e-9, atol=1e-10)
    assert found[0].count > 1


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_and_turns_do_not_change_the_result(threads: int) -> None:
    kernel, _ = layers(UPDATES["gated delta"], READS["after"], heads=5)
    given = inputs(3, 150, 5, 29, 31)
    before = torch.get_num_threads()
    with torch.no_grad():
        torch.set_num_threads(1)
        expected = kernel(*given)
        torch.set_num_threads(threads)
        try:
            found = kernel(*given)
        finally:
            torch.set_num_threads(before)
    assert torch.equal(found, expected)


def test_inputs_that_lie_otherwise() -> None:
    """Transposed, the same for all sequences or steps, and in single precision."""
    kernel, plain = layers(UPDATES["delta"], READS["after"])
    q, k, v, a, b = (x.float() for x in inputs(2, 45, 3, 29, 31))
    q = q.transpose(0, 1).contiguous().transpose(0, 1)
    k = k.transpose(2, 3).contiguous().transpose(2, 3)
    v = v[:1].expand(2, -1, -1, -1)
    b = b[:, :1].expand(-1, 45, -1)
    with torch.no_grad():
        found, expected = kernel(q, k, v, a, b), plain(q, k, v, a, b)
    torch.testing.assert_close(found, expected, rtol=2e-4, atol=2e-5)


def test_gradients_pass_through_blocks() -> None:
    kernel, plain = layers(UPDATES["gated delta"], READS["after"])
    found: list[list[Tensor]] = []
    for module in (kernel, plain):
        given = [x.requires_grad_() for x in inputs(2, 37, 3, 29, 31)]
        module(*given).square().sum().backward()
        found.append([x.grad for x in given if x.grad is not None])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-9)
