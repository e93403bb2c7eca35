"""Titans: a neural memory that learns at test time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from systems_case import (
    changed,
    make,
    moved_by,
    noise,
    pieces,
    same,
    set_all,
    shaken,
    std,
    stepped,
    strategies,
    verdicts,
)
from torch import Tensor

TITANS = std("titans")
BLOCKS = std("titans_blocks")
HEADS, K, V, T = 2, 4, 3, 12
SIZES = {"heads": HEADS, "K": K, "V": V}
Fed = tuple[Tensor, ...]
"""Queries, keys, values, alpha, eta, theta."""


def fed(batch: int = 2, time: int = T, *, alpha: float = 1.0, eta: float = 1.0) -> Fed:
    """Queries, keys, values, and gates between 0 and `alpha`, `eta` and 1."""
    q, k, v = (
        noise(batch, time, HEADS, n, seed=n + i) for i, n in enumerate((K, K, V))
    )
    gates = [noise(batch, time, HEADS, seed=i).sigmoid() for i in range(3)]
    unit = torch.nn.functional.normalize
    return (
        unit(q, dim=-1),
        unit(k, dim=-1),
        v,
        alpha * gates[0],
        eta * gates[1],
        0.5 * gates[2],
    )


def linear_memory(**options: Any) -> Any:
    return shaken(make(TITANS.LinearMemory, **SIZES, **options))


# ---- The verdicts


def test_the_linear_memory_is_jointly_affine() -> None:
    (found,) = verdicts(TITANS.LinearMemory).values()
    assert (found.verdict, found.structure) == ("scannable", "scalar_plus_low_rank")
    assert set(found.recurrence.states) == {"A", "M", "S"}
    assert "chunk" in found.strategies and not found.invariant


def test_the_deep_memory_is_told_what_prevents_a_scan() -> None:
    """The momentum and the decay are affine; the gradient goes through the activation."""
    (found,) = verdicts(TITANS.DeepMemory).values()
    assert found.verdict == "sequential"
    assert any("silu" in reason.message for reason in found.reasons)


# ---- Oracles


def chunk_form(gates: Fed, M0: Tensor, b: int) -> Tensor:
    """The closed form of the paper, chunk by chunk; one sequence and one head."""
    q, k, v, alpha, eta, theta = gates
    m0, s0, outputs = M0, torch.zeros_like(M0), list[Tensor]()
    for start in range(0, len(q), b):
        Q, Ks, Vs = (x[start : start + b] for x in (q, k, v))
        a, e, th = (x[start : start + b] for x in (alpha, eta, theta))
        beta, m = (1 - a).cumprod(0), e.cumprod(0)
        ratio = (beta[:, None] / beta[None, :]).tril()
        decay = (m[:, None] / m[None, :]).tril() * th[None, :]
        f, G = ratio @ m, ratio @ decay
        E = Ks @ m0 - Vs
        outputs.append(
            beta[:, None] * (Q @ m0) + f[:, None] * (Q @ s0) - 2 * ((Q @ Ks.mT) * G) @ E
        )
        m0, s0 = (
            beta[-1] * m0 + f[-1] * s0 - 2 * (G[-1][:, None] * Ks).mT @ E,
            m[-1] * s0 - 2 * (decay[-1][:, None] * Ks).mT @ E,
        )
    return torch.cat(outputs)


@pytest.mark.parametrize("b", [1, 4, T])
def test_oracle_a_frozen_gradients_are_the_closed_chunk_form(b: int) -> None:
    given = fed()
    for name, module in strategies(TITANS.LinearMemory, {**SIZES, "chunk": b}):
        y = module(*given)
        for n in range(2):
            for h in range(HEADS):
                one = tuple(x[n, :, h] for x in given)
                expected = chunk_form(one, module.M.initial[h], b)
                same(y[n, :, h], expected, name)


def test_oracle_b_the_inner_gradient_against_finite_differences() -> None:
    """With eta = alpha = 0 one step moves the weights by -theta times the gradient."""
    module = shaken(make(TITANS.DeepMemory, **SIZES, F=5))
    q, k, v, alpha, eta, theta = (x[:, :1] for x in fed(1, alpha=0.0, eta=0.0))
    _, state = module(
        *(x[:, :1] for x in (q, k, v, alpha, eta, theta)), return_state=True
    )
    start = (module.M1.initial.detach(), module.M2.initial.detach())

    def loss(M1: Tensor, M2: Tensor) -> Tensor:
        guess = torch.nn.functional.silu(torch.einsum("hk,hkf->hf", k[0, 0], M1))
        return (torch.einsum("hf,hfv->hv", guess, M2) - v[0, 0]).square().sum()

    for place, name in enumerate(("M1", "M2")):
        moved = (start[place] - state[name][0].detach()) / theta[0, 0, :, None, None]
        for at in [(0, 1, 2), (1, 3, 1), (1, 0, 0)]:
            step = torch.zeros_like(start[place])
            step[at] = 1e-6
            both = [list(start), list(start)]
            both[0][place] = start[place] + step
            both[1][place] = start[place] - step
            expected = (loss(*both[0]) - loss(*both[1])) / 2e-6
            assert abs(float(moved[at] - expected)) < 1e-6


# ---- Reductions


def test_the_delta_rule_is_a_special_case() -> None:
    q, k, v, alpha, eta, beta = fed(alpha=0.0, eta=0.0)
    module = set_all(linear_memory(), {"M.initial": 0})
    memory, outputs = torch.zeros(2, HEADS, K, V, dtype=torch.float64), list[Tensor]()
    for t in range(T):
        error = v[:, t] - torch.einsum("bhk,bhkv->bhv", k[:, t], memory)
        memory = memory + torch.einsum("bh,bhk,bhv->bhkv", beta[:, t], k[:, t], error)
        outputs.append(torch.einsum("bhk,bhkv->bhv", q[:, t], memory))
    y = module(q, k, v, alpha, eta, beta / 2)
    same(y, torch.stack(outputs, 1))


def test_one_step_from_nothing_is_hebbian() -> None:
    q, k, v, alpha, eta, theta = fed(alpha=0.0, eta=0.0)
    module = set_all(linear_memory(), {"M.initial": 0})
    _, state = module(
        *(x[:, :1] for x in (q, k, v, alpha, eta, theta)), return_state=True
    )
    expected = 2 * torch.einsum("bh,bhk,bhv->bhkv", theta[:, 0], k[:, 0], v[:, 0])
    same(state["M"], expected)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_full_forgetting_leaves_the_past_to_the_surprise(eta: float) -> None:
    """alpha = 1 at step 5: what is older reaches the memory through S and nothing else."""
    q, k, v, alpha, eta_, theta = fed(time=6, eta=eta)
    alpha[:, 5] = 1
    module = linear_memory()
    _, state = module(q, k, v, alpha, eta_, theta, return_state=True)
    same(state["M"], state["S"])
    alpha[:, 5] = 0.5
    _, state = module(q, k, v, alpha, eta_, theta, return_state=True)
    assert (state["M"] - state["S"]).abs().max() > 1e-3


def test_momentum_forgetting_and_chunk_all_matter() -> None:
    q, k, v, alpha, eta, theta = fed()
    full = linear_memory()(q, k, v, alpha, eta, theta)
    without = (
        linear_memory()(q, k, v, alpha, 0 * eta, theta),
        linear_memory()(q, k, v, 0 * alpha, eta, theta),
        linear_memory(chunk=4)(q, k, v, alpha, eta, theta),
    )
    assert all((full - other).abs().max() > 1e-3 for other in without)


# ---- Recall without training


def recall(alpha: float, eta: float, theta: float, *, hebbian: bool) -> float:
    """Share of 24 keys, each written twice, whose read-out is nearer to the second value."""
    right = total = 0
    spec = changed("titans", HEBBIAN) if hebbian else TITANS
    module = make(spec.LinearMemory, heads=1, K=32, V=32)
    set_all(module, {"M.initial": 0})
    for seed in range(10):
        keys = torch.nn.functional.normalize(noise(24, 32, seed=seed), dim=-1)
        first, second = noise(24, 32, seed=100 + seed), noise(24, 32, seed=200 + seed)
        k = torch.cat([keys, keys])[None, :, None]
        v = torch.cat([first, second])[None, :, None]
        gates = [
            torch.full((1, 48, 1), g, dtype=torch.float64) for g in (alpha, eta, theta)
        ]
        _, state = module(k, k, v, *gates, return_state=True)
        read = keys @ state["M"][0, 0]
        nearer = (read - second).norm(dim=-1) < (read - first).norm(dim=-1)
        right, total = right + int(nearer.sum()), total + 24
    return right / total


HEBBIAN = ("square(dot[K](k, A) - v)", "-dot[K](k, A) * v")


def test_overwritten_recall() -> None:
    assert recall(0.0, 0.0, 0.5, hebbian=False) >= 0.9
    assert recall(0.02, 0.3, 0.5, hebbian=False) >= 0.9
    assert recall(0.0, 0.0, 0.5, hebbian=True) <= 0.6


# ---- Streaming


@pytest.mark.parametrize("cut", [1, 4, 6, 8])
@pytest.mark.parametrize("layer", ["LinearMemory", "DeepMemory"])
def test_streaming_carries_memory_surprise_and_the_partial_chunk(
    layer: str, cut: int
) -> None:
    module = shaken(make(getattr(TITANS, layer), **SIZES, chunk=4))
    given = fed()
    whole = module(*given)
    same(pieces(module, (cut,), *given), whole, within=1e-10)
    same(stepped(module, *given)[0], whole, within=1e-10)


BLOCK_SIZES = {"D": 8, "heads": 2, "P": 2}
WAYS = {
    "MAC": {"C": 3},
    "MAG": {"window": 3, "chunk": 2},
    "MAL": {"window": 3, "depth": 2},
}


@pytest.mark.parametrize("way", WAYS)
def test_a_block_streams_and_is_causal(way: str) -> None:
    module = shaken(make(getattr(BLOCKS, way), **BLOCK_SIZES, **WAYS[way]))
    x = noise(1, 9, 8)
    same(stepped(module, x)[0], module(x), within=1e-10)
    same(pieces(module, (4,), x), module(x), within=1e-10)
    changed_at = moved_by(module, x, 4)
    assert not changed_at[:4].any() and changed_at[4:].all()


# ---- The three blocks


@pytest.mark.parametrize("way", WAYS)
def test_persistent_tokens_matter(way: str) -> None:
    module = shaken(make(getattr(BLOCKS, way), **BLOCK_SIZES, **WAYS[way]))
    x = noise(1, 7, 8)
    before = module(x)
    (name,) = [n for n, _ in module.named_parameters() if n.endswith("persistent")]
    set_all(module, {name: 3 * noise(2, 8, seed=7)})
    assert (module(x) - before).abs().max() > 1e-3


def test_mac_reads_before_it_writes() -> None:
    """Within the first segment what is read is the learned start, whatever was written."""
    module = shaken(make(BLOCKS.MAC, **BLOCK_SIZES, C=4))
    x = noise(1, 8, 8)
    _, state = module(x[:, :4], return_state=True)
    same(state["A"][0], module.M.initial)
    _, state = module(x[:, :5], return_state=True)
    _, before = module(x[:, :4], return_state=True)
    same(state["A"], before["M"])
    wrong = changed("titans_blocks", ("M[t-1], A[t-1])", "M[t-1], M[t-1])"))
    other = make(wrong.MAC, **BLOCK_SIZES, C=4)
    other.load_state_dict(module.state_dict())
    assert (other(x) - module(x)).abs().max() > 1e-6


def test_mag_with_a_long_window_is_gated_full_attention() -> None:
    module = shaken(make(BLOCKS.MAG, **BLOCK_SIZES, window=3))
    longer = make(BLOCKS.MAG, **BLOCK_SIZES, window=20)
    longer.load_state_dict(module.state_dict())
    x = noise(1, 7, 8)
    same = (module(x) - longer(x)).abs().amax((0, 2)) < 1e-12
    assert same.tolist() == [True] * 3 + [False] * 4
