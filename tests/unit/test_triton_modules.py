"""Modules with kernels, made from specs, in Triton's interpreter."""

# pyright: reportUnknownMemberType=false

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from elaborating import model

import seqdsl

pytest.importorskip("triton", reason="Triton is there for Linux only")

from seqdsl.backends.triton.bounded import bounded_log
from seqdsl.backends.triton.interpreting import repair

repair()
LAYERS = {
    ("gla", "GLA", "chunks_fused"): {"D": 16, "heads": 2},
    ("retnet", "Retention", "chunks_fused"): {"D": 16, "heads": 2},
    ("rwkv6", "RWKV6", "chunks_fused"): {"D": 32, "K": 16},
    ("gated_deltanet", "GatedDeltaNet", "chunks_fused"): {"D": 16, "heads": 2},
    ("mingru", "MinGRU", "scan_fused"): {"D": 6},
}


def watched(module: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Calls of a function of the generated file."""
    file = sys.modules[type(module).__module__]
    function, calls = getattr(file, name), list[str]()

    def watch(*args: Any) -> Any:
        calls.append(name)
        return function(*args)

    monkeypatch.setattr(file, name, watch)
    return calls


@pytest.mark.parametrize("layer", LAYERS, ids=lambda x: x[1])
def test_kernels_compute_what_the_loop_computes(
    layer: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    file, name, used = layer
    made = getattr(getattr(seqdsl.std, file), name)
    options = LAYERS[layer]
    mine: Any = made(target="triton", **options)
    loop: Any = made(target="torch", strategy="loop", **options)
    loop.load_state_dict(mine.state_dict())
    calls = watched(mine, used, monkeypatch)
    x = torch.randn(2, 37, options["D"])
    ids = torch.tensor([[0] * 20 + [1] * 17, [3] * 5 + [4] * 32])
    found: list[list[torch.Tensor]] = []
    for module in (mine, loop):
        y, state = module(x, segments=ids, return_state=True)
        z = module(x[:, :9], state=state, segments=ids[:, -1:].expand(2, 9))
        loss = y.square().sum() + z.square().sum()
        parameters = list(module.parameters())
        found.append([y, z, *torch.autograd.grad(loss, parameters)])
    assert calls == [used, used]
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=2e-4)


def test_a_file_stands_alone(tmp_path: Path) -> None:
    spec = seqdsl.std.gla
    from seqdsl import driver

    artifact = driver.artifact(spec.GLA.elaborate(D=16, heads=2), "triton", "auto")
    (tmp_path / artifact.main).write_text(artifact.text)
    script = (
        "import sys, torch; from gla_triton import GLA\n"
        "y = GLA(D=16, heads=2)(torch.randn(1, 5, 16)); y.sum().backward()\n"
        "assert 'seqdsl' not in sys.modules; print(tuple(y.shape))"
    )
    command = [sys.executable, "-c", script]
    run = subprocess.run(
        command,
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": "."},
    )
    assert run.stdout.strip() == "(1, 5, 16)", run.stderr


def test_layers_may_be_called_as_kernels_are() -> None:
    text = """
layer scan(D):
    input x: [D]
    state h: [D] = 0
    h = sigmoid(x) * h[t-1] + x
    output h
"""
    layer: Any = seqdsl.loads(text).scan(D=3, target="triton")
    x = torch.randn(1, 40, 3)
    want: Any = seqdsl.loads(text).scan(D=3, strategy="loop", target="torch")(x)
    torch.testing.assert_close(layer(x), want)


BOUNDED = {
    "exp(x)": True,
    "sigmoid(x)": True,
    "0.5 * sigmoid(x)": True,
    "exp(x) * sigmoid(x)": True,
    "relu(x)": False,
    "x": False,
    "0 * exp(x)": False,
    "-exp(x)": False,
}


@pytest.mark.parametrize("decay", BOUNDED)
def test_which_decays_are_known_by_their_logarithms(decay: str) -> None:
    made = model(f"layer L(D):\n    input x: [D]\n    a = {decay}\n    output a")
    assert bounded_log(made, made.equation["a"].expr) is BOUNDED[decay]
