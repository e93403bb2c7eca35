"""Aaren: attention as an RNN."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from systems_case import (
    changed,
    linear,
    make,
    noise,
    numbers,
    same,
    seeded,
    shaken,
    std,
    stepped,
    strategies,
    text_of,
    train,
    verdicts,
)
from torch import Tensor

import seqdsl

AAREN = std("aaren")
CELL = {"heads": 2, "V": 3}


def attention(s: Tensor, v: Tensor) -> Tensor:
    """Softmax attention over every prefix: `s` [batch, time, heads]."""
    time = s.shape[1]
    scores = s[:, None].expand(-1, time, -1, -1)
    hidden = torch.ones(time, time, dtype=torch.bool).triu(1)
    p = scores.masked_fill(hidden[None, :, :, None], -torch.inf).softmax(2)
    return torch.einsum("btsh,bshv->bthv", p, v)


# ---- The verdict


def test_both_sums_are_scans_over_a_running_maximum() -> None:
    found = verdicts(AAREN.AarenCell)
    assert {s: (v.verdict, v.structure, v.semiring) for s, v in found.items()} == {
        "m": ("scannable", "identity", "max_plus"),
        "c": ("scannable", "diagonal", "real"),
        "a": ("scannable", "scalar", "real"),
    }
    assert all("scan" in v.strategies for v in found.values())


# ---- Oracles


@pytest.mark.parametrize("scale", [1.0, 300.0, 700.0])
def test_oracle_1_softmax_attention_over_every_prefix(scale: float) -> None:
    """Scores up to 700: a plain exp would overflow at 709."""
    s = scale * (2 * torch.rand(2, 12, 2, dtype=torch.float64) - 1)
    v = noise(2, 12, 2, 3)
    for name, module in strategies(AAREN.AarenCell, CELL):
        same(module(s, v), attention(s, v), name)


@pytest.mark.parametrize("time", [1, 2, 7, 12, 19])
def test_oracle_2_every_strategy_agrees(time: int) -> None:
    s, v = 10 * noise(1, time, 2), noise(1, time, 2, 3)
    steps, _ = stepped(make(AAREN.AarenCell, **CELL), s, v)
    for name, module in strategies(AAREN.AarenCell, CELL, f"chunk:{time}"):
        same(module(s, v), steps, name)


def test_the_layer_is_attention_with_a_learned_query() -> None:
    layer = shaken(make(AAREN.Aaren, D=8, heads=2))
    x = noise(2, 9, 8)
    q = linear(layer.q, layer.start).view(2, 4)
    s = torch.einsum("hk,bthk->bth", q, linear(layer.k, x).view(2, 9, 2, 4)) / 2
    o = attention(s, linear(layer.v, x).view(2, 9, 2, 4)).flatten(2)
    same(layer(x), linear(layer.out, o))


# ---- The monoid


Element = tuple[float, float, float]
NEUTRAL: Element = (-torch.inf, 0.0, 0.0)
scores = st.floats(-300, 300)
elements = st.one_of(
    st.just(NEUTRAL), st.tuples(scores, st.floats(0.1, 10), st.floats(-10, 10))
)


@cache
def single() -> Any:
    return make(AAREN.AarenCell, heads=1, V=1)


def continued(first: Element, second: Element) -> Element:
    """The cell's own update where a state that stands for `second` is added to `first`.

    A step with score s + log(u) and value w / u carries the element (s, u, w).
    """
    module = single()
    state = module.initial_state(1, dtype=torch.float64)
    for m, u, w in (first, second):
        if u == 0:
            continue
        s = torch.tensor([[m + math.log(u)]], dtype=torch.float64)
        v = torch.tensor([[[w / u]]], dtype=torch.float64)
        _, state = module.step(s, v, state=state)
    return float(state["m"]), float(state["c"]), float(state["a"])


def normalized(element: Element) -> tuple[float, float]:
    """Equal for elements that differ by a change of scale only: log u + m and w / u."""
    m, u, w = element
    return (-torch.inf, 0.0) if u == 0 else (m + math.log(u), w / u)


def alike(a: Element, b: Element) -> bool:
    return normalized(a) == pytest.approx(normalized(b), rel=1e-9, abs=1e-9)


@settings(max_examples=20)
@given(elements, elements, elements)
def test_monoid_laws(a: Element, b: Element, c: Element) -> None:
    assert alike(continued(continued(a, b), c), continued(a, continued(b, c)))
    assert alike(continued(a, b), continued(b, a))
    assert alike(continued(a, NEUTRAL), a)
    assert alike(continued(NEUTRAL, a), a)


# ---- Near misses


def test_near_miss_1_a_maximum_that_starts_at_0_divides_0_by_0() -> None:
    wrong = changed("aaren", ("state m: [heads] = -inf", "state m: [heads] = 0"))
    s, v = noise(1, 5, 2) - 900, noise(1, 5, 2, 3)
    assert make(wrong.AarenCell, **CELL)(s, v).isnan().all()
    right = make(AAREN.AarenCell, **CELL)(s, v)
    same(right, attention(s, v))


PER_TOKEN = """
layer PerToken(D, heads):
    input x: [D]
    dim K = D / heads
    q = linear(x, [heads, K])
    k = linear(x, [heads, K])
    v = linear(x, [heads, K])
    output linear(dot[s](softmax[s <= t](dot[K](q, k[s]) / sqrt(K)), v[s]), D)
