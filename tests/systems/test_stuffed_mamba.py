"""Stuffed Mamba: remedies against state collapse, probes, and the size of states."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from systems_case import (
    changed,
    changed_text,
    make,
    noise,
    same,
    seeded,
    shaken,
    std,
    stepped,
    strategies,
    train,
    verdicts,
)
from torch import Tensor

import seqdsl
from examples.tasks import passkey

STUFFED = std("stuffed_mamba")
SIZES: dict[str, Any] = {"heads": 2, "P": 3, "N": 4}
T = 20


def given(time: int = T) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    log_a = -noise(1, time, 2).abs() / 5
    return log_a, noise(1, time, 4), noise(1, time, 4, seed=1), noise(1, time, 2, 3)


def matrix_form(
    log_a: Tensor, B: Tensor, C: Tensor, u: Tensor, r: int = 10**6
) -> Tensor:
    """(L * C B^T) u, what is older than `r` tokens left out."""
    total = log_a.cumsum(1)
    decay = (total[:, :, None] - total[:, None]).exp()
    t = torch.arange(log_a.shape[1])
    seen = (t[:, None] >= t) & (t[:, None] - t < r)
    weight = torch.einsum("btn,bsn->bts", C, B) * seen
    return torch.einsum("bts,btsh,bshp->bthp", weight, decay, u)


# ---- Verdicts


def test_what_each_remedy_does_to_the_class() -> None:
    leaky = verdicts(STUFFED.LeakySSD)["h"]
    windowed = verdicts(STUFFED.WindowedSSD)["h"]
    assert (leaky.structure, windowed.structure) == ("scalar", "scalar")
    assert "scan" in windowed.strategies
    normed = verdicts(STUFFED.NormedSSD)["h"]
    assert normed.verdict == "sequential" and "scan" not in normed.strategies


# ---- The recurrences


@pytest.mark.parametrize("layer", ["Mamba", "Mamba2"])
def test_every_strategy_of_mamba_agrees(layer: str) -> None:
    spec = getattr(std(layer.lower()), layer)
    sizes: dict[str, Any] = (
        {"D": 6} if layer == "Mamba" else {"D": 6, "P": 2, "N": 3, "groups": 2}
    )
    x, found = noise(1, T, 6), list[Tensor]()
    for name, module in strategies(spec, sizes):
        found.append(module(x))
        same(found[-1], found[0], name)


def test_without_a_remedy_it_is_the_masked_matrix_form() -> None:
    data = given()
    for name, module in strategies(
        STUFFED.LeakySSD, {**SIZES, "retain": 1.0, "insert": 1.0}
    ):
        same(module(*data), matrix_form(*data), name)


def test_an_initial_state_is_carried_on() -> None:
    data = given()
    module = make(STUFFED.LeakySSD, **SIZES, retain=1.0, insert=1.0)
    _, state = module(*(x[:, :7] for x in data), return_state=True)
    rest = module(*(x[:, 7:] for x in data), state=state)
    same(rest, matrix_form(*data)[:, 7:])


def test_less_retention_and_insertion_are_factors() -> None:
    log_a, B, C, u = given()
    y = make(STUFFED.LeakySSD, **SIZES)(log_a, B, C, u)
    factor = torch.tensor(0.9999, dtype=torch.float64).log()
    same(y, 0.75 * matrix_form(log_a + factor, B, C, u))


@pytest.mark.parametrize("r", [1, 4, T, 2 * T])
def test_the_window_is_exact(r: int) -> None:
    data = given()
    module = make(STUFFED.WindowedSSD, **SIZES, r=r)
    same(module(*data), matrix_form(*data, r))
    same(stepped(module, *data)[0], matrix_form(*data, r))


def test_near_miss_without_the_difference_nothing_is_forgotten() -> None:
    data = given()
    wrong = changed("stuffed_mamba", ("h - kept * h[t-r]", "h + 0 * kept * h[t-r]"))
    a, b = (make(s.WindowedSSD, **SIZES, r=4)(*data) for s in (wrong, STUFFED))
    same(a, matrix_form(*data))
    assert (a - b).abs().max() > 1e-2


def test_a_normed_state_stays_short() -> None:
    data = given(60)
    module = make(STUFFED.NormedSSD, **SIZES, p=2.0)
    for now in passkey.statistics(module, *data):
        assert now["h"].norm <= 2**0.5 * 2.0 + 1e-9


def test_near_miss_exact_zero_order_hold_is_another_layer() -> None:
    exact = changed(
        "mamba",
        ("+ dt * u * B", "+ (1 - exp(-dt * exp(A_log))) / exp(A_log) * u * B"),
    )
    a = shaken(make(std("mamba").Mamba, D=6), scale=0.5)
    with torch.no_grad():
        a.dt_bias.fill_(0.5)
    b = make(exact.Mamba, D=6)
    b.load_state_dict(a.state_dict())
    x = noise(1, T, 6)
    assert (a(x) - b(x)).abs().max() > 1e-2


# ---- Probes


def growth(decay: float) -> list[float]:
    """Norms of the state at 512, 2048 and 8192 steps of random rank-one writes."""
    d, time = 16, 8192
    k, v = noise(1, time, d) / 4, noise(1, time, 1, d, seed=1)
    log_a = torch.full((1, time, 1), decay, dtype=torch.float64).log()
    sizes: dict[str, Any] = {"heads": 1, "P": d, "N": d, "retain": 1.0, "insert": 1.0}
    module = make(STUFFED.LeakySSD, **sizes)
    found = passkey.statistics(module, log_a, k, k, v, every=512)
    norms = [now["h"].norm for now in found]
    return [norms[0], norms[3], norms[15]]


def test_the_state_grows_without_forgetting() -> None:
    full, leaky, short = growth(1.0), growth(0.999), growth(0.99)
    assert full[2] > 3 * full[0]
    assert leaky[2] < 1.3 * leaky[0]
    assert short[2] < 1.3 * short[0]


def test_passkeys_are_equal_by_seed_and_hidden_once() -> None:
    tokens, key = passkey.sample(30, 40, 5, seed=2)
    assert torch.equal(tokens, passkey.sample(30, 40, 5, seed=2)[0])
    for row, digits in zip(tokens, key, strict=True):
        (place,) = (int(i) for i in (row == passkey.MARK).nonzero())
        assert torch.equal(row[place + 1 : place + 6] - passkey.DIGIT, digits)
        assert (row[-5:] == passkey.ASK).all()
        assert int((row >= passkey.DIGIT).sum()) == 5
    with pytest.raises(ValueError, match="do not fit"):
        passkey.sample(1, 11, 5, seed=0)


# ---- The size of a state

STACK = """
import std.mamba2: Mamba2

