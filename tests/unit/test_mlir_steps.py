"""Steps by kernels alone: the same values and states as the equations in torch."""

from __future__ import annotations

import copy
import pickle
from threading import Thread
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import seqdsl
from seqdsl.native.load import available
from seqdsl.native.stepping import steps

pytestmark = pytest.mark.skipif(not available(), reason="torch-mlir is not installed")

SPEC = """\
import std.gla: GLA
import std.lstm: LSTM

layer Block(D):
    input x: [D]
    y = GLA(rmsnorm[D](x), heads = 2)
    c = conv(x + y, width = 3, dilation = 2)
    output x + c + x[t-1] * x[t-3]

layer Model(vocab, D = 16, L = 3):
    input tokens: int
    x0 = embed(tokens, vocab, D)
    repeat l in L:
        state x: [D] = x0
        x = Block(x[l-1]) * l
    h = LSTM(x[l = 1], H = 5)
    output logits = linear(rmsnorm[D](x[l = L]), vocab)
    output h
    output at = t * mean[D](x0)
"""


def pair(dtype: torch.dtype = torch.float32, **options: Any) -> tuple[Any, Any]:
    """The layer with kernels, and the same in torch."""
    layer = seqdsl.loads(SPEC).Model
    kernel = layer(target="auto", strategy="loop", vocab=11, **options)
    plain = layer(target="torch", strategy="loop", vocab=11, **options)
    plain.load_state_dict(kernel.state_dict())
    return kernel.to(dtype), plain.to(dtype)