"""


def test_near_miss_2_a_query_per_token_is_no_scan() -> None:
    """The weight of a step then depends on where it is read: no state of fixed size."""
    spec = seqdsl.loads(PER_TOKEN)
    assert verdicts(spec.PerToken) == {}
    module = make(spec.PerToken, D=4, heads=2)
    x = noise(1, 30, 4)
    sizes = [numbers(stepped(module, x[:, :n])[1]) for n in (10, 20, 30)]
    assert sizes[0] < sizes[1] < sizes[2]


def test_near_miss_2_written_as_a_recurrence_it_is_another_function() -> None:
    """A scan with the query of the token that writes, not of the one that reads."""
    change = ("q = linear(start, [heads, K])", "q = linear(x, [heads, K])")
    unused = ("    param start: [D] ~ normal(0, 1)\n", "")
    layer = make(changed("aaren", change, unused).Aaren, D=4, heads=2)
    right = make(seqdsl.loads(PER_TOKEN).PerToken, D=4, heads=2)
    right.load_state_dict(layer.state_dict())
    x = noise(1, 6, 4)
    assert (layer(x) - right(x)).abs().max() > 1e-3


# ---- Streaming


def test_streaming_in_constant_memory() -> None:
    module = make(AAREN.Aaren, D=4, heads=2)
    x = noise(1, 1000, 4)
    state = module.initial_state(1)
    assert numbers(state) == 2 * (2 + 2)
    outputs: list[Tensor] = []
    for t in range(1000):
        y, state = module.step(x[:, t], state=state)
        outputs.append(y)
        assert numbers(state) == 2 * (2 + 2)
    same(torch.stack(outputs, 1), module(x))


def test_the_fold_is_the_last_step() -> None:
    text = text_of("aaren") + (
        "\nlayer Fold(D = 256, heads = 4):\n    input x: [D]\n"
        "    output Aaren(x, heads = heads)[t = last]\n"
    )
    fold = make(seqdsl.loads(text).Fold, D=4, heads=2)
    x = noise(2, 9, 4)
    same(fold(x), fold.out(x)[:, -1])


# ---- Published numbers


def test_parameters_of_the_compared_blocks() -> None:
    block = AAREN.AarenBlock(D=512, heads=8, F=2048)
    transformer = std("attention").TransformerBlock(D=512, heads=8, F=2048)
    count = [sum(p.numel() for p in m.parameters()) for m in (block, transformer)]
    assert count == [3_152_896, 3_152_384]


# ---- Training


def test_tiny_training_finds_the_flagged_item() -> None:
    """20 random signs, one of them flagged: its value, from the last step."""
    text = text_of("aaren") + (
        "\nlayer Flagged(D = 16, heads = 2):\n    input x: [2 as F]\n"
        "    y = Aaren(linear(x, D) as inner, heads = heads)\n"
        "    output linear(y[t = last], [])\n"
    )
    seeded(0)
    module = seqdsl.loads(text).Flagged(D=16, heads=2)
    make_batch = torch.Generator().manual_seed(1)

    def batch(rows: int) -> tuple[Tensor, Tensor]:
        sign = 2.0 * torch.randint(0, 2, (rows, 20), generator=make_batch) - 1
        place = torch.randint(0, 20, (rows,), generator=make_batch)
        flag = torch.nn.functional.one_hot(place, 20).float()
        return torch.stack([sign, flag], 2), sign[torch.arange(rows), place]

    def loss() -> Tensor:
        x, value = batch(32)
        return torch.nn.functional.softplus(-module(x) * value).mean()

    train(module, 300, loss, 1e-2)
    x, value = batch(500)
    assert (module(x).sign() == value).float().mean() > 0.95
