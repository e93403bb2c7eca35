"""Loops as kernels over shapes, dtypes, segments, splits and directions, and as operators."""

# pyright: reportUnknownMemberType=false

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import seqdsl

pytest.importorskip("triton", reason="Triton is there for Linux only")

BOUNDS = {torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 2e-2}
CELLS: Mapping[str, tuple[bool, str]] = {
    "a recurrent product": (
        True,
        """
    state h: [H] = param
    h = tanh(linear(x, H) + linear(h[t-1], H))
    output h
""",
    ),
    "two states that meet": (
        True,
        """
    state c: [H] = 0.5
    state n: [H] = 1
    i = sigmoid(linear(x, H) + linear(n[t-1], H))
    c = (1 - i) * c[t-1] + i * tanh(linear(x, H) - n[t-1])
    n = sigmoid(c) * rsqrt(1 + sum[H](square(c)))
    output n
    output c
""",
    ),
    "a matrix that reads itself": (
        True,
        """
    state M: [H, D] = 0
    k = x / (1 + sum[D](abs(x)))
    v = tanh(dot[D](M[t-1], k)) + linear(x, H)
    M = 0.9 * M[t-1] + v * k
    output dot[D](M, k)
""",
    ),
    "two steps back": (
        True,
        """
    state h: [H] = 0.2
    h = tanh(linear(x, H) + linear(h[t-1], H) - 0.5 * h[t-2])
    output h
""",
    ),
    "from the end": (
        False,
        """
    state h: [H] = 0
    h = silu(linear(x, H) - 0.5 * mean[H](h[t+1])) + 0.5 * sin(h[t+1])
    output h
""",
    ),
}


@cache
def modules(name: str, D: int, H: int, dtype: torch.dtype) -> tuple[Any, Any]:
    """A cell with kernels in `dtype`, and the loop in float64 with the same parameters."""
    text = f"layer Cell(D, H):\n    input x: [D]{CELLS[name][1]}"
    torch.manual_seed(len(text))
    found: Any = seqdsl.loads(text).Cell
    mine = found(D=D, H=H, target="triton").to(dtype)
    loop = found(D=D, H=H, target="torch", strategy="loop").double()
    loop.load_state_dict(mine.state_dict())
    assert hasattr(mine, "_fused_forward")
    return mine, loop


def tensors(out: Any) -> list[Tensor]:
    """One output, or several."""
    return [out] if isinstance(out, Tensor) else list(out)


def results(
    module: Any, x: Tensor, ids: Tensor | None, split: int | None, off: float = 0.0
) -> list[Tensor]:
    """Outputs, and the gradients of all parameters and of x; at `split` x comes in two."""
    params = {n: p.detach() for n, p in module.named_parameters()}
    leaves = [x.to(next(iter(params.values())).dtype), *params.values()]
    leaves = [p * (1 + off * torch.randn_like(p).sign()) if off else p for p in leaves]
    leaves = [p.detach().clone().requires_grad_() for p in leaves]

    def call(given: Tensor, ids: Tensor | None, **more: Any) -> Any:
        state = dict(zip(params, leaves[1:], strict=True))
        return torch.func.functional_call(
            module, state, (given,), {"segments": ids, **more}
        )

    if split is None:
        outs = tensors(call(leaves[0], ids))
    else:
        parts = [None if ids is None else i for i in cut(ids, split)]
        one, between = call(leaves[0][:, :split], parts[0], return_state=True)
        two = call(leaves[0][:, split:], parts[1], state=between)
        pairs = zip(tensors(one), tensors(two), strict=True)
        outs = [torch.cat(pair, 1) for pair in pairs]
    torch.manual_seed(3)
    weights = [torch.randn(o.shape, dtype=torch.float64) for o in outs]
    loss = sum((o.double() * w).sum() for o, w in zip(outs, weights, strict=True))
    assert isinstance(loss, Tensor)
    grads = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
    return [o.detach() for o in (*outs, *grads)]


def cut(ids: Tensor | None, split: int) -> Sequence[Tensor | None]:
    return (None, None) if ids is None else (ids[:, :split], ids[:, split:])


