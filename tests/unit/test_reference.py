"""The interpreter against models written by hand in torch."""

from __future__ import annotations

import math

import pytest
import torch
from reference_case import Params, check, made, noise, run
from torch import Tensor
from torch.nn import functional as F

GRU = """
layer GRU(D, H):
    input x: [D]
    state h: [H] = 0
    r = sigmoid(linear(x, H) + linear(h[t-1], H))
    z = sigmoid(linear(x, H) + linear(h[t-1], H))
    n = tanh(linear(x, H) + r * linear(h[t-1], H))
    h = (1 - z) * n + z * h[t-1]
    output h
"""


def torch_gru(params: Params, x: Tensor) -> Tensor:
    gru = torch.nn.GRU(x.shape[2], 4, batch_first=True).double()
    weights = {
        f"{kind}_{side}h_l0": torch.cat([params[f"{g}_{ours}.{kind}"] for g in "rzn"])
        for side, ours in (("i", "x"), ("h", "h"))
        for kind in ("weight", "bias")
    }
    result = torch.func.functional_call(gru, weights, (x,))
    return result[0]


def test_gru_is_that_of_torch() -> None:
    options = {"D": 5, "H": 4}
    params, x = made(GRU, options), noise(3, 6, 5)
    ours = run(GRU, options, params, x=x)
    check(ours, torch_gru(params, x), x, *params.values())


def test_two_thousand_steps() -> None:
    options = {"D": 2, "H": 4}
    params, x = made(GRU, options), noise(1, 2000, 2)
    ours = run(GRU, options, params, x=x)
    torch.testing.assert_close(ours, torch_gru(params, x))
    (gradient,) = torch.autograd.grad(ours.sum(), x)
    assert bool(gradient.isfinite().all())


BACKWARD = """
layer Backward(D):
    input x: [D]
    state b: [D] = 1
    b = 0.9 * b[t+1] * cos(x) + x
    output b
"""


@pytest.mark.parametrize("steps", [1, 5, 2000])
def test_backward_recurrence_however_long(steps: int) -> None:
    x = noise(2, steps, 3)
    b, found = torch.ones(2, 3, dtype=torch.float64), [x[:, 0]]
    for t in reversed(range(steps)):
        b = 0.9 * b * torch.cos(x[:, t]) + x[:, t]
        found.insert(0, b)
    check(run(BACKWARD, {"D": 3}, x=x), torch.stack(found[:-1], 1), x)


def test_a_chain_that_only_the_last_step_asks_for() -> None:
    text = """
layer Last(D):
    input x: [D]
    state h: [D] = 0
    h = 0.99 * h[t-1] + x
    output h[t = last]
"""
    x = noise(2, 1500, 2)
    powers = 0.99 ** torch.arange(1499, -1, -1, dtype=torch.float64)
    check(run(text, {"D": 2}, x=x), torch.einsum("btd,t->bd", x, powers), x)


def test_gated_delta_rule() -> None:
    text = """
layer Gated(K, V):
    input k: [K]
    input v: [V]
    input q: [K]
    input a: []
    input b: []
    state S: [K, V] = 0
    e = v - dot[K](k, a * S[t-1])
    S = a * S[t-1] + b * k * e
    output dot[K](q, S)
"""
    k, v, q = noise(2, 7, 3), noise(2, 7, 4, seed=2), noise(2, 7, 3, seed=3)
    a, b = noise(2, 7, seed=4), noise(2, 7, seed=5)
    memory, found = torch.zeros(2, 3, 4, dtype=torch.float64), list[Tensor]()
    for t in range(7):
        memory = a[:, t, None, None] * memory
        error = v[:, t] - torch.einsum("bk,bkv->bv", k[:, t], memory)
        memory = memory + b[:, t, None, None] * k[:, t, :, None] * error[:, None]
        found.append(torch.einsum("bk,bkv->bv", q[:, t], memory))
    ours = run(text, {"K": 3, "V": 4}, k=k, v=v, q=q, a=a, b=b)
    check(ours, torch.stack(found, 1), k, v, q, a, b)


MEMORY = """
layer Memory(K, V):
    input k: [K]
    input v: [V]
    state M: [K, V] = param
    loss = sum[V](square(dot[K](k, M[t-1]) - v))
    M = 0.9 * M[t-1] - 0.1 * STEP
    output M
"""


def test_grad_is_the_delta_rule_and_differentiable() -> None:
    options = {"K": 3, "V": 2}
    taken = MEMORY.replace("STEP", "grad(loss, M[t-1])")
    closed = MEMORY.replace("STEP", "2 * k * (dot[K](k, M[t-1]) - v)")
    params = made(taken, options)
    k, v = noise(2, 5, 3), noise(2, 5, 2, seed=2)
    check(
        run(taken, options, params, k=k, v=v),
        run(closed, options, params, k=k, v=v),
        *(k, v, *params.values()),
    )


