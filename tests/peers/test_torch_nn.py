"""Classical cells and attention against PyTorch's own modules, in double precision.

Outputs, gradients and the state after a sequence agree to 1e-9. Of the Jordan network no
published code was found; it is composed of torch's parts, and what is its own, the context,
is what SciPy's filter makes of the outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from peer import PARITY, apart, peer
from torch import Tensor, nn

import seqdsl

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]

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


def compared(name: str, pairs: list[tuple[Tensor, Tensor]]) -> None:
    """Close outputs and gradients, noted as the parity of the layer."""
    (y, dy), (z, dz) = pairs
    close((y, dy), (z, dz))
    PARITY.oracle, PARITY.layer = "torch", name
    PARITY.note(apart(y, z), apart(dy, dz))


def both(ours: Any, theirs: Any, x: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Outputs of each, and gradients in x of one random projection of them."""
    found: list[tuple[Tensor, Tensor]] = []
    for run in (ours, theirs):
        leaf = x.clone().requires_grad_()
        y: Tensor = run(leaf)
        (slope,) = torch.autograd.grad((y * noise(*y.shape)).sum(), leaf)
        found.append((y.detach(), slope))
    return found


def outputs_of(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """What `module` returns, its state aside."""

    def run(x: Tensor) -> Tensor:
        return module(x)[0]

    return run


def agree(
    name: str, ours: Any, theirs: nn.Module, params: dict[str, Tensor]
) -> tuple[Any, Any]:
    """The states after a sequence, once outputs and gradients are found equal."""
    ours.load_state_dict(params)
    x = noise(BATCH, TIME, D)
    compared(name, both(ours, outputs_of(theirs), x))
    return ours(x, return_state=True)[1], theirs(x)[1]


def test_elman() -> None:
    theirs = nn.RNN(D, H, batch_first=True)
    ours = seqdsl.std.elman.Elman(D=D, H=H, dtype=torch.float64)
    mine, their = agree("std.elman:Elman", ours, theirs, gates(theirs, "h", "h"))
    close(mine["h"], their[0])


def test_gru() -> None:
    theirs = nn.GRU(D, H, batch_first=True)
    ours = seqdsl.std.gru.GRU(D=D, H=H, dtype=torch.float64)
    mine, their = agree("std.gru:GRU", ours, theirs, gates(theirs, "r z n", "h"))
    close(mine["h"], their[0])


def test_lstm() -> None:
    theirs = nn.LSTM(D, H, batch_first=True)
    ours = seqdsl.std.lstm.LSTM(D=D, H=H, dtype=torch.float64)
    mine, (h, c) = agree("std.lstm:LSTM", ours, theirs, gates(theirs, "i f g o", "h"))
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
    compared(f"std.bidirectional:{layer}", both(ours, outputs_of(theirs), x))


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

    def attended(x: Tensor) -> Tensor:
        return theirs(x, x, x, attn_mask=later)[0]

    compared("std.attention:MHA", both(ours, attended, x))


class Jordan(nn.Module):
    """Jordan's network of torch's parts: tanh is a sigmoid of twice the argument."""

    def __init__(self, D: int, H: int, O: int, mu: float):
        super().__init__()
        self.hidden, self.out = nn.RNNCell(D, H), nn.Linear(H, O)
        self.fed = nn.Linear(O, H, bias=False)
        self.mu = mu

    def forward(self, x: Tensor) -> Tensor:
        context = torch.zeros(len(x), self.out.out_features)
        outputs: list[Tensor] = []
        for now in x.unbind(1):
            # the cell's own recurrent matrix is the identity: it adds what the context feeds
            h = self.hidden(now / 2, self.fed(context) / 2) / 2 + 0.5
            outputs.append(nn.functional.softmax(self.out(h), -1))
            context = outputs[-1] + self.mu * context
        return torch.stack(outputs, 1)


def test_jordan() -> None:
    theirs = Jordan(D, H, 5, 0.7)
    theirs.hidden.weight_hh.data = torch.eye(H)
    theirs.hidden.bias_hh.data.zero_()
    w = theirs.state_dict()
    params = {
        "h_x.weight": w["hidden.weight_ih"],
        "h_x.bias": 2 * w["hidden.bias_ih"],
        "h_c.weight": w["fed.weight"],
        "y.weight": w["out.weight"],
        "y.bias": w["out.bias"],
    }
    ours: Any = seqdsl.std.jordan.Jordan(D=D, H=H, O=5, mu=0.7, dtype=torch.float64)
    ours.load_state_dict(params)
    x = noise(BATCH, TIME, D)
    compared("std.jordan:Jordan", both(ours, theirs, x))
    y, state = ours(x, return_state=True)
    filtered = peer("scipy.signal", "scipy").lfilter(
        [0, 1], [1, -0.7], y.detach(), axis=1
    )
    close(state["c"], torch.as_tensor(filtered[:, -1]))
