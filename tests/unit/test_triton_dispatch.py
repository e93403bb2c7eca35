"""How calls of a module are put to kernels: several writes, reads, segments, directions."""

# pyright: reportUnknownMemberType=false

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

import seqdsl

pytest.importorskip("triton", reason="Triton is there for Linux only")

from seqdsl.backends.torch.carried.chunkwise import _chunkwise
from seqdsl.backends.triton import compile_model
from seqdsl.backends.triton.launch.dispatch import (
    beside,
    chunks_fit,
    delta_fused,
    outer_fused,
)
from seqdsl.backends.triton.loops.waiting import notes

B, H, K, V = 1, 1, 5, 6
Call = Callable[..., tuple[Tensor, Tensor]]


def vectors(count: int, time: int, entries: int, unit: float = 0.0) -> Tensor | None:
    """Random vectors of every step, of length `unit` where it is given."""
    if not count:
        return None
    x = torch.randn(B, time, H, count, entries)
    return unit * torch.nn.functional.normalize(x, dim=-1) if unit else x


def results(call: Call, given: list[Tensor | None], dtype: torch.dtype) -> list[Tensor]:
    """Reads, last states, and gradients of all that is given."""
    leaves = [None if x is None else x.to(dtype).requires_grad_() for x in given]
    reads, last = (x.double() for x in call(*leaves))
    torch.manual_seed(1)
    weights = (torch.randn(x.shape, dtype=torch.float64) for x in (reads, last))
    loss = sum((x * w).sum() for x, w in zip((reads, last), weights, strict=True))
    assert isinstance(loss, Tensor)
    there = [x for x in leaves if x is not None]
    grads = torch.autograd.grad(loss, there, allow_unused=True, materialize_grads=True)
    return [x.detach() for x in (reads, last, *grads)]


@settings(max_examples=5)
@given(
    st.sampled_from(["none", "scalar", "channel"]),
    st.integers(0, 3),
    st.integers(0, 2),
    st.integers(0, 2),
    st.integers(0, 2),
    st.sampled_from([1, 2, 9]),
    st.booleans(),
    st.booleans(),
)
def test_matrix_states(
    kind: str,
    erases: int,
    writes: int,
    before: int,
    after: int,
    time: int,
    packed: bool,
    reverse: bool,
) -> None:
    assume(erases + writes and before + after)
    torch.manual_seed(time)
    rows = {"none": 0, "scalar": 1, "channel": K}[kind]
    decay = 0.2 + 0.8 * torch.rand(B, time, H, rows) if rows else None
    if decay is not None:
        decay[:, ::4] = 1
    right, into = (vectors(erases, time, K, unit) for unit in (-0.5, 1.0))
    known, left = vectors(erases, time, V), vectors(writes, time, K)
    value, first = vectors(writes, time, V), torch.randn(B, H, K, V)
    old, new = vectors(before, time, K), vectors(after, time, K)
    starts = torch.rand(B, time) < 0.3 if packed else None

    def exact(*x: Tensor | None) -> tuple[Tensor, Tensor]:
        initial: Any = x[8]
        return _chunkwise(*x[:8], initial, None, starts, time, 16, 1, reverse)  # pyright: ignore

    def kernels(
        decay: Tensor | None,
        right: Tensor | None,
        into: Tensor | None,
        known: Tensor | None,
        left: Tensor | None,
        value: Tensor | None,
        old: Tensor | None,
        new: Tensor | None,
        first: Tensor,
    ) -> tuple[Tensor, Tensor]:
        lefts, values, query = (
            beside(into, left),
            beside(known, value),
            beside(old, new),
        )
        assert lefts is not None and values is not None and query is not None
        assert chunks_fit(decay, right, lefts, values, query, None, 1, bounded=True)
        given = decay, lefts, values, query, first, starts, time, after, reverse
        if right is None:
            return outer_fused(*given)
        return delta_fused(decay, right, *given[1:], own=True)

    given_ = [decay, right, into, known, left, value, old, new, first]
    ours, loop = (
        results(kernels, given_, torch.float32),
        results(exact, given_, torch.float64),
    )
    for a, b in zip(ours, loop, strict=True):
        largest = b.abs().max().clamp(min=1)
        torch.testing.assert_close(
            a / largest, b / largest, atol=2e-5, rtol=0, check_dtype=False
        )