# lanes beyond the extent of a dim may divide by 0; nothing reads them
@pytest.mark.filterwarnings("ignore:(divide by zero|invalid value|overflow)")
@settings(max_examples=16)
@given(
    st.sampled_from(list(CELLS)),
    st.sampled_from([(1, 1), (3, 5), (4, 8)]),
    st.sampled_from([1, 2, 9]),
    st.sampled_from([1, 3]),
    st.sampled_from(list(BOUNDS)),
    st.booleans(),
    st.booleans(),
)
def test_loops_and_their_gradients(
    name: str,
    sizes: tuple[int, int],
    time: int,
    batch: int,
    dtype: torch.dtype,
    packed: bool,
    split: bool,
) -> None:
    mine, loop = modules(name, *sizes, dtype)
    torch.manual_seed(time)
    x = torch.randn(batch, time, sizes[0]).to(dtype)
    ids = torch.randint(0, 2, (batch, time)).cumsum(1) if packed else None
    at = time // 2 if split and time > 1 and CELLS[name][0] else None
    ours, exact = results(mine, x, ids, at), results(loop, x, ids, at)
    moved = [torch.zeros((), dtype=torch.float64) for _ in exact]
    for _ in range(6 if dtype != torch.float32 else 0):
        other = results(loop, x, ids, at, BOUNDS[dtype])
        moved = [
            torch.maximum(m, (a - b).abs().max())
            for m, a, b in zip(moved, exact, other, strict=True)
        ]
    for a, b, change in zip(ours, exact, moved, strict=True):
        allowed = BOUNDS[dtype] * b.abs().max().clamp(min=0.1) + change
        torch.testing.assert_close(a.double(), b, atol=float(allowed), rtol=0)


# ---- As operators


def watched(module: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Arguments of calls of an operator of the generated file."""
    file = sys.modules[type(module).__module__]
    function, calls = getattr(file, name), list[Any]()

    def watch(*args: Any) -> Any:
        calls.append(args)
        return function(*args)

    monkeypatch.setattr(file, name, watch)
    return calls


@pytest.mark.filterwarnings("ignore:(divide by zero|invalid value)")
@pytest.mark.parametrize("op", ["fused_loop", "fused_loop_kept"])
def test_operators_keep_to_their_fakes(
    op: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, _ = modules("two states that meet", 3, 5, torch.float32)
    operator = getattr(sys.modules[type(mine).__module__], op)
    calls = watched(mine, op, monkeypatch)
    with torch.set_grad_enabled(op == "fused_loop_kept"):
        mine(torch.randn(2, 4, 3), segments=torch.tensor([[0, 0, 1, 1]] * 2))
    tests = ("test_schema", "test_faketensor", "test_autograd_registration")
    torch.library.opcheck(operator, calls[0], test_utils=tests)


@pytest.mark.filterwarnings("ignore:(divide by zero|invalid value)")
def test_loops_compile_whole() -> None:
    """One graph, forward and backward, that calls the operators of loops."""
    mine, _ = modules("two states that meet", 3, 5, torch.float32)
    nodes = list[str]()

    def seen(graph: torch.fx.GraphModule, _: Any) -> Any:
        nodes.extend(str(n.target) for n in graph.graph.nodes)
        return make_boxed_func(graph.forward)

    from torch._dynamo.backends.common import aot_autograd
    from torch._functorch._aot_autograd.utils import make_boxed_func

    torch.compiler.reset()
    backend: Any = aot_autograd(fw_compiler=seen, bw_compiler=seen)
    compiled: Callable[..., Any] = torch.compile(mine, backend=backend, fullgraph=True)
    x = torch.randn(2, 4, 3)
    found: list[list[Tensor]] = []
    for module in (compiled, mine):
        outs = tensors(module(x))
        loss = sum((o.square().sum() for o in outs), torch.zeros(()))
        grads = torch.autograd.grad(loss, list(mine.parameters()))
        found.append([*outs, *grads])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)
    for name in ("fused_loop_kept", "fused_loop_gradients"):
        assert any(name in n for n in nodes), nodes


@pytest.mark.filterwarnings("ignore:(divide by zero|invalid value)")
def test_gradients_of_gradients_are_those_of_the_loop() -> None:
    found: list[Sequence[Tensor]] = []
    for module in modules("a recurrent product", 3, 5, torch.float32):
        leaves = list(module.parameters())
        torch.manual_seed(0)
        x = torch.randn(2, 4, 3).to(leaves[0].dtype).requires_grad_()
        y = module(x)
        (dx,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        found.append(torch.autograd.grad(dx.sin().sum(), [x, *leaves]))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a.double(), b, atol=1e-5, rtol=1e-5)