def served(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Notes for every step of a layer whether kernels served it."""
    found: list[bool] = []
    run = steps.Steps.run

    def noted(self: steps.Steps, module: nn.Module, args: tuple[Any, ...]) -> Any:
        made = run(self, module, args)
        found.append(made is not None)
        return made

    monkeypatch.setattr(steps.Steps, "run", noted)
    return found


def close(a: Any, b: Any) -> None:
    """Nested states, or outputs, with the same keys and values."""
    ours, theirs = (
        pytree.tree_flatten_with_path(a)[0],
        pytree.tree_flatten_with_path(b)[0],
    )
    assert [k for k, _ in ours] == [k for k, _ in theirs]
    for (_, x), (_, y) in zip(ours, theirs, strict=True):
        assert x.dtype == y.dtype
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_whole_model_steps_like_torch(
    batch: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel, plain = pair(dtype)
    noted = served(monkeypatch)
    ours, theirs = kernel.initial_state(batch), plain.initial_state(batch)
    with torch.no_grad():
        for _ in range(6):
            tokens = torch.randint(11, (batch,))
            y, ours = kernel.step(tokens, ours)
            z, theirs = plain.step(tokens, theirs)
            assert type(y).__name__ == type(z).__name__ and y._fields == z._fields
            close(tuple(y), tuple(z))
            close(ours, theirs)
    # one program for the whole model: no sub-layer was asked
    assert noted == [True] * 6


def test_a_step_leaves_the_state_before_as_it_was() -> None:
    kernel, _ = pair()
    with torch.no_grad():
        _, state = kernel.step(torch.tensor([3]), kernel.initial_state(1))
        before = copy.deepcopy(state)
        first, _ = kernel.step(torch.tensor([4]), state)
        again, _ = kernel.step(torch.tensor([4]), state)
    close(state, before)
    close(tuple(first), tuple(again))


def test_weights_that_change_are_seen() -> None:
    """In place, by another tensor, by another storage, by one that is not dense."""
    kernel, plain = pair()
    tokens = torch.tensor([5])
    state = kernel.initial_state(1)

    def same() -> None:
        with torch.no_grad():
            close(
                tuple(kernel.step(tokens, state)[0]),
                tuple(plain.step(tokens, state)[0]),
            )

    same()
    for module in (kernel, plain):
        module.logits_linear.weight.data.mul_(2)
    same()
    for module in (kernel, plain):
        module.logits_linear.weight = nn.Parameter(torch.full((11, 16), 0.5))
    same()
    for module in (kernel, plain):
        module.logits_linear.weight.data = torch.arange(11 * 16.0).view(11, 16)
    same()
    for module in (kernel, plain):
        module.logits_linear.weight.data = torch.arange(11 * 16.0).view(16, 11).t()
    same()


def test_gradients_go_through_torch() -> None:
    kernel, plain = pair()
    state = kernel.initial_state(2)
    for module in (kernel, plain):
        y, _ = module.step(torch.tensor([1, 2]), state)
        y.logits.square().sum().backward()
    ours, theirs = kernel.x0.weight.grad, plain.x0.weight.grad
    assert ours is not None
    torch.testing.assert_close(ours, theirs)


def test_wrong_calls_are_refused_as_ever() -> None:
    kernel, _ = pair()
    state = kernel.initial_state(1)
    with torch.no_grad():
        kernel.step(torch.tensor([1]), state)
        with pytest.raises(seqdsl.CallError, match="tokens"):
            kernel.step(torch.tensor([11]), state)
        with pytest.raises(seqdsl.CallError, match="x_call"):
            kernel.step(torch.tensor([1]), {})


def test_modules_that_have_stepped_are_copied_and_pickled() -> None:
    kernel, _ = pair()
    tokens, state = torch.tensor([2]), kernel.initial_state(1)
    with torch.no_grad():
        expected, _ = kernel.step(tokens, state)
        for other in (copy.deepcopy(kernel), pickle.loads(pickle.dumps(kernel))):
            close(tuple(other.step(tokens, state)[0]), tuple(expected))


def test_threads_do_not_share_memory() -> None:
    kernel, _ = pair()
    tokens = [torch.tensor([i]) for i in range(4)]

    def run(token: Tensor, into: list[Tensor]) -> None:
        state = kernel.initial_state(1)
        with torch.no_grad():
            for _ in range(50):
                y, state = kernel.step(token, state)
                into.append(y.logits)

    expected: list[list[Tensor]] = [[] for _ in tokens]
    for token, into in zip(tokens, expected, strict=True):
        run(token, into)
    found: list[list[Tensor]] = [[] for _ in tokens]
    threads = [
        Thread(target=run, args=pair) for pair in zip(tokens, found, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    close(found, expected)


def test_what_no_kernel_has_a_form_of_runs_in_torch_part_by_part(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = """\
import std.gla: GLA

layer Model(D):
    input x: [D]
    y = GLA(x, heads = 2)
    p = top[D](softmax[D](y), 2)
    output GLA(p, heads = 2)
"""
    layer = seqdsl.loads(spec).Model
    kernel = layer(D=8, strategy="loop")
    plain = layer(D=8, target="torch", strategy="loop")
    plain.load_state_dict(kernel.state_dict())
    noted = served(monkeypatch)
    x = torch.randn(3, 8)
    with torch.no_grad():
        y, state = kernel.step(x, kernel.initial_state(3))
        z, other = plain.step(x, plain.initial_state(3))
    torch.testing.assert_close(y, z)
    close(state, other)
    # the layer itself is refused, both sub-layers are served
    assert sorted(noted) == [False, True, True]


COMPLEX = """\
layer Row(D):
    input x: [D]
    param a: [D] = -0.3
    param b: [D] ~ normal(0, 1)
    lambda = exp(complex(a, b))
    state h: complex [D] = complex(0.5, -0.25)
    u = complex(x, b) * h[t-2]
    h = lambda * h[t-1] + 0.1 * u + x
    output h
    output y = real(dot[D](complex(a, b), h)) + abs(h)
"""


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_complex_states_step_in_kernels(
    batch: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """States and outputs are complex as ever, and read several steps back."""
    layer = seqdsl.loads(COMPLEX).Row
    kernel, plain = (layer(target=t, strategy="loop", D=5) for t in ("auto", "torch"))
    plain.load_state_dict(kernel.state_dict())
    kernel, plain = kernel.to(dtype), plain.to(dtype)
    noted = served(monkeypatch)
    ours, theirs = kernel.initial_state(batch), plain.initial_state(batch)
    with torch.no_grad():
        for _ in range(4):
            x = torch.randn(batch, 5, dtype=dtype)
            y, ours = kernel.step(x, ours)
            z, theirs = plain.step(x, theirs)
            close(tuple(y), tuple(z))
            close(ours, theirs)
    assert noted == [True] * 4


JOINED = """\
layer Row(D, N = 2):
    input x: [D]
    dim W = 1 + D + N
    dim V = 2 * D
    param w: [N] ~ normal(0, 1)
    state S: [W] = 0.5
    y = concat[1, D, N as W](sum[D](x), tanh(x), w * mean[D](x))
    S = 0.5 * S[t-1] + y
    z = 2 * concat[D, D as V](x, x * x)
    dim U = V + W
    output S
    output both = concat[V, W as U](z, S)
"""


@pytest.mark.parametrize("batch", [1, 3])
def test_values_side_by_side_step_in_kernels(
    batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = seqdsl.loads(JOINED).Row
    kernel, plain = (layer(target=t, strategy="loop", D=5) for t in ("auto", "torch"))
    plain.load_state_dict(kernel.state_dict())
    noted = served(monkeypatch)
    ours, theirs = kernel.initial_state(batch), plain.initial_state(batch)
    with torch.no_grad():
        for _ in range(4):
            x = torch.randn(batch, 5)
            y, ours = kernel.step(x, ours)
            z, theirs = plain.step(x, theirs)
            close(tuple(y), tuple(z))
            close(ours, theirs)
    assert noted == [True] * 4
