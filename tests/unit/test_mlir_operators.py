"""Kernels as operators of torch: compiled whole, exported, checked by torch itself."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

import seqdsl
from seqdsl.native import ops
from seqdsl.native.load import available

pytestmark = pytest.mark.skipif(not available(), reason="torch-mlir is not installed")

std = seqdsl.std
LAYERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "gla": (std.gla.GLA, {"D": 8, "heads": 2}),
    "gru": (std.gru.GRU, {"D": 8, "H": 5}),
    "aaren": (std.aaren.Aaren, {"D": 8, "heads": 2}),
    "bidirectional": (std.bidirectional.BidirectionalMinGRU, {"D": 8, "H": 5}),
}


_compile: Any = getattr(torch, "compile")  # noqa: B009 (untyped)
_opcheck: Any = getattr(torch.library, "opcheck")  # noqa: B009 (untyped)


def made(name: str) -> Any:
    layer, options = LAYERS[name]
    torch.random.manual_seed(0)  # pyright: ignore[reportUnknownMemberType]
    return layer(**options)


def gradients(run: Any, module: Any, x: Tensor) -> list[Tensor]:
    x = x.clone().requires_grad_()
    module.zero_grad()
    run(x).square().sum().backward()
    found = [x.grad, *(p.grad for p in module.parameters())]
    return [g.clone() for g in found if g is not None]


@pytest.mark.parametrize("name", LAYERS)
def test_layers_compile_whole(name: str) -> None:
    """One graph, kernels in it as nodes, with gradients and packed rows."""
    module = made(name)
    graphs: list[torch.fx.GraphModule] = []

    def note(graph: torch.fx.GraphModule, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    noted: Any = _compile(module, fullgraph=True, backend=note)
    x = torch.randn(2, 9, 8)
    with torch.no_grad():
        torch.testing.assert_close(noted(x), module(x))
    (graph,) = graphs
    assert any("seqdsl" in str(n.target) for n in graph.graph.nodes)
    compiled: Any = _compile(module, fullgraph=True, backend="aot_eager")
    ours, theirs = gradients(compiled, module, x), gradients(module, module, x)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)
    ids = torch.tensor([[0] * 4 + [1] * 5] * 2)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x, segments=ids), module(x, segments=ids))


def test_exported_programs_take_other_lengths() -> None:
    module = made("gla")
    batch, time = torch.export.Dim("batch"), torch.export.Dim("time")
    shapes = ({0: batch, 1: time},)
    whole: Any = torch.export.export(
        module, (torch.randn(2, 12, 8),), dynamic_shapes=shapes
    )
    x = torch.randn(3, 20, 8)
    torch.testing.assert_close(whole.module()(x), module(x))


def test_operators_keep_what_torch_asks_of_them() -> None:
    """Schema, fake implementation, autograd registration, dynamic shapes."""
    module = made("gru")
    x = torch.randn(2, 6, 8)
    calls: list[tuple[Any, ...]] = []

    def note(graph: torch.fx.GraphModule, inputs: Any) -> Any:
        def run(*args: Any) -> Any:
            interpreter = _Noting(graph)
            result: Any = interpreter.run(*args)
            calls.extend(interpreter.calls)
            return result

        return run

    _compile(module, fullgraph=True, backend=note)(x)
    ((target, args),) = calls
    assert target is torch.ops.seqdsl.loop_kept
    key, given, *extents = args
    leaves = [t.detach().requires_grad_(t.requires_grad) for t in given]
    args = (key, leaves, *extents)
    _opcheck(target.default, args)
    _opcheck(torch.ops.seqdsl.loop.default, args)


class _Noting(torch.fx.Interpreter):
    """Runs a graph and notes calls of operators of ours."""

    def __init__(self, graph: torch.fx.GraphModule) -> None:
        super().__init__(graph)
        self.calls: list[tuple[Any, tuple[Any, ...]]] = []

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        if "seqdsl" in str(target):
            self.calls.append((target, args))
        return super().call_function(target, args, kwargs)


def test_a_loop_that_was_not_loaded_is_said_so() -> None:
    with pytest.raises(seqdsl.CallError, match="was not made in this process"):
        torch.ops.seqdsl.loop("nothing", [torch.zeros(1)], 1, 1)
    assert ops.loops


_HIDDEN = """\
import importlib.util, sys, warnings
sys.modules["torch_mlir"] = None
import torch, seqdsl
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    layers = [seqdsl.std.mingru.MinGRU(D=4) for _ in range(2)]
    y = layers[0](torch.ones(1, 3, 4))
assert y.shape == (1, 3, 4)
found = [w for w in seen if "torch-mlir" in str(w.message)]
assert len(found) == 1, found
try:
    seqdsl.std.mingru.MinGRU(D=4, target="mlir")
except seqdsl.UnsupportedError as error:
    assert "torch-mlir" in str(error)
else:
    raise AssertionError("not refused")
"""


def test_without_torch_mlir_layers_run_in_torch_and_say_so_once() -> None:
    subprocess.run([sys.executable, "-c", _HIDDEN], check=True)


def test_running_kernels_does_not_load_the_compiler_of_torch() -> None:
    """It takes two seconds, which no process should pay that compiles nothing."""
    code = (
        "import sys, torch, seqdsl\n"
        "layer = seqdsl.std.gla.GLA(D=4, heads=2, target='mlir')\n"
        "layer(torch.ones(1, 3, 4)).sum().backward()\n"
        "assert 'torch._dynamo' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
