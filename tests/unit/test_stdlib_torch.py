"""Classical cells and attention against PyTorch's own modules, in double precision.

Outputs, gradients and the state after a sequence agree to 1e-9.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import seqdsl

BATCH, TIME, D, H = 2, 7, 3, 4


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def close(ours: Any, theirs: Any) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-9)


def gates(
    theirs: nn.RNNBase, names: str, state: str, end: str = ""
) -> dict[str, Tensor]:
    """Their stacked weights as those of our gates, in the order in which they stack them."""
    params: dict[str, Tensor] = {}
    for kind, source in (("ih", "x"), ("hh", state)):
        for part in ("weight", "bias"):
            found = theirs.state_dict()[f"{part}_{kind}_l0{end}"]
            for name, one in zip(
                names.split(), found.chunk(len(names.split())), strict=True
            ):
                params[f"{name}_{source}.{part}"] = one
    return params


def agree(ours: Any, theirs: nn.Module, params: dict[str, Tensor]) -> tuple[Any, Any]:
    """The states after a sequence, once outputs and gradients are found equal."""
    ours.load_state_dict(params)
    x = noise(BATCH, TIME, D)
    results: list[tuple[Tensor, Tensor]] = []
    states: list[Any] = []
    for module, more in ((ours, {"return_state": True}), (theirs, {})):
        leaf = x.clone().requires_grad_()
        y, state = module(leaf, **more)
        (y * noise(*y.shape)).sum().backward()
        assert leaf.grad is not None
        results.append((y.detach(), leaf.grad))
        states.append(state)
    close(results[0], results[1])
    return states[0], states[1]


def test_elman() -> None:
    theirs = nn.RNN(D, H, batch_first=True)
    ours = seqdsl.std.elman.Elman(D=D, H=H, dtype=torch.float64)
    mine, their = agree(ours, theirs, gates(theirs, "h", "h"))
    close(mine["h"], their[0])


def test_gru() -> None:
    theirs = nn.GRU(D, H, batch_first=True)
    ours = seqdsl.std.gru.GRU(D=D, H=H, dtype=torch.float64)
    mine, their = agree(ours, theirs, gates(theirs, "r z n", "h"))
    close(mine["h"], their[0])


def test_lstm() -> None:
    theirs = nn.LSTM(D, H, batch_first=True)
    ours = seqdsl.std.lstm.LSTM(D=D, H=H, dtype=torch.float64)
    mine, (h, c) = agree(ours, theirs, gates(theirs, "i f g o", "h"))
    close((mine["h"], mine["c"]), (h[0], c[0]))


@pytest.mark.parametrize(
    ("layer", "kind", "forward", "backward"),
    [
        ("BidirectionalElman", nn.RNN, "f", "b"),
        ("BidirectionalGRU", nn.GRU, "rf zf nf", "rb zb nb"),
    ],
)
def test_both_directions(layer: str, kind: Any, forward: str, backward: str) -> None:
    theirs = kind(D, H, batch_first=True, bidirectional=True)
    ours = getattr(seqdsl.std.bidirectional, layer)(D=D, H=H, dtype=torch.float64)
    params = gates(theirs, forward, "f") | gates(theirs, backward, "b", "_reverse")
    ours.load_state_dict(params)
    x = noise(BATCH, TIME, D)
    close(ours(x), theirs(x)[0])


def test_attention() -> None:
    theirs = nn.MultiheadAttention(8, 2, batch_first=True)
    ours = seqdsl.std.attention.MHA(D=8, heads=2, dtype=torch.float64)
    w = theirs.state_dict()
    params = {"out.bias": w["out_proj.bias"]}
    params["out.weight"] = w["out_proj.weight"].reshape(8, 2, 4)
    for part in ("weight", "bias"):
        for name, one in zip("qkv", w[f"in_proj_{part}"].chunk(3), strict=True):
            params[f"{name}.{part}"] = one.reshape(2, 4, *one.shape[1:])
    ours.load_state_dict(params)
    x = noise(BATCH, TIME, 8)
    later = torch.ones(TIME, TIME, dtype=torch.bool).triu(1)
    expected, _ = theirs(x, x, x, attn_mask=later)
    close(ours(x), expected)