SPECS = {
    "coupled states": """
    param mu: [K] = 0.5
    state P: [K, V] = 0
    state M: [K, V] = 0
    P = 0.5 * P[t-1] + x * (sum[K](x) - dot[K](x, M[t-1]))
    M = mu * M[t-1] + P
    output dot[K](x, M)
""",
    "a matrix that mixes entries": """
    param A: [K as J, K] = 0.3
    state h: [K] = 0
    h = dot[J](A, h[t-1].(K -> J)) * sigmoid(x) + x
    output h
""",
    "flags": """
    state seen: bool [K] = false
    state h: [K] = 0
    seen = seen[t-1] and x < 0.5 or x > 1
    h = 0.5 * h[t-1] + where(seen, x, 0)
    output h
    output flags = seen
""",
}
WHY = {
    "a matrix that mixes entries": "matrices that mix entries have no kernel that scans",
    "flags": None,
}
COUPLED = (
    "on a GPU one kernel from chunk to chunk, the rest of a chunk in torch:"
    " several states are coupled"
)


@pytest.mark.filterwarnings("ignore:(divide by zero|invalid value)")
@pytest.mark.parametrize("name", WHY)
def test_parallel_forms_without_kernels_are_loops_in_one(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f"layer Own(K = 3, V = 2):\n    input x: [K]{SPECS[name]}"
    layer: Any = seqdsl.loads(text).Own
    mine, loop = layer(target="triton"), layer(target="torch", strategy="loop")
    loop.load_state_dict(mine.state_dict())
    said = notes(compile_model(layer.elaborate().model).text)
    why = WHY[name]
    assert said == ([f"Own: on a GPU one kernel for all steps: {why}"] if why else [])
    calls = list[str]()
    called = "scan_fused" if why is None else "_fused_forward"
    owner: Any = mine.__class__
    file: Any = sys.modules[owner.__module__] if why is None else owner
    function = getattr(file, called)

    def watch(*args: Any, **more: Any) -> Any:
        calls.append(called)
        return function(*args, **more)

    monkeypatch.setattr(file, called, watch)
    x = torch.randn(2, 6, 3)
    ids = torch.tensor([[0] * 4 + [1] * 2, [2] + [3] * 5])
    found: list[list[Tensor]] = []
    for module in (mine, loop.double()):
        leaf = x.to(torch.float64 if module is loop else torch.float32, copy=True)
        out = module(leaf.requires_grad_(), segments=ids)
        outs = [out] if isinstance(out, Tensor) else list(out)
        grads = torch.autograd.grad(
            outs[0].square().sum(), [leaf, *module.parameters()]
        )
        found.append([x.detach().double() for x in (*outs, *grads)])
    assert calls
    for a, b in zip(*found, strict=True):
        largest = b.abs().max().clamp(min=1)
        torch.testing.assert_close(a / largest, b / largest, atol=1e-5, rtol=0)


MIXED = """
layer Mixed(N = 4, V = 4):
    input x: [N]
    param A: [N as J, N] = 0.3
    param w: [V] = 1
    state h: [N, V] = 0
    h = dot[J](A, h[t-1].(N -> J)) + x * w
    output sum[N, V](h)
"""


@pytest.mark.parametrize(("size", "learns"), [(4, True), (64, False)])
def test_gradients_do_not_keep_large_states_of_all_steps(
    size: int, learns: bool
) -> None:
    """Torch's parallel form, which keeps fewer, serves where a gradient is wanted."""
    module = seqdsl.loads(MIXED).Mixed(N=size, V=size, target="triton")
    file: Any = sys.modules[module.__class__.__module__]
    (loop,) = (n for n in file.LOOPS if n == "Mixed_h_loop")
    sizes = tuple({"N": size, "V": size, "J": size}.items())
    assert file.runs(loop, sizes, False, True)
    assert file.runs(loop, sizes, True, True) is learns


def test_asking_for_a_scan_gets_one() -> None:
    text = f"layer Own(K = 3, V = 2):\n    input x: [K]{SPECS['coupled states']}"
    layer: Any = seqdsl.loads(text).Own
    text = compile_model(layer.elaborate().model, strategy="chunk:16").text
    assert notes(text) == [f"Own: {COUPLED}"] and "_chunkwise(" in text


def test_what_no_kernel_runs_is_said() -> None:
    text = """
layer Own(D = 3):
    input x: [D]
    state h: [D] = 0
    repeat j in 3:
        state u: [D] = h[t-1]
        u = tanh(u[j-1] + x)
    h = u[j = 3]
    output h
"""
    (said,) = notes(compile_model(seqdsl.loads(text).Own.elaborate().model).text)
    assert said == "Own: in torch also on a GPU: h (a repeat inside)"


def test_half_precision_in_the_interpreter(tmp_path: Path) -> None:
    """Also where nobody has mended Triton's interpreter, which multiplies bits, before."""
    arguments = "std.lightnet --layer LightNetCell --set K=2 --set V=3 --target triton"
    chosen = ["--property", "half_precision", "--case", "seed=0 batch=1 time=1"]
    command = [sys.executable, "-m", "seqdsl", "test", *arguments.split(), *chosen]
    run = subprocess.run(command, check=False, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