layer Stack(D = 1024, L = 48):
    input x: [D]
    repeat l in L:
        state y: [D] = x
        y = y[l-1] + Mamba2(rmsnorm[D](y[l-1]), P = 64, N = 128)
    output y[l = L]
"""


def test_the_state_of_the_370m_model_has_12_9_million_numbers() -> None:
    with torch.device("meta"):
        module = seqdsl.loads(STACK).Stack()
    total = passkey.state_numbers(module)
    ssd = 48 * (2 * 1024 // 64) * 64 * 128
    assert ssd == 12_582_912
    assert 0.32e6 < total - ssd < 0.45e6
    assert round(total / 1e6, 1) == 12.9


# ---- Training

SMALL = ("P = 64, N = 128", "P = 8, N = 8")
WINDOW = (
    "    y = (dot[N](C, h) ",
    """\
    kept = exp(-sum[s <= t and t - s < 64](dt[s]) * exp(A_log))
    y = (dot[N](C, h - kept * h[t-64]) """,
)
SHELL = """
layer Passkeys(D = 32, L = 2):
    input tokens: int
    x0 = embed(tokens, 13, D)
    repeat l in L:
        state x: [D] = x0
        x = x[l-1] + Mamba2(rmsnorm[D](x[l-1]))
    output linear(rmsnorm[D](x[l = L]), 13)
"""


def reader(*changes: tuple[str, str]) -> Any:
    return seqdsl.loads(changed_text("mamba2", *changes) + SHELL).Passkeys()


def passkeys(module: Any, time: int) -> tuple[float, float]:
    """Loss and share of right digits, the key being within the last 64 tokens."""
    tokens, key = passkey.sample(40, 64, 2, seed=10_000)
    filler = torch.full((40, time - 64), passkey.FILLER)
    with torch.no_grad():
        logits = module(torch.cat([filler, tokens], 1))[:, -2:]
    loss = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), passkey.DIGIT + key.flatten()
    )
    right = logits.argmax(2) == passkey.DIGIT + key
    return float(loss), float(right.double().mean())


@pytest.mark.slow
def test_tiny_training_a_window_keeps_passkeys_over_long_inputs(
    record_property: Any,
) -> None:
    """2 layers, P = N = 8, trained at 64; the loss at 512 stays within 1.2 of that at 64."""
    seeded(0)
    plain = reader(SMALL)
    seeds = iter(range(10_000))

    def loss() -> Tensor:
        tokens, key = passkey.sample(32, 64, 2, seed=next(seeds))
        logits = plain(tokens)[:, -2:].flatten(0, 1)
        return torch.nn.functional.cross_entropy(logits, passkey.DIGIT + key.flatten())

    train(plain, 400, loss, 5e-3)
    windowed = reader(SMALL, WINDOW)
    windowed.load_state_dict(plain.state_dict())
    lengths = (64, 128, 256, 512)
    curves = {
        name: [passkeys(module, n) for n in lengths]
        for name, module in (("plain", plain), ("window", windowed))
    }
    record_property("passkeys", curves)
    assert curves["plain"][0][1] > 0.95, curves
    assert curves["window"][-1][0] <= 1.2 * curves["window"][0][0], curves
