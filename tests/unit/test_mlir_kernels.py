"""Kernels at sizes where vectors end, chunks are run again and threads share the work."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

import seqdsl
from seqdsl.native.load import available

pytestmark = pytest.mark.skipif(not available(), reason="torch-mlir is not installed")

std = seqdsl.std
LAYERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "gla": (std.gla.GLA, {"D": 24, "heads": 2, "K": 7, "V": 19, "rank": 3}),
    "gated delta": (std.gated_deltanet.GatedDeltaNet, {"D": 24, "heads": 2}),
    "kda": (std.kda.KDA, {"D": 16, "heads": 2}),
    "mlstm": (std.mlstm.MLSTM, {"D": 12, "heads": 2, "K": 5, "V": 17}),
    "mamba": (std.mamba.Mamba, {"D": 10}),
    "lstm": (std.lstm.LSTM, {"D": 9, "H": 37}),
    "slstm": (std.slstm.SLSTM, {"D": 18, "heads": 2}),
    "mingru": (std.mingru.MinGRU, {"D": 133}),
}


def pair(name: str, dtype: torch.dtype = torch.float64) -> tuple[Any, Any]:
    """The layer with kernels, and the same in torch."""
    layer, options = LAYERS[name]
    torch.random.manual_seed(0)  # pyright: ignore[reportUnknownMemberType]
    kernel = layer(target="mlir", **options)
    plain = layer(target="torch", strategy="loop", **options)
    plain.load_state_dict(kernel.state_dict())
    return kernel.to(dtype), plain.to(dtype)


def width(name: str) -> int:
    return LAYERS[name][1]["D"]


def gradients(module: Any, x: Tensor, upstream: Tensor) -> list[Tensor]:
    """Those of the input and of all parameters."""
    x = x.clone().requires_grad_()
    wanted = [x, *module.parameters()]
    (module(x) * upstream).sum().backward()
    return [torch.zeros_like(w) if w.grad is None else w.grad for w in wanted]


@pytest.mark.parametrize("name", LAYERS)
def test_long_sequences_and_many_rows(name: str) -> None:
    """Batches that blocks of rows do not divide, more steps than a chunk has."""
    kernel, plain = pair(name)
    x = torch.randn(5, 141, width(name), dtype=torch.float64)
    y = plain(x)
    torch.testing.assert_close(kernel(x), y)
    upstream = torch.randn_like(y)
    ours, theirs = gradients(kernel, x, upstream), gradients(plain, x, upstream)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_do_not_change_the_result(threads: int) -> None:
    before = torch.get_num_threads()
    kernel, plain = pair("gla")
    x = torch.randn(9, 200, 24, dtype=torch.float64)
    expected = plain(x)
    torch.set_num_threads(threads)
    try:
        found = kernel(x)
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", ["gla", "lstm", "mingru"])
def test_bfloat16_is_computed_in_single_precision(name: str) -> None:
    kernel, _ = pair(name, torch.float32)
    x = torch.randn(2, 30, width(name)).bfloat16().float()
    with torch.no_grad():
        for p in kernel.parameters():
            p.copy_(p.bfloat16().float())
        exact = kernel(x)
        found = kernel.bfloat16()(x.bfloat16())
    assert found.dtype == torch.bfloat16
    # the products with weights are rounded by torch, which decides the precision
    assert (found.float() - exact).abs().max() <= 0.05 * exact.abs().max()


def test_no_state_of_every_step_is_stored() -> None:
    """What the backward pass keeps of a matrix state is less than an eighth of all."""
    kernel = std.gla.GLA(D=24, heads=2, K=32, V=32, rank=3, target="mlir")
    x = torch.randn(1, 512, 24, requires_grad=True)
    sizes: list[int] = []

    def note(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        kernel(x)
    assert max(sizes) < 512 * 2 * 32 * 32 / 8


def test_time_grows_without_memory() -> None:
    kernel = std.ema.EMA(D=1, target="mlir")
    x = torch.randn(1, 1_000_000, 1)
    with torch.no_grad():
        y, state = kernel(x, return_state=True)
    torch.testing.assert_close(y[:, -1], state["m"])


def test_calls_that_kernels_cannot_serve_run_in_torch() -> None:
    layer = std.mingru.MinGRU(D=4)
    x = torch.randn(2, 6, 4)
    expected = layer(x)
    half = layer.half()(x.half())
    assert half.dtype == torch.float16
    torch.testing.assert_close(half.float(), expected, rtol=0.02, atol=0.02)
    layer = layer.float()

    def call(x: Tensor) -> Tensor:
        return layer(x[None])[0]

    mapped = torch.func.vmap(call)(x)
    torch.testing.assert_close(mapped, layer(x), rtol=1e-3, atol=1e-3)
    strict = std.mingru.MinGRU(D=4, target="mlir").half()
    with pytest.raises(seqdsl.CallError, match="float16"):
        strict(x.half())


def test_a_loop_without_a_kernel_is_refused_when_the_layer_is_made() -> None:
    text = (
        "layer Row(D):\n    input x: [D]\n    input n: int per call\n"
        "    state h: [D] = 0\n    repeat j in n:\n        state u: [D] = h[t-1]\n"
        "        u = tanh(u[j-1] + x)\n    h = u[j = last]\n    output h\n"
    )
    with pytest.raises(seqdsl.UnsupportedError, match="Row"):
        seqdsl.loads(text).Row(D=3, target="mlir")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        seqdsl.loads(text).Row(D=3)
