"""What users of other libraries have run into, tried on layers of ours.

Each test stands for a class of reports and would have found it: forms that disagree, state
lost between pieces, packing that changes its argument, lengths that are no multiple, NaN
from large gates, gradients of chained scans, gradients of final states of short pieces.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

import seqdsl

std: Any = seqdsl.std
LAYERS: dict[str, tuple[Any, dict[str, int]]] = {
    "gla": (std.gla.GLA, {"D": 8, "heads": 2}),
    "gated delta": (std.gated_deltanet.GatedDeltaNet, {"D": 8, "heads": 2}),
    "minGRU": (std.mingru.MinGRU, {"D": 8}),
    "mLSTM": (std.mlstm.MLSTMBlock, {"D": 8, "heads": 2}),
}
STRATEGIES = ("loop", "scan", "chunk:16", "auto")


def made(name: str, strategy: str = "auto") -> Any:
    torch.default_generator.manual_seed(0)
    layer, options = LAYERS[name]
    return layer(**options, strategy=strategy).double()


def sequence(time: int, batch: int = 2) -> Tensor:
    make = torch.Generator().manual_seed(1)
    return torch.randn(batch, time, 8, generator=make, dtype=torch.float64)


def close(x: Tensor, y: Tensor) -> None:
    torch.testing.assert_close(x, y, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", LAYERS)
def test_forms_agree_at_lengths_that_are_no_multiple_of_anything(name: str) -> None:
    """fla 494, 285, 547, 88; mamba 449, 716; mlstm_kernels 8."""
    for time in (1, 7, 37):
        x = sequence(time).requires_grad_()
        found: list[Tensor] = []
        for strategy in STRATEGIES:
            layer = made(name, strategy)
            y = layer(x)
            slopes = torch.autograd.grad(y.sin().sum(), [x, *layer.parameters()])
            found.append(torch.cat([y.flatten(), *(s.flatten() for s in slopes)]))
        for other in found[1:]:
            close(other, found[0])


@pytest.mark.parametrize("name", LAYERS)
def test_pieces_and_steps_are_the_whole_and_can_be_repeated(name: str) -> None:
    """fla 351, 623; mamba 1024, 500, 641, 683, 536; transformers 46741; titans-pytorch 6."""
    layer, x = made(name), sequence(23)
    whole, last = layer(x, return_state=True)
    first, state = layer(x[:, :9], return_state=True)
    for _ in range(2):
        rest, after = layer(x[:, 9:], state=state, return_state=True)
        close(torch.cat([first, rest], 1), whole)
        for a, b in zip(_tensors(after), _tensors(last), strict=True):
            close(a, b)
    for t in range(9, 23):
        y, state = layer.step(x[:, t], state)
        close(y, whole[:, t])


def _tensors(state: Any) -> list[Tensor]:
    leaves: list[Tensor] = pytree.tree_leaves(state)
    return [x for x in leaves if x.is_floating_point()]


@pytest.mark.parametrize("name", LAYERS)
def test_packing_leaves_its_arguments_alone(name: str) -> None:
    """fla 838, 1086, 837, 955: ids as they were, gradients those of rows of their own."""
    layer = made(name)
    x = sequence(21, 1).requires_grad_()
    ids = torch.tensor([[3] * 5 + [1] * 1 + [3] * 15])
    before = ids.clone()
    packed = layer(x, segments=ids)
    alone = torch.cat([layer(x[:, a:b]) for a, b in ((0, 5), (5, 6), (6, 21))], 1)
    assert torch.equal(ids, before)
    close(packed, alone)
    at = [x, *layer.parameters()]
    for a, b in zip(
        torch.autograd.grad(packed.sin().sum(), at),
        torch.autograd.grad(alone.sin().sum(), at),
        strict=True,
    ):
        close(a, b)


@pytest.mark.parametrize("time", [1, 2, 3, 20])
def test_gradients_of_the_final_state_of_short_pieces(time: int) -> None:
    """fla 1146: a piece shorter than the window of its convolution."""
    loop, chunk = (made("gated delta", s) for s in ("loop", "chunk:16"))
    x = sequence(time).requires_grad_()
    found: list[Tensor] = []
    for layer in (loop, chunk):
        _, state = layer(x, return_state=True)
        total = torch.stack([s.sin().sum() for s in _tensors(state)]).sum()
        found.append(torch.autograd.grad(total, x)[0])
    close(found[1], found[0])


CHAINED = """
layer Chained(D):
    input x: [D]
    state a: [D] = 0
    state b: [D] = 0
    a = sigmoid(x) * a[t-1] + x
    b = sigmoid(a) * b[t-1] + tanh(a)
    output b
"""


def test_gradients_of_chained_scans() -> None:
    """pytorch 153679, Bi-Mamba2 3: one scan reads what another has made."""
    spec, x = seqdsl.loads(CHAINED), sequence(40).requires_grad_()
    loop, scan = (spec.Chained(D=8, strategy=s) for s in ("loop", "scan"))
    check: Any = torch.autograd.gradcheck
    assert check(scan, (x[:1, :6],))
    for a, b in zip(*(_slopes(layer, x) for layer in (loop, scan)), strict=True):
        close(a, b)


def _slopes(layer: Any, x: Tensor) -> list[Tensor]:
    slope = torch.autograd.grad(layer(x).sin().sum(), x, create_graph=True)[0]
    return [slope, torch.autograd.grad(slope.square().sum(), x)[0]]


GATED = """
layer Gated(K, V):
    input k: [K]
    input v: [V]
    input g: [K]
    state S: [K, V] = 0
    S = exp(-softplus(g)) * S[t-1] + k * v
    output dot[K](k, S)
"""


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_large_gates_give_numbers(strategy: str) -> None:
    """fla 77, 122, 215, 99, 19, 1187; mamba 352, 354, 445; titans-pytorch 53."""
    layer = seqdsl.loads(GATED).Gated(K=4, V=4, strategy=strategy)
    make = torch.Generator().manual_seed(1)
    k, v, g = (torch.randn(2, 50, 4, generator=make) for _ in "kvg")
    given = [k, v, 300 * g]
    for x in given:
        x.requires_grad_()
    y = layer(*given)
    exact = seqdsl.loads(GATED).Gated(K=4, V=4, strategy="loop")
    torch.testing.assert_close(
        y.double(), exact(*(x.double() for x in given)), rtol=1e-4, atol=1e-4
    )
    for slope in torch.autograd.grad(y.sum(), given):
        assert bool(slope.isfinite().all())


def test_sequences_longer_than_16_bit_positions() -> None:
    """mamba 1015: silently wrong beyond 61 thousand steps."""
    layer = std.mingru.MinGRU(D=2, strategy="scan").double()
    x = torch.randn(1, 70_000, 2, dtype=torch.float64)
    whole = layer(x)
    _, state = layer(x[:, :66_000], return_state=True)
    close(layer(x[:, 66_000:], state=state), whole[:, 66_000:])