def test_grad_goes_through_equations_of_the_step_and_through_layers() -> None:
    text = """
layer Half(D):
    input y: [D]
    state s: [D] = 0
    s = 0.5 * s[t-1] + y * y
    output s
layer Inner(D):
    input x: [D]
    state w: [D] = 1
    y = w[t-1] * x
    early = y[t-1]
    u = Half(y)
    loss = sum[D](u * x + early * w[t-1])
    w = w[t-1] - 0.1 * GRADIENT
    output w
"""
    x = noise(2, 6, 3)
    closed = "(2 * w[t-1] * x * x * x + early)"
    check(
        run(text.replace("GRADIENT", "grad(loss, w[t-1])"), {"D": 3}, x=x),
        run(text.replace("GRADIENT", closed), {"D": 3}, x=x),
        x,
    )


def test_grad_goes_through_a_repeat_inside_the_step() -> None:
    text = """
layer Deep(D):
    input x: [D]
    state S: [D] = 1
    repeat n in 3 while sum[D](w[n-1]) < 100:
        state w: [D] = S[t-1]
        w = w[n-1] * w[n-1] * x
    loss = sum[D](w[n = last])
    S = S[t-1] - 0.01 * GRADIENT
    output S
"""
    x = noise(1, 4, 3)
    power = "(8 * S[t-1] ** 7 * x ** 7)"
    check(
        run(text.replace("GRADIENT", "grad(loss, S[t-1])"), {"D": 3}, x=x),
        run(text.replace("GRADIENT", power), {"D": 3}, x=x),
        x,
    )


def test_grad_needs_no_grad_mode() -> None:
    text = MEMORY.replace("STEP", "grad(loss, M[t-1])")
    params = made(text, {"K": 3, "V": 2})
    k, v = noise(2, 300, 3), noise(2, 300, 2, seed=2)
    with torch.no_grad():
        plain = run(text, {"K": 3, "V": 2}, params, k=k, v=v)
    assert not plain.requires_grad
    found = run(text, {"K": 3, "V": 2}, params, k=k, v=v)
    torch.testing.assert_close(found.detach(), plain)


def test_grad_by_a_name_and_of_a_gradient() -> None:
    text = """
layer Second(D):
    input x: [D]
    y = 2 * x
    g = grad(sum[D](y * y * y), y)
    output grad(sum[D](g * y), y) + grad(sum[D](x), y)
"""
    x = noise(1, 3, 2)
    ours = run(text, {"D": 2}, x=x)
    torch.testing.assert_close(ours, 9 * (2 * x) ** 2)  # of 3 y³, as g is 3 y²


AAREN = """
layer Aaren(K):
    input s: []
    input v: [K]
    state c: [] = -inf
    state o: [K] = 0
    c = logaddexp(c[t-1], s)
    o = exp(c[t-1] - c) * o[t-1] + exp(s - c) * v
    output o
"""


def causal(s: Tensor, v: Tensor) -> Tensor:
    """Attention to the past with scores `s: [batch, time]`."""
    steps = s.shape[1]
    hidden = torch.ones(steps, steps, dtype=torch.bool).triu(1)
    scores = s[:, None, :].expand(-1, steps, -1).masked_fill(hidden, -math.inf)
    return torch.softmax(scores, -1) @ v


def test_attention_as_a_recurrence() -> None:
    s, v = noise(2, 6), noise(2, 6, 3, seed=2)
    check(run(AAREN, {"K": 3}, s=s, v=v), causal(s, v), s, v)


ATTENTION = """
layer Attend(H, K):
    input q: [H, K]
    input k: [H, K]
    input v: [H, K]
    p = softmax[MASK](dot[K](q, k[s]) / sqrt(K))
    output dot[s](p, v[s])
"""


@pytest.mark.parametrize("mask", ["s <= t", "s <= t and t - s < 3", "s", "s < t"])
def test_attention_is_that_of_torch(mask: str) -> None:
    q, k, v = noise(2, 6, 2, 3), noise(2, 6, 2, 3, seed=2), noise(2, 6, 2, 3, seed=3)
    t = torch.arange(6)[:, None]
    s = torch.arange(6)[None]
    seen = {
        "s <= t": s <= t,
        "s <= t and t - s < 3": (s <= t) & (t - s < 3),
        "s": s >= 0,
        "s < t": s < t,
    }[mask]
    args = (x.transpose(1, 2) for x in (q, k, v))
    theirs = F.scaled_dot_product_attention(*args, attn_mask=seen).transpose(1, 2)
    theirs = torch.where(seen.any(1)[:, None, None], theirs, 0.0)
    text = ATTENTION.replace("MASK", mask)
    check(run(text, {"H": 2, "K": 3}, q=q, k=k, v=v), theirs, q, k, v)


def test_lags_before_the_start() -> None:
    text = """
layer Lags(D):
    input x: [D]
    state h: [D] = 7
    h = h[t-2] + x[t-1] + x[t+1]
    output h
"""
    x = noise(1, 5, 1)
    padded = F.pad(x.detach(), (0, 0, 1, 1))
    h = [torch.tensor(7.0)] * 2
    for t in range(5):
        h.append(h[-2] + padded[0, t, 0] + padded[0, t + 2, 0])
    torch.testing.assert_close(run(text, {"D": 1}, x=x)[0, :, 0], torch.stack(h[2:]))
