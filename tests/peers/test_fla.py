"""Recurrences of the standard library against flash-linear-attention's naive references.

The references are loaded by their path, since the package itself needs a GPU. They hold
the recurrence of each layer; the projections around it are those of the plain loops of
the unit tests, in which the reference takes the place of the loop. They compute in single
precision.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from peer import BATCH, TIME, Params, agree, fla_file, noise, ours, plain
from torch import Tensor

from seqdsl.backends.reference import initial_params
from seqdsl.elaborate import elaborate, load_std
from seqdsl.ir.sizes import Scalar

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]

SINGLE = 1e-5
Plain = Callable[[Params, Tensor], Tensor]


def matrix() -> Any:
    return plain("stdlib_matrix")


def moved(file: str, layer: str, options: dict[str, Scalar]) -> dict[str, Tensor]:
    """Initial values, moved so that no zero hides a mistake."""
    model = elaborate(load_std(file), layer, options).model
    found = initial_params(model, options, seed=3).items()
    return {n: v + 0.1 * noise(*v.shape, seed=i) for i, (n, v) in enumerate(found)}


def compare(file: str, layer: str, options: dict[str, Scalar], theirs: Plain) -> None:
    params = moved(file, layer, options)
    x = noise(BATCH, TIME, int(options["D"]))
    agree(
        lambda x: ours(file, layer, options, params, x=x),
        lambda x: theirs(params, x),
        x,
        SINGLE,
    )


def swap(flip: Tensor) -> Tensor:
    return flip.transpose(1, 2)


# ---- Decay and outer product


def gla_memory(q: Tensor, k: Tensor, v: Tensor, decay: Tensor) -> Tensor:
    """Their queries are divided by sqrt(K) inside."""
    naive = fla_file("ops/gla/naive.py").naive_recurrent_gla
    log = decay.log().expand(k.shape)
    return naive(q * math.sqrt(q.shape[-1]), k, v, log)[0]


def simple_memory(q: Tensor, k: Tensor, v: Tensor, decay: Tensor) -> Tensor:
    naive = fla_file("ops/simple_gla/naive.py").naive_recurrent_simple_gla
    log = decay.log()[..., 0].expand(k.shape[:-1])
    return naive(q, k, v, log, scale=1.0)[0]


@pytest.mark.parametrize(
    ("file", "layer", "options", "name", "memory"),
    [
        ("gla", "GLA", {"D": 8, "heads": 2, "rank": 3}, "gla", gla_memory),
        (
            "lightning",
            "LightningAttention",
            {"D": 6, "heads": 2},
            "lightning",
            simple_memory,
        ),
        (
            "mamba2",
            "Mamba2",
            {"D": 8, "P": 2, "N": 3, "groups": 2},
            "mamba2",
            simple_memory,
        ),
    ],
    ids=["gla", "lightning", "mamba2"],
)
def test_decay(
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    layer: str,
    options: dict[str, Scalar],
    name: str,
    memory: Callable[..., Tensor],
) -> None:
    monkeypatch.setattr(matrix(), "memory", memory)
    compare(file, layer, options, getattr(matrix(), name))


def test_hgrn2(monkeypatch: pytest.MonkeyPatch) -> None:
    low = noise(2, 3, seed=9).sigmoid()
    monkeypatch.setattr(matrix(), "memory", gla_memory)
    options: dict[str, Scalar] = {"D": 6, "heads": 2}
    model = elaborate(load_std("hgrn2"), "HGRN2", options).model
    params = initial_params(model, options, seed=3)
    agree(
        lambda x: ours("hgrn2", "HGRN2", options, params, x=x, low=low),
        lambda x: matrix().hgrn2(params, x, low),
        noise(BATCH, TIME, 6),
        SINGLE,
    )


def test_hgrn(monkeypatch: pytest.MonkeyPatch) -> None:
    loops = plain("stdlib_plain")
    naive = fla_file("ops/hgrn/naive.py").naive_recurrent_hgrn
    low = noise(4, seed=9).sigmoid()

    def diagonal(a: Tensor, b: Tensor) -> Tensor:
        return naive(b, a.log())[0]

    monkeypatch.setattr(loops, "diagonal", diagonal)
    options: dict[str, Scalar] = {"D": 4}
    model = elaborate(load_std("hgrn"), "HGRN", options).model
    params = initial_params(model, options, seed=3)
    agree(
        lambda x: ours("hgrn", "HGRN", options, params, x=x, low=low),
        lambda x: loops.hgrn(params, x, low),
        noise(BATCH, TIME, 4),
        SINGLE,
    )


def test_retention() -> None:
    naive = fla_file("ops/retention/naive.py").naive_retention
    loops = matrix()

    def theirs(p: Params, x: Tensor) -> Tensor:
        q, k, v = loops.heads_of(p, x, "q", "k", "v")
        o = swap(naive(swap(loops.turned(q)), swap(loops.turned(k)), swap(v)))
        gate = torch.nn.functional.silu(loops.project(x, p["y_x.weight"]))
        y = loops.rms(o, p["y_rmsnorm.weight"], 1e-5) * gate
        return loops.merge(y, p["out.weight"])

    compare("retnet", "Retention", {"D": 8, "heads": 2}, theirs)


def test_based() -> None:
    naive = fla_file("ops/based/naive.py").naive_parallel_based
    loops = matrix()

    def theirs(p: Params, x: Tensor) -> Tensor:
        q, k, v = (swap(y) for y in loops.heads_of(p, x, "q", "k", "v"))
        return loops.merge(swap(naive(q, k, v)), p["out.weight"])

    compare("based", "Based", {"D": 6, "heads": 2, "K": 3}, theirs)


def test_linear_attention() -> None:
    naive = fla_file("ops/linear_attn/naive.py").naive_recurrent_linear_attn
    loops = matrix()

    def theirs(p: Params, x: Tensor) -> Tensor:
        q, k, v = loops.heads_of(p, x, "q", "k", "v")
        q, k = (torch.nn.functional.elu(y) + 1 for y in (q, k))
        o, _ = naive(q, k, v, scale=1.0, normalize=True)
        return loops.merge(o, p["out.weight"]) + p["out.bias"]

    compare("linear_attention", "LinearAttention", {"D": 6, "heads": 2}, theirs)


@pytest.mark.parametrize(
    ("file", "layer", "options"),
    [
        ("rwkv5", "RWKV5", {"D": 6, "K": 3}),
        ("rwkv6", "RWKV6", {"D": 6, "K": 3, "rank": 2, "decay_rank": 2}),
    ],
    ids=["rwkv5", "rwkv6"],
)
def test_bonus(
    monkeypatch: pytest.MonkeyPatch, file: str, layer: str, options: dict[str, Scalar]
) -> None:
    """RWKV-5 is RWKV-6 with a constant decay."""
    naive = fla_file("ops/rwkv6/recurrent_naive.py").naive_recurrent_rwkv6

    def bonus(r: Tensor, k: Tensor, v: Tensor, w: Tensor, u: Tensor) -> Tensor:
        return swap(naive(swap(r), swap(k), swap(v), swap(w.log()), u, scale=1.0)[0])

    monkeypatch.setattr(matrix(), "bonus", bonus)
    compare(file, layer, options, getattr(matrix(), file))


# ---- Delta rules


def plain_delta(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, decay: Tensor) -> Tensor:
    naive = fla_file("ops/delta_rule/naive.py").delta_rule_recurrence
    q = q * math.sqrt(q.shape[-1])
    return swap(naive(swap(q), swap(k), swap(v), swap(beta))[0])


def gated_delta(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, decay: Tensor) -> Tensor:
    naive = fla_file("ops/gated_delta_rule/naive.py").naive_recurrent_gated_delta_rule
    log = decay.log()[..., 0].expand(k.shape[:-1])
    return naive(q, k, v, beta, log, scale=1.0)[0]


def channel_delta(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor, decay: Tensor
) -> Tensor:
    naive = fla_file("ops/kda/naive.py").naive_recurrent_kda
    return naive(q, k, v, decay.log(), beta, scale=1.0)[0]


def delta_product(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor, decay: Tensor
) -> Tensor:
    """Two rows per token here; theirs takes one query and one decay per token."""
    file = fla_file("ops/gated_delta_product/naive.py")
    naive = file.naive_recurrent_gated_delta_product
    log = decay.log()[:, ::2, :, 0]
    o, _ = naive(q[:, 1::2], k, v, log, beta, 1.0, num_householder=2)
    return o.repeat_interleave(2, 1)


@pytest.mark.parametrize(
    ("file", "layer", "options", "delta"),
    [
        ("deltanet", "DeltaNet", {"D": 6, "heads": 2, "most": 2}, plain_delta),
        (
            "gated_deltanet",
            "GatedDeltaNet",
            {"D": 6, "heads": 2, "groups": 2},
            gated_delta,
        ),
        ("kda", "KDA", {"D": 6, "heads": 2}, channel_delta),
        (
            "gated_deltaproduct",
            "GatedDeltaProduct",
            {"D": 6, "heads": 2},
            delta_product,
        ),
    ],
    ids=["deltanet", "gated_deltanet", "kda", "gated_deltaproduct"],
)
def test_delta(
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    layer: str,
    options: dict[str, Scalar],
    delta: Callable[..., Tensor],
) -> None:
    monkeypatch.setattr(matrix(), "delta", delta)
    compare(file, layer, options, getattr(matrix(), file))


def test_rwkv7(monkeypatch: pytest.MonkeyPatch) -> None:
    """Diagonal plus low rank: alpha = -kk, beta = a kk."""
    naive = fla_file("ops/generalized_delta_rule/dplr/naive.py").dplr_recurrence

    def scan(step: object, start: Tensor, *inputs: Tensor) -> Tensor:
        r, w, k, v, a, kk = (swap(y) for y in inputs)
        q = r * math.sqrt(r.shape[-1])
        return swap(naive(q, k, v, -kk.float(), (a * kk).float(), w.log())[0])

    monkeypatch.setattr(matrix(), "scan", scan)
    first = noise(BATCH, TIME, 6, seed=9)
    options: dict[str, Scalar] = {"D": 6, "K": 3, "gate_rank": 2}
    params = moved("rwkv7", "RWKV7", options)
    agree(
        lambda x: ours("rwkv7", "RWKV7", options, params, x=x, first=first),
        partial(matrix().rwkv7, params, first=first),
        noise(BATCH, TIME, 6),
        SINGLE,
    )


def test_path() -> None:
    naive = fla_file("ops/path_attn/naive.py").naive_path_attn
    loops = matrix()

    def theirs(p: Params, x: Tensor) -> Tensor:
        q, k, v = loops.heads_of(p, x, "q", "k", "v")
        low = loops.project(x @ p["low_x.weight"].T, p["low_linear.weight"])
        w = loops.unit(torch.nn.functional.silu(loops.short(low, p["w.filter.weight"])))
        beta = 2 * loops.project(x, p["beta.weight"], p["beta.bias"]).sigmoid()
        flat = torch.zeros_like(beta)
        o = naive(q, k, v, w, beta, flat, q.shape[-1] ** -0.5, chunk_size=4)
        return loops.merge(o, p["out.weight"])

    compare("path", "PaTH", {"D": 6, "heads": 2, "rank": 3}, theirs)
