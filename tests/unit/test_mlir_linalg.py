"""`linalg` on tensors, compiled and run by IREE, which has nothing of ours."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor

import seqdsl
from seqdsl.elaborate import elaborate, load_text
from seqdsl.native.standalone import mlir_text, regions_of

needs_iree = pytest.mark.skipif(
    find_spec("iree") is None, reason="iree-base-compiler is not installed"
)

DELTA = """\
layer Row(heads, K, V):
    input a: [heads]
    input k: [heads, K]
    input v: [heads, V]
    state S: [heads, K, V] = 0
    d = sigmoid(a) * S[t-1]
    S = d + 0.2 * k * (v - dot[K](k, d))
    output y = dot[K](k, S)
"""
GRU = """\
layer Row(D, H):
    input x: [H]
    param U: [H, H as J]
    state h: [H] = 0
    z = sigmoid(x + dot[J](U, h[t-1].(H -> J)))
    h = (1 - z) * tanh(x) + z * h[t-1]
    output h
"""
SCAN = """\
layer Row(N, E):
    input s: [N]
    input x: [N, E]
    state c: [N] = 0
    c = logaddexp(c[t-1], s) + max[E](softmax[E](x * softplus(c[t-1]))) * exp(-t)
    output c
"""
CASES: dict[str, tuple[str, dict[str, Any], tuple[tuple[int, ...], ...]]] = {
    "delta rule": (DELTA, {"heads": 2, "K": 5, "V": 7}, ((2,), (2, 5), (2, 7))),
    "gru": (GRU, {"D": 4, "H": 6}, ((6,),)),
    "log-sum-exp": (SCAN, {"N": 3, "E": 4}, ((3,), (3, 4))),
}


def run(text: str, name: str, args: list[Tensor]) -> list[Tensor]:
    """What the function `name` returns, by IREE's compiler and runtime."""
    from iree import compiler, runtime  # type: ignore[import-untyped]

    tools: Any = compiler
    machine: Any = runtime
    flags = ["--iree-llvmcpu-target-cpu=generic"]
    code = tools.compile_str(text, target_backends=["llvm-cpu"], extra_args=flags)
    context = machine.SystemContext(config=machine.Config("local-sync"))
    context.add_vm_module(machine.VmModule.copy_buffer(context.instance, code))
    made = context.modules.module[name](*(a.detach().numpy() for a in args))
    return [torch.as_tensor(m.to_host().copy()) for m in made]


@needs_iree
@pytest.mark.parametrize("name", CASES)
def test_iree_computes_what_torch_does(name: str) -> None:
    spec, options, shapes = CASES[name]
    model = elaborate(load_text(spec, "row.seq", None), "Row", options).model
    (region,) = regions_of(model, options)
    layer = seqdsl.loads(spec).Row(target="torch", strategy="loop", **options)
    given = dict(zip((i.name for i in model.inputs), shapes, strict=True))
    inputs = {n: torch.randn(3, 11, *s) for n, s in given.items()}
    expected = layer(*inputs.values())
    known = {**inputs, **{n: p for n, p in layer.named_parameters()}}
    known["c_part"] = torch.arange(11).expand(
        3, 11
    )  # the position, which is a stream of its own
    args: list[Tensor] = []
    for read in region.model.inputs:
        if read.name.endswith("_0"):
            dims = [int(options.get(d, d)) for d in read.type.dims]
            args.append(torch.zeros(3, *dims))
        else:
            args.append(known[read.name])
    results = run(mlir_text(model, options, "linalg"), region.name, args)
    torch.testing.assert_close(results[0], expected, rtol=1e-4, atol=1e-5)


def test_the_text_names_tensors_only() -> None:
    spec, options, _ = CASES["delta rule"]
    model = elaborate(load_text(spec, "row.seq", None), "Row", options).model
    text = mlir_text(model, options, "linalg")
    assert "linalg.generic" in text and "memref" not in text and "vector<" not in text


def test_another_dialect_is_refused() -> None:
    spec, options, _ = CASES["gru"]
    model = elaborate(load_text(spec, "row.seq", None), "Row", options).model
    with pytest.raises(seqdsl.UnsupportedError, match="`vector` or `linalg`"):
        mlir_text(model, options, "stablehlo")
