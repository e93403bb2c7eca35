"""Loops and single steps as kernels, in Triton's interpreter, against float64."""

# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import seqdsl

pytest.importorskip("triton", reason="Triton is there for Linux only")

SPECS = Path(__file__).with_name("torch_specs")
LAYERS: Mapping[str, tuple[str, Mapping[str, int]]] = {
    "std.gru:GRU": ("forward", {"D": 3, "H": 5}),
    "std.lstm:PeepholeLSTM": ("forward", {"D": 3, "H": 5}),
    "std.slstm:SLSTM": ("forward", {"D": 6, "heads": 2}),
    "birnn.seq:BiRNN": ("forward", {"D": 3, "H": 5}),
    "std.gla:GLA": ("step", {"D": 8, "heads": 2}),
    "std.deltanet:DeltaNet": ("step", {"D": 8, "heads": 2}),
    "std.mingru:MinGRU": ("step", {"D": 5}),
}


def made(name: str, **more: Any) -> Any:
    file, _, layer = name.partition(":")
    if file.endswith(".seq"):
        spec: Any = seqdsl.load(SPECS / file)
    else:
        spec = getattr(seqdsl.std, file.removeprefix("std."))
    return getattr(spec, layer)(**LAYERS[name][1], **more)


def pair(name: str) -> tuple[Any, Any]:
    """A module with kernels, and the loop in float64."""
    torch.manual_seed(0)
    mine = made(name, target="triton")
    loop = made(name, target="torch", strategy="loop")
    loop.load_state_dict(mine.state_dict())
    return mine, loop.double()


def fused(module: Any, method: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Calls of the fused form of a method."""
    calls = list[str]()
    owner = module.__class__
    function = getattr(owner, f"_fused_{method}")

    def watch(*args: Any, **more: Any) -> Any:
        calls.append(method)
        return function(*args, **more)

    monkeypatch.setattr(owner, f"_fused_{method}", watch)
    return calls


def close(found: Any, wanted: Any) -> None:
    if isinstance(found, dict):
        for key in wanted:
            close(found[key], wanted[key])
    elif isinstance(found, tuple):
        for a, b in zip(cast("tuple[Any, ...]", found), wanted, strict=True):
            close(a, b)
    else:
        assert isinstance(found, Tensor) and isinstance(wanted, Tensor)
        wanted = wanted.to(found.dtype)
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", [n for n, (m, _) in LAYERS.items() if m == "forward"])
def test_loops(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, loop = pair(name)
    calls = fused(mine, "forward", monkeypatch)
    ids = torch.tensor([[0] * 4 + [1] * 3, [2] + [3] * 6])
    streams = not name.startswith("birnn")
    more: dict[str, Any] = {"return_state": True} if streams else {}
    with torch.no_grad():
        for time in (1, 7):
            x = 4 * torch.randn(2, time, LAYERS[name][1]["D"])
            for segments in (None, ids[:, :time]):
                found = mine(x, segments=segments, **more)
                close(found, loop(x.double(), segments=segments, **more))
    assert len(calls) == 4


# lanes beyond the extent of a dim divide 0 by 0; nothing reads them
@pytest.mark.filterwarnings("ignore:(divide by zero|invalid value)")
@pytest.mark.parametrize("name", [n for n, (m, _) in LAYERS.items() if m == "forward"])
def test_gradients_of_loops(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, loop = pair(name)
    calls = fused(mine, "forward", monkeypatch)
    ids = torch.tensor([[0] * 3 + [1] * 2, [2] + [3] * 4])
    x = 2 * torch.randn(2, 5, LAYERS[name][1]["D"])
    streams = not name.startswith("birnn")
    for segments in (None, ids):
        found: list[list[Tensor]] = []
        for module in (mine, loop):
            dtype = next(module.parameters()).dtype
            given = x.to(dtype, copy=True).requires_grad_()
            leaves, more = [given, *module.parameters()], dict[str, Any]()
            if streams:
                state = module.initial_state(2)
                firsts = {k: v for k, v in state.items() if v.is_floating_point()}
                torch.manual_seed(1)
                firsts = {
                    k: (0.5 + torch.rand(v.shape)).to(dtype).requires_grad_()
                    for k, v in firsts.items()
                }
                leaves += firsts.values()
                more = {"state": {**state, **firsts}, "return_state": True}
            outs = module(given, segments=segments, **more)
            last: Mapping[str, Tensor] = {}
            if streams:
                outs, last = outs
            ends = [v.sin().sum() for v in last.values() if v.is_floating_point()]
            loss = outs.square().sum() + sum(ends)
            found.append([outs, *torch.autograd.grad(loss, leaves)])
        for a, b in zip(*found, strict=True):
            largest = b.abs().max().clamp(min=1)
            close(a / largest, (b / largest).float())
    assert len(calls) == 2


@pytest.mark.parametrize("name", [n for n in LAYERS if not n.startswith("birnn")])
def test_steps(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, loop = pair(name)
    calls = fused(mine, "step", monkeypatch)
    x = torch.randn(2, 3, LAYERS[name][1]["D"])
    with torch.no_grad():
        one, two = mine.initial_state(2), loop.initial_state(2)
        for t in range(3):
            a, one = mine.step(x[:, t], one)
            b, two = loop.step(x[:, t].double(), two)
            close(a, b)
        close(one, two)
    assert len(calls) == 3


FUNCTIONS = {
    "tanh(u)": 1.0,
    "sigmoid(u)": 1.0,
    "softplus(u)": 1.0,
    "logsigmoid(u)": 1.0,
    "silu(u)": 1.0,
    "gelu(u)": 1.0,
    "exp(-abs(u))": 1.0,
    "max(u, 0.5)": 1.0,
    "u / (1 + square(u))": 1.0,
}


@settings(max_examples=12)
@given(
    st.sampled_from(list(FUNCTIONS)),
    st.sampled_from([1, 4, 9]),
    st.sampled_from([1, 5]),
    st.sampled_from([1e-3, 1.0, 30.0]),
)
def test_functions(function: str, time: int, size: int, scale: float) -> None:
    text = f"""
layer Cell(D):
    input x: [D]
    state h: [D] = 0
    u = x - 0.5 * mean[D](h[t-1]) + h[t-1]
    h = {function}
    output h
"""
    torch.manual_seed(time)
    layer: Any = seqdsl.loads(text).Cell(D=size, target="triton")
    assert hasattr(layer, "_fused_forward")
    x = scale * torch.randn(2, time, size)
    loop: Any = seqdsl.loads(text).Cell(D=size, target="torch", strategy="loop")
    with torch.no_grad():
        close(layer(x), loop(x.double()))


def test_what_is_too_large_stays_in_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    layer: Any = seqdsl.std.gru.GRU(D=2, H=300, target="triton")
    calls = fused(layer, "forward", monkeypatch)
    with torch.no_grad():
        layer(torch.randn(1, 2, 2))
    assert not calls
