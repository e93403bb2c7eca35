"""RWKV-5 and RWKV-6 against their authors' package, whole and continued from a state.

Its functions take a sequence without a batch, normalize it first and add it to their result;
their token shift says how much of the present is kept, ours how much of the past comes in.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest
import torch
from peer import PARITY, apart, noise, peer
from torch import Tensor

import seqdsl

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]

D, K, TIME, CUT = 6, 3, 9, 4
H = D // K
SINGLE = 1e-5
UNQUANTIZED = (None,) * 20


def package(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The class of the versions up to 6; which one it holds is said by the environment."""
    monkeypatch.setitem(os.environ, "RWKV_JIT_ON", "0")
    monkeypatch.delitem(os.environ, "RWKV_V7_ON", raising=False)
    monkeypatch.delitem(sys.modules, "rwkv.model", raising=False)
    return peer("rwkv.model", "rwkv").RWKV


def weights(*names: str, **shapes: tuple[int, ...]) -> dict[str, Tensor]:
    """Random tensors: `[D]` for the names, and of the shapes given."""
    all_ = {name: (D,) for name in names} | shapes
    return {n: 0.4 * noise(*s, seed=i).float() for i, (n, s) in enumerate(all_.items())}


def same(layer: Any, their: Any, norm: tuple[Tensor, Tensor], w: list[Any]) -> None:
    """Equal outputs and gradients of a sequence, and of its end from the state at `CUT`."""
    x = noise(TIME, D, seed=7).float().requires_grad_()
    empty = torch.zeros(D), torch.zeros(H, K, K)

    def run(x: Tensor, shift: Tensor, state: Tensor) -> tuple[Tensor, ...]:
        out, shift, state = their(None, x, shift, state, *norm, *w, *UNQUANTIZED)
        return out - x, shift, state

    def ours(x: Tensor, **given: Any) -> Any:
        normed = torch.nn.functional.layer_norm(x, (D,), *norm)
        return layer(normed[None], **given)

    whole, _, _ = run(x, *empty)
    mine = ours(x)[0]
    assert apart(mine, whole) < SINGLE
    slopes = [
        torch.autograd.grad((y * noise(TIME, D).float()).sum(), [x])[0]
        for y in (mine, whole)
    ]
    assert apart(*slopes) < 10 * SINGLE
    PARITY.layer = f"std.{type(layer).__name__.lower()}:{type(layer).__name__}"
    PARITY.note(apart(mine, whole), apart(*slopes))
    _, shift, state = run(x[:CUT], *empty)
    rest, _, _ = run(x[CUT:], shift, state)
    _, kept = ours(x[:CUT], return_state=True)
    assert apart(kept["S"][0], state) < SINGLE
    assert apart(ours(x[CUT:], state=kept)[0], rest) < SINGLE


def loaded(layer: Any, params: dict[str, Tensor]) -> Any:
    shapes = {key: value.shape for key, value in layer.state_dict().items()}
    assert shapes.keys() == params.keys()
    layer.load_state_dict({k: v.reshape(shapes[k]) for k, v in params.items()})
    return layer


def rows(w: Tensor) -> Tensor:
    """A matrix that multiplies from the right, as one of `torch.nn.Linear`."""
    return w.T.contiguous()


def test_rwkv5(monkeypatch: pytest.MonkeyPatch) -> None:
    their = package(monkeypatch).att_seq_v5_2
    w = weights(
        "ln_w", "ln_b", "lx_w", "lx_b", *(f"mix_{n}" for n in "kvrg"),
        decay=(H, K, 1), first=(H, K, 1), **{n: (D, D) for n in "kvrgo"},
    )  # fmt: skip
    layer = seqdsl.std.rwkv5.RWKV5(D=D, K=K)
    params = {
        **{f"mu_{n}": 1 - w[f"mix_{n}"] for n in "kvrg"},
        **{f"{n}.weight": rows(w[n]) for n in "kvrg"},
        "decay": w["decay"],
        "bonus": w["first"],
        "out_groupnorm.weight": w["lx_w"],
        "out_groupnorm.bias": w["lx_b"],
        "out_linear.weight": rows(w["o"]),
    }
    given = [w["lx_w"], w["lx_b"], *(w[f"mix_{n}"] for n in "kvrg")]
    given += [torch.exp(-torch.exp(w["decay"])), w["first"]]
    given += [w[n] for n in "kvrgo"]
    same(loaded(layer, params), their, (w["ln_w"], w["ln_b"]), given)


def test_rwkv6(monkeypatch: pytest.MonkeyPatch) -> None:
    their = package(monkeypatch).att_seq_v6_0
    rank, decay_rank = 2, 4
    w = weights(
        "ln_w", "ln_b", "lx_w", "lx_b", *(f"maa_{n}" for n in "xwkvrg"),
        tm_w1=(D, 5 * rank), tm_w2=(5, rank, D), td_w1=(D, decay_rank),
        td_w2=(decay_rank, D), decay=(H, K, 1), first=(H, K, 1),
        **{n: (D, D) for n in "kvrgo"},
    )  # fmt: skip
    layer = seqdsl.std.rwkv6.RWKV6(D=D, K=K, rank=rank, decay_rank=decay_rank)
    order = [3, 0, 1, 2, 4]  # theirs is w k v r g, ours r w k v g
    params = {
        "mu_x": w["maa_x"],
        **{f"mu_{n}": w[f"maa_{n}"] for n in "rwkvg"},
        "W2": w["tm_w2"][order],
        "low.weight": rows(w["tm_w1"]).reshape(5, rank, D)[order],
        "decay": w["decay"],
        "bonus": w["first"],
        "hidden.weight": rows(w["td_w1"]),
        "rate.weight": rows(w["td_w2"]),
        **{f"{n}.weight": rows(w[n]) for n in "kvrg"},
        "out_groupnorm.weight": w["lx_w"],
        "out_groupnorm.bias": w["lx_b"],
        "out_linear.weight": rows(w["o"]),
    }
    given = [w["lx_w"], w["lx_b"], *(w[f"maa_{n}"] for n in "xwkvrg")]
    given += [w[n] for n in ("tm_w1", "tm_w2", "td_w1", "td_w2", "decay", "first")]
    given += [w[n] for n in "kvrgo"]
    same(loaded(layer, params), their, (w["ln_w"], w["ln_b"]), given)
