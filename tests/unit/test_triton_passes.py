"""Several coupled states by chunks, whose way from chunk to chunk is a kernel."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_triton_binaries import without_interpreter
from torch import Tensor

import seqdsl

pytest.importorskip("triton", reason="Triton is there for Linux only")

from seqdsl.backends.triton import compile_model
from seqdsl.backends.triton.chips import CHIPS
from seqdsl.backends.triton.launch.passes import pass_chunks
from seqdsl.backends.triton.loops.waiting import PARTLY, notes


def passes_loop(
    first: Tensor,
    total: Tensor | None,
    added: Tensor | None,
    known: Tensor | None,
    pulled: Tensor | None,
    into: Tensor | None,
    states: int,
    count: int,
) -> tuple[Tensor, ...]:
    """The definition, chunk by chunk."""
    many, rows, columns = first.shape
    state, before, written = first, list[Tensor](), list[Tensor]()
    for c in range(count):
        at = slice(c * many, (c + 1) * many)
        before.append(state)
        now = state
        if total is not None and states > 1:
            apart = state.view(many, states, rows // states, columns)
            left = total[at].expand(-1, -1, -1, rows // states)
            now = torch.einsum("cijk,cjkv->cikv", left, apart).reshape(state.shape)
        elif total is not None:
            now = total[at].unsqueeze(-1) * state
        now = now if added is None else now + added[at]
        if pulled is not None and into is not None:
            x = pulled[at] @ state
            written.append(x if known is None else x + known[at])
            now = now + into[at] @ written[-1]
        state = now
    empty = first.new_zeros(count * many, 0, columns)
    made = torch.cat(written) if written else empty
    return torch.cat(before), made, state


@settings(max_examples=10)
@given(
    st.sampled_from([1, 2, 3]),
    st.sampled_from([1, 5, 17]),
    st.sampled_from([1, 3, 20]),
    st.sampled_from([0, 1, 19]),
    st.sampled_from([1, 2, 4]),
    st.booleans(),
    st.booleans(),
)
def test_passes_and_all_their_gradients(
    states: int, K: int, V: int, erases: int, count: int, rowwise: bool, known: bool
) -> None:
    """Also second gradients, which the operator finds by itself."""
    torch.manual_seed(K)
    rows, many = states * K, 2
    lead = (count * many,)
    shape = (states, states) if states > 1 else ()
    given_: list[Tensor | None] = [
        torch.randn(many, rows, V),
        torch.rand(*lead, *shape, K if rowwise else 1) if K != 5 else None,
        torch.randn(*lead, rows, V),
        torch.randn(*lead, erases, V) if known and erases else None,
        torch.randn(*lead, erases, rows) / rows if erases else None,
        torch.randn(*lead, rows, erases) / rows if erases else None,
    ]
    if states > 1 and given_[1] is None:
        given_[1] = torch.eye(states).expand(*lead, -1, -1).unsqueeze(-1).clone()
    found: list[list[Tensor]] = []
    for dtype in (torch.float32, torch.float64):
        leaves = [None if x is None else x.to(dtype).requires_grad_() for x in given_]
        first, total, added, wrote, pulled, into = leaves
        assert first is not None
        call = first, total, added, wrote, pulled, into, states, count
        single = dtype == torch.float32
        outs = pass_chunks(*call, False) if single else passes_loop(*call)
        there = [x for x in leaves if x is not None]
        loss = sum((x.sin().sum() for x in outs), torch.zeros((), dtype=dtype))
        grads = torch.autograd.grad(
            loss, there, create_graph=True, materialize_grads=True
        )
        again = sum((g.sin().sum() for g in grads), torch.zeros((), dtype=dtype))
        second = torch.autograd.grad(again, there, materialize_grads=True)
        found.append([x.detach().double() for x in (*outs, *grads, *second)])
    for a, b in zip(*found, strict=True):
        bound = 1e-5 * float(b.abs().max().clamp(min=1)) if b.numel() else 0
        torch.testing.assert_close(a, b, atol=bound, rtol=0)


QUICK = ("sm_90", 2, 64)
MOMENTUM = """
layer Own(K = 5, V = 4):
    input x: [K]
    input y: [V]
    param mu: [K] = 0.9
    state P: [K, V] = FIRST
    state M: [K, V] = 0
    k = x / sqrt(1 + sum[K](square(x)))
    P = 0.5 * P[t-1] + k * (y - dot[K](k, M[t-1]))
    M = mu * M[t-1] + P
    output dot[K](k, M)
