"""Kernels for the vectors of other processors, as far as this one runs them."""

from __future__ import annotations

import platform
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor

import seqdsl
from seqdsl.backends.mlir import machine
from seqdsl.elaborate import elaborate, load_text
from seqdsl.native.load import available
from seqdsl.native.standalone import mlir_text

HOSTS = {"AVX2": (256, 16), "NEON": (128, 32), "SSE2": (128, 16)}

std = seqdsl.std
LAYERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "gla": (std.gla.GLA, {"D": 12, "heads": 2, "K": 7, "V": 9, "rank": 3}),
    "lstm": (std.lstm.LSTM, {"D": 12, "H": 21}),
    "aaren": (std.aaren.Aaren, {"D": 12, "heads": 2}),
}


def results(module: Any, x: Tensor) -> list[Tensor]:
    x = x.clone().requires_grad_()
    y = module(x)
    (y * torch.linspace(-1, 1, y.numel()).view(y.shape)).sum().backward()
    return [
        y.detach(),
        *(p.grad for p in (x, *module.parameters()) if p.grad is not None),
    ]


@pytest.mark.skipif(not available(), reason="torch-mlir is not installed")
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("host", HOSTS)
def test_vectors_of_any_width_give_the_same(
    host: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "host_vectors", lambda: HOSTS[host])
    layer, options = LAYERS[name]
    kernel = layer(target="mlir", **options)
    plain = layer(target="torch", strategy="loop", **options)
    plain.load_state_dict(kernel.state_dict())
    x = torch.randn(3, 19, 12)
    for a, b in zip(results(kernel, x), results(plain, x), strict=True):
        torch.testing.assert_close(a, b, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize(
    ("flags", "name", "expected"),
    [
        ({"sse2", "avx", "avx2", "fma", "avx512f", "avx512vl"}, "x86_64", (512, 32)),
        ({"sse2", "avx", "avx2", "fma", "avx512f"}, "x86_64", (256, 16)),
        ({"sse2", "avx", "avx2", "fma"}, "x86_64", (256, 16)),
        ({"sse2"}, "x86_64", (128, 16)),
        ({"fp", "asimd"}, "aarch64", (128, 32)),
        (set[str](), "arm64", (128, 32)),
    ],
)
def test_vectors_are_those_of_the_host(
    flags: set[str],
    name: str,
    expected: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "host_features", lambda: frozenset(flags))
    monkeypatch.setattr(platform, "machine", lambda: name)
    assert machine.host_vectors.__wrapped__() == expected


@pytest.mark.skipif(
    find_spec("iree") is None, reason="iree-base-compiler is not installed"
)
def test_the_text_compiles_for_other_processors() -> None:
    """By LLVM's options alone: code for AArch64, whose vectors are NEON's."""
    from iree import compiler  # type: ignore[import-untyped]

    tools: Any = compiler
    text = (
        "layer Row(H):\n    input x: [H]\n    state h: [H] = 0\n"
        "    h = sigmoid(x) * h[t-1] + tanh(x)\n    output h\n"
    )
    model = elaborate(load_text(text, "row.seq", None), "Row", {}).model
    flags = [
        "--iree-llvmcpu-target-triple=aarch64-none-linux-gnu",
        "--iree-llvmcpu-target-cpu-features=+neon",
        "--iree-llvmcpu-link-embedded=true",
    ]
    code = tools.compile_str(
        mlir_text(model, {"H": 20}, "linalg"),
        target_backends=["llvm-cpu"],
        extra_args=flags,
    )
    # an ELF file for AArch64 (machine 183) is embedded
    at = code.find(b"\x7fELF\x02\x01")
    assert at >= 0 and int.from_bytes(code[at + 18 : at + 20], "little") == 183
