"""Modules with kernels, made from specs, in Triton's interpreter."""

# pyright: reportUnknownMemberType=false

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from elaborating import model

import seqdsl

pytest.importorskip("triton", reason="Triton is there for Linux only")

from seqdsl.backends.torch.load import load
from seqdsl.backends.triton import compile_model
from seqdsl.backends.triton.found import bounded_log
from seqdsl.backends.triton.interpreting import repair
from seqdsl.elaborate import elaborate, load_std

repair()
D16 = {"D": 16, "heads": 2}
GATED = {"q": (2, 8), "k": (2, 8), "v": (2, 8), "i": (2,), "f": (2,)}
X16 = {"x": (16,)}


@dataclass(frozen=True)
class Case:
    """A layer of the library, the functions that its kernels run from, and its inputs."""

    file: str
    layer: str
    used: tuple[str, ...]
    options: Mapping[str, int]
    inputs: Mapping[str, tuple[int, ...]]


LAYERS = (
    Case("gla", "GLA", ("outer_fused",), D16, X16),
    Case("retnet", "Retention", ("outer_fused",), D16, X16),
    Case("rwkv6", "RWKV6", ("outer_fused",), {"D": 32, "K": 16}, {"x": (32,)}),
    Case("gated_deltanet", "GatedDeltaNet", ("delta_fused",), D16, X16),
    Case(
        "gated_deltaproduct",
        "GatedDeltaProduct",
        ("delta_fused",),
        {"D": 8, "heads": 2},
        {"x": (8,)},
    ),
    Case("rwkv7", "RWKV7", ("delta_fused",), {"D": 16, "K": 8}, X16 | {"first": (16,)}),
    Case(
        "mlstm", "MLSTMCell", ("scan_fused", "outer_fused"), {"heads": 2, "K": 8}, GATED
    ),
    Case("titans", "LMM", ("chunks_passed",), D16, X16),
    Case("rwkv4", "RWKV4", ("scan_fused",), {"D": 6}, {"x": (6,)}),
    Case("mingru", "MinGRU", ("scan_fused",), {"D": 6}, {"x": (6,)}),
)


def watched(module: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Calls of a function of the generated file."""
    file = sys.modules[type(module).__module__]
    function, calls = getattr(file, name), list[str]()

    def watch(*args: Any, **more: Any) -> Any:
        calls.append(name)
        return function(*args, **more)

    monkeypatch.setattr(file, name, watch)
    return calls


def tensors(out: Any) -> list[torch.Tensor]:
    """One output, or several."""
    return [out] if isinstance(out, torch.Tensor) else list(out)


@pytest.mark.parametrize("case", LAYERS, ids=lambda x: x.layer)
def test_kernels_compute_what_the_loop_computes(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    made = getattr(getattr(seqdsl.std, case.file), case.layer)
    mine: Any = made(target="triton", **case.options)
    with torch.no_grad():  # no weight that starts at 0 hides a mistake
        for p in mine.parameters():
            p += 0.1 * torch.randn(p.shape)
    loop: Any = made(target="torch", strategy="loop", **case.options)
    loop.load_state_dict(mine.state_dict())
    loop.double()
    calls = [watched(mine, name, monkeypatch) for name in case.used]
    x = {n: torch.randn(2, 37, *d) for n, d in case.inputs.items()}
    ids = torch.tensor([[0] * 20 + [1] * 17, [3] * 5 + [4] * 32])
    found: list[list[torch.Tensor]] = []
    for module in (mine, loop):
        dtype = torch.float64 if module is loop else torch.float32
        given = {n: v.to(dtype, copy=True).requires_grad_() for n, v in x.items()}
        y, state = module(**given, segments=ids, return_state=True)
        short = {n: v[:, :9] for n, v in given.items()}
        z = module(**short, state=state, segments=ids[:, -1:].expand(2, 9))
        outs = [*tensors(y), *tensors(z)]
        loss = sum((o.square().sum() for o in outs), torch.zeros((), dtype=dtype))
        leaves = [*module.parameters(), *given.values()]
        grads = torch.autograd.grad(loss, leaves, materialize_grads=True)
        found.append([*outs, *grads])
    assert all(len(c) >= 2 for c in calls)
    for a, b in zip(*found, strict=True):
        largest = b.abs().max().clamp(min=1)
        torch.testing.assert_close(
            a / largest, (b / largest).float(), atol=2e-5, rtol=0
        )


@pytest.mark.parametrize("name", ["gla", "mingru"])
def test_modules_compile_whole(name: str) -> None:
    """One graph, forward and backward, that calls our operators."""
    torch.manual_seed(0)
    case = next(c for c in LAYERS if c.file == name)
    module: Any = getattr(getattr(seqdsl.std, name), case.layer)(
        target="triton", **case.options
    )
    x = torch.randn(1, 20, case.options["D"])
    nodes = list[str]()

    def seen(graph: torch.fx.GraphModule, _: Any) -> Any:
        nodes.extend(str(n.target) for n in graph.graph.nodes)
        return graph

    torch.compiler.reset()
    compiled: Any = torch.compile(module, backend=seen, fullgraph=True)
    y = compiled(x)
    assert any(n.startswith("seqdsl_") for n in nodes), nodes
    torch.testing.assert_close(y, module(x))
    grads = [
        torch.autograd.grad(f(x).square().sum(), list(module.parameters()))
        for f in (compiled, module)
    ]
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b)


def test_a_file_stands_alone(tmp_path: Path) -> None:
    spec = seqdsl.std.gla
    from seqdsl import driver

    artifact = driver.artifact(spec.GLA.elaborate(D=16, heads=2), "triton", "auto")
    (tmp_path / artifact.main).write_text(artifact.text)
    tree = ast.parse(artifact.text)
    mine = {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}
    assert "outer_forward" in mine and not {"delta_forward", "scan_forward"} & mine
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


def test_files_with_the_same_kernels_have_operators_of_their_own(
    tmp_path: Path,
) -> None:
    """Registering one anew would leave those of the other file without theirs."""
    layer: Any = seqdsl.std.gla.GLA
    spaces = set[str]()
    for size in (8, 16):
        module = layer(D=size, heads=2, target="triton")
        spaces.add(sys.modules[module.__class__.__module__].__dict__["NAMESPACE"])
    text = compile_model(layer.elaborate(D=8, heads=2).model).text
    for name in ("one", "two"):
        (tmp_path / f"{name}_gla.py").write_text(text)
    sys.path.insert(0, str(tmp_path))
    try:
        spaces |= {
            importlib.import_module(f"{n}_gla").NAMESPACE for n in ("one", "two")
        }
    finally:
        sys.path.remove(str(tmp_path))
    assert len(spaces) == 4


@pytest.mark.parametrize("file", ["hmm", "memory_caching", "jrt"])
def test_every_layer_of_a_file_has_a_module(file: str) -> None:
    for name in load_std(file).layers:
        text = compile_model(elaborate(load_std(file), name).model)
        assert issubclass(load(text), torch.nn.Module)


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