"""


def results(
    module: Any, x: Tensor, y: Tensor, ids: Tensor | None
) -> tuple[Tensor, ...]:
    """Outputs in two pieces with the state between them, and gradients."""
    leaves = [v.to(next(module.parameters()).dtype).requires_grad_() for v in (x, y)]
    at = x.shape[1] // 2
    cuts = (None, None) if ids is None else (ids[:, :at], ids[:, at:])
    first, state = module(
        *(v[:, :at] for v in leaves), segments=cuts[0], return_state=True
    )
    rest = module(*(v[:, at:] for v in leaves), segments=cuts[1], state=state)
    out = torch.cat([first, rest], 1)
    grads = torch.autograd.grad(out.sin().sum(), [*leaves, *module.parameters()])
    return out.detach(), *grads


@pytest.mark.parametrize("first", ["0", "param"])
@pytest.mark.parametrize("packed", [False, True])
def test_coupled_states_are_those_of_the_loop(
    first: str, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = seqdsl.loads(MOMENTUM.replace("FIRST", first)).Own
    mine: Any = layer(target="triton")
    loop: Any = layer(target="torch", strategy="loop")
    torch.manual_seed(0)
    with torch.no_grad():
        for p in mine.parameters():
            p.uniform_(0.5, 1)
    loop.load_state_dict(mine.state_dict())
    loop.double()
    assert all(PARTLY in n for n in notes(compile_model(layer.elaborate().model).text))
    file, calls = sys.modules[type(mine).__module__], list[bool]()
    function: Any = getattr(file, "pass_chunks")  # noqa: B009

    def watch(*args: Any) -> Any:
        calls.append(bool(args[-1]))
        return function(*args)

    monkeypatch.setattr(file, "pass_chunks", watch)
    x, y = torch.randn(2, 150, 5), torch.randn(2, 150, 4)
    ids = torch.randint(0, 9, (2, 150)).sort(1).values if packed else None
    ours, exact = (results(m, x, y, ids) for m in (mine, loop))
    assert set(calls) >= {False}
    assert True in calls or packed
    for a, b in zip(ours, exact, strict=True):
        bound = 1e-5 * float(b.abs().max().clamp(min=1))
        torch.testing.assert_close(a.double(), b, atol=bound, rtol=0)


def test_gradients_of_gradients_of_coupled_states() -> None:
    layer = seqdsl.loads(MOMENTUM.replace("FIRST", "0")).Own
    mine: Any = layer(target="triton")
    loop: Any = layer(target="torch", strategy="loop").double()
    x, y = torch.randn(1, 20, 5), torch.randn(1, 20, 4)
    found: list[tuple[Tensor, ...]] = []
    for module in (mine, loop):
        leaves = [v.to(module.mu.dtype).requires_grad_() for v in (x, y)]
        out = module(*leaves)
        grads = torch.autograd.grad(out.sin().sum(), leaves, create_graph=True)
        again = sum((g.sin().sum() for g in grads), torch.zeros(()))
        found.append(torch.autograd.grad(again, [*leaves, module.mu]))
    for a, b in zip(*found, strict=True):
        bound = 1e-5 * float(b.abs().max().clamp(min=1))
        torch.testing.assert_close(a.double(), b, atol=bound, rtol=0)


COMPILED = """
import sys, torch
from seqdsl.backends.triton.chips import CHIPS
from seqdsl.backends.triton.dry_run import DryRun
from seqdsl.backends.triton.launch.passes import pass_chunks
arch, states, K = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
shapes = (2, states * K, 64), (6, states, states, 1), (6, states * K, 64), (6, 64, 64)
sides = (6, 64, states * K), (6, states * K, 64)
given = [torch.zeros(s, requires_grad=True) for s in (*shapes, *sides)]
with DryRun(arch) as run:
    sum(x.sum() for x in pass_chunks(*given, states, 3, False)).backward()
assert len(run.launches) == 2, run.launches
for x in run.launches:
    print(x.resources.spilled, x.resources.fits(CHIPS[arch]))
"""
SIZES = [
    pytest.param(arch, n, K, marks=[pytest.mark.slow] * ((arch, n, K) != QUICK))
    for arch in CHIPS
    for n in (2, 3)
    for K in (64, 128, 256)
]


@pytest.mark.parametrize(("arch", "states", "K"), SIZES)
def test_the_kernel_spills_nothing(
    arch: str, states: int, K: int, tmp_path: Path
) -> None:
    (tmp_path / "compiled.py").write_text(COMPILED)
    said = without_interpreter(str(tmp_path / "compiled.py"), arch, str(states), str(K))
    for line in said.splitlines():
        spilled, programs = map(int, line.split())
        assert spilled == 0 and programs >= 2


def test_operators_keep_to_their_fakes() -> None:
    x, e = torch.randn(3, 6, 4), torch.randn(6, 2, 6)
    sides = torch.rand(6, 2, 2, 1), torch.randn(6, 6, 4), None, e, e.mT.contiguous()
    given_ = [v if v is None else v.requires_grad_() for v in (x, *sides)]
    tests = ("test_schema", "test_faketensor", "test_autograd_registration")
    torch.library.opcheck(pass_chunks, (*given_, 2, 2, False), test_utils=tests)
