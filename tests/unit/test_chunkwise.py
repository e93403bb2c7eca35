"""Chunks of matrix states against a plain loop, gradients included."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from chunk_mutants import Mutant, program, run, survives
from hypothesis import given
from hypothesis import strategies as st
from matrix_states import (
    Case,
    by_chunks,
    by_steps,
    changed,
    close,
    leaves,
    there,
)
from torch import Tensor

SMALL = st.integers(1, 3)
WIDE = SMALL | st.just(16)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Any numbers of anything."""
    erases, queries = draw(st.integers(0, 2)), draw(st.integers(0, 3))
    return Case(
        seed=draw(st.integers(0, 10**6)),
        batch=draw(SMALL),
        time=draw(st.integers(0, 21) | st.integers(22, 40)),
        copies=draw(SMALL),
        rows=draw(WIDE),
        columns=draw(WIDE),
        erases=erases,
        writes=erases + draw(st.integers(0 if erases else 1, 2)),
        queries=queries,
        now=draw(st.integers(0, queries)),
        states=draw(st.sampled_from([1, 1, 2, 3])),
        kept=draw(st.sampled_from(["all", "one", "rows", "near", "near one"])),
        segments=draw(st.booleans()),
        zero=draw(st.booleans()),
        silent=draw(st.booleans()),
        reverse=draw(st.booleans()),
        minus=draw(st.booleans()),
        size=draw(st.sampled_from([1, 2, 4, 8, 16, 32])),
        grouped=draw(st.booleans()),
    )


def loss(found: tuple[Tensor, Tensor]) -> Tensor:
    """A number to which every entry of reads and states matters differently."""
    reads, last = found
    weights = torch.linspace(-1, 2, reads.numel()).to(reads).reshape(reads.shape)
    return (weights * reads).sum() + last.sin().sum()


def grads_of(value: Tensor, at: list[Tensor], again: bool = True) -> list[Tensor]:
    """Of `value`; 0 where it does not depend on a tensor."""
    found: Any = torch.autograd.grad(value, at, create_graph=again, allow_unused=True)
    pairs = zip(found, at, strict=True)
    return [torch.zeros_like(x) if g is None else g for g, x in pairs]


def gradients(function: Callable[..., Any], case: Case) -> list[Tensor]:
    """Of all arguments."""
    tensors = leaves(case)
    return grads_of(loss(function(case, tensors, case.starts())), there(tensors))


@given(cases())
def test_values_and_gradients_are_those_of_the_loop(case: Case) -> None:
    tensors, starts = case.tensors(), case.starts()
    pairs = zip(
        by_chunks(case, tensors, starts), by_steps(case, tensors, starts), strict=True
    )
    for found, wanted in pairs:
        close(found, wanted, 1e-10)
    pairs = zip(gradients(by_chunks, case), gradients(by_steps, case), strict=True)
    for found, wanted in pairs:
        close(found, wanted, 1e-9)


FEW = (
    Case(),
    Case(kept="all", zero=True),
    Case(kept="one", reverse=True),
    Case(kept="near", zero=True, writes=3, queries=3, now=2),
    Case(kept="near one", writes=3, queries=3, now=2, reverse=True),
    Case(kept="near one", zero=True, erases=2, writes=2),
    Case(kept="near", zero=True, writes=1, minus=True),
    Case(kept="near", zero=True, writes=2, rows=8, columns=8, size=2),
    Case(states=2, erases=2, writes=2),
    Case(erases=0, segments=False, size=8),
    Case(time=1),
)


@pytest.mark.parametrize("case", FEW)
def test_double_backward(case: Case) -> None:
    def twice(function: Callable[..., Any]) -> list[Tensor]:
        tensors = leaves(case)
        first = grads_of(loss(function(case, tensors, case.starts())), there(tensors))
        total = torch.stack([g.square().sum() for g in first]).sum()
        return grads_of(total, there(tensors), again=False)

    for found, wanted in zip(twice(by_chunks), twice(by_steps), strict=True):
        close(found, wanted, 1e-9)


Flat = Callable[..., tuple[Tensor, Tensor]]


def functional(function: Flat, case: Case) -> Flat:
    """A function of the tensors that are there."""
    known, starts = case.tensors(), case.starts()
    names = [n for n, x in known.items() if x is not None]

    def run(*tensors: Tensor) -> tuple[Tensor, Tensor]:
        given = {**dict.fromkeys(known), **dict(zip(names, tensors, strict=True))}
        return function(case, given, starts)

    return run


def gradient(function: Flat) -> Callable[..., Any]:
    """Of the loss, with respect to all arguments, for several at once."""

    def of(*tensors: Tensor) -> Tensor:
        return loss(function(*tensors))

    def run(*tensors: Tensor) -> Any:
        return torch.func.grad(of, argnums=tuple(range(len(tensors))))(*tensors)

    return torch.func.vmap(run)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
@pytest.mark.parametrize("case", FEW)
def test_function_transforms(case: Case) -> None:
    at = tuple(there(case.tensors()))
    both = [functional(f, case) for f in (by_chunks, by_steps)]
    moved = tuple(torch.cos(x) for x in at)
    ours, theirs = (torch.func.jvp(f, at, moved)[1] for f in both)
    for found, wanted in zip(ours, theirs, strict=True):
        close(found, wanted, 1e-9)
    many = tuple(torch.stack([x, 0.5 * x]) for x in at)
    ours, theirs = (gradient(f)(*many) for f in both)
    for found, wanted in zip(ours, theirs, strict=True):
        close(found, wanted, 1e-9)


@pytest.mark.parametrize("case", FEW)
def test_single_and_half_precision(case: Case) -> None:
    case = changed(case, time=200, size=16)
    exact = by_chunks(case, case.tensors(), case.starts())
    for dtype, most in ((torch.float32, 1e-5), (torch.bfloat16, 0.03)):
        # Rounding the arguments is not the function's error.
        given = case.tensors(dtype)
        wide = {n: None if x is None else x.double() for n, x in given.items()}
        exact = by_chunks(case, wide, case.starts())
        for found, wanted in zip(
            by_chunks(case, given, case.starts()), exact, strict=True
        ):
            assert found.dtype == dtype
            close(found.double(), wanted, most)


@pytest.mark.parametrize("power", [80, -80])
def test_extreme_gates_stay_finite(power: int) -> None:
    case = Case(time=300, size=64, erases=0, writes=1, segments=False, kept="one")
    results: list[list[Tensor]] = []
    for function in (by_chunks, by_steps):
        tensors = leaves(case)
        gate = torch.full((2, 300, 2, 1), float(power), dtype=torch.float64)
        tensors["decay"] = torch.sigmoid(gate.requires_grad_())
        found = function(case, tensors, None)
        results.append([*found, *grads_of(loss(found), [gate, *there(tensors)])])
    for ours, theirs in zip(*results, strict=True):
        close(ours, theirs, 1e-9)


@pytest.mark.slow
def test_a_million_steps() -> None:
    case = Case(batch=1, time=1_000_000, copies=1, rows=2, segments=False, size=64)
    tensors = case.tensors()
    decay = tensors["decay"]
    assert decay is not None
    tensors["decay"] = 0.9 + 0.1 * decay.clamp(0, 1)
    reads, last = by_chunks(case, tensors, None)
    assert bool(reads.isfinite().all())
    close(last, by_steps(case, tensors, None)[1], 1e-9)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
def test_planted_bugs_are_noticed() -> None:
    assert survives(Mutant("nothing", program()))
    count, left = run(every=6)
    assert count >= 20
    assert 20 * len(left) <= count, left
