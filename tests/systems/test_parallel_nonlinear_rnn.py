"""Nonlinear recurrences in parallel: Newton's iteration on the library's cells."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from systems_case import make, noise, same, shaken, std, verdicts
from torch import Tensor

import seqdsl
from seqdsl.backends.torch.carried.newton import (
    _at_rest,  # pyright: ignore[reportPrivateUsage]
)

CELLS = (
    ("elman", "Elman"),
    ("gru", "GRU"),
    ("lstm", "LSTM"),
    ("pararnn", "ParaGRU"),
    ("pararnn", "ParaLSTM"),
)


def pair(file: str, name: str, scale: float = 0.2, **sizes: Any) -> tuple[Any, Any]:
    """The loop and Newton's iteration with equal parameters."""
    layer = getattr(std(file), name)
    loop = shaken(make(layer, strategy="loop", **sizes), scale=scale)
    newton = layer(dtype=torch.float64, strategy="newton:strict", **sizes)
    newton.load_state_dict(loop.state_dict())
    return loop, newton


@pytest.mark.parametrize(("file", "name"), CELLS)
def test_1_newton_is_the_loop_and_3_its_adjoint_is_backpropagation(
    file: str, name: str
) -> None:
    loop, newton = pair(file, name, D=4, H=6)
    x = noise(2, 64, 4).requires_grad_()
    weigh = noise(2, 64, 6, seed=1)
    found: list[list[Tensor]] = []
    for module in (loop, newton):
        y = module(x)
        leaves: Any = [x, *module.parameters()]
        found.append([y, *torch.autograd.grad((y * weigh).sum(), leaves)])
    for mine, theirs in zip(found[1], found[0], strict=True):
        same(mine, theirs, within=1e-9)


def rounds(weight: Tensor, time: int, *, affine: bool = False) -> int | None:
    """Iterations until the steps agree; None where they do not."""
    x = noise(1, time, len(weight), 1, seed=3)
    first = torch.zeros(1, len(weight), 1, dtype=torch.float64)

    def step(before: Tensor, at: slice) -> Tensor:
        y = weight @ before + x[:, at]
        return y if affine else torch.tanh(y)

    h, _, found = _at_rest(step, first, None, first[:, None], time, False)
    return None if h is None else found - 1


def test_2_an_affine_step_takes_exactly_one_iteration() -> None:
    assert rounds(0.9 * noise(8, 8) / 8**0.5, 100, affine=True) == 1


@pytest.mark.parametrize(
    ("gain", "published"), [(0.3, 5), (0.9, 6), (1.2, 8), (1.5, 12)]
)
def test_iterations_grow_as_the_sheet_measured(gain: float, published: int) -> None:
    """tanh RNN, D = 16, T = 256; to rounding here, to 1e-10 there: one or two more."""
    found = rounds(gain * noise(16, 16, seed=5) / 4, 256)
    assert found is not None and found <= published + 4


def test_3_near_miss_a_diagonal_adjoint_is_no_gradient() -> None:
    weight = 0.9 * noise(8, 8, seed=2) / 8**0.5
    x, h = noise(64, 8), torch.zeros(8, dtype=torch.float64)
    jacobians: list[Tensor] = []
    for t in range(64):
        h = torch.tanh(weight @ h + x[t])
        jacobians.append((1 - h * h)[:, None] * weight)
    exact = rough = torch.zeros(8, dtype=torch.float64)
    gaps: list[float] = []
    for t in reversed(range(63)):
        slope = noise(8, seed=100 + t)
        exact = slope + jacobians[t + 1].mT @ exact
        rough = slope + jacobians[t + 1].diagonal() * rough
        gaps.append(
            float((exact - rough).square().sum().sqrt() / exact.square().sum().sqrt())
        )
    assert sum(gaps) / len(gaps) > 0.3


def test_6_an_expanding_cell_is_told_or_run_as_a_loop() -> None:
    """g = 2.5: the iteration may stop at something that is no trajectory; never silently."""
    loop, strict = pair("elman", "Elman", D=16, H=16)
    layer = std("elman").Elman
    with torch.no_grad():
        loop.h_h.weight.copy_(2.5 * noise(16, 16, seed=5) / 4)
    kind = layer(dtype=torch.float64, strategy="newton", D=16, H=16)
    for module in (strict, kind):
        module.load_state_dict(loop.state_dict())
    x = noise(1, 256, 16)
    with pytest.raises(ArithmeticError, match="did not come to rest"):
        strict(x)
    with pytest.warns(UserWarning, match="one after another"):
        y = kind(x)
    same(y, loop(x), within=1e-9)


def test_the_cells_are_sequential_with_newton_on_request() -> None:
    for file, name in CELLS:
        (found,) = verdicts(getattr(std(file), name)).values()
        assert found.verdict == "sequential" and "newton" in found.strategies


def test_a_scan_is_refused() -> None:
    with pytest.raises((seqdsl.UnsupportedError, seqdsl.SpecError)):
        std("gru").GRU(D=4, H=4, strategy="scan")
