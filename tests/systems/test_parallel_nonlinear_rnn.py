"""Nonlinear recurrences in parallel: Newton's iteration on the library's cells."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from systems_case import (
    changed,
    make,
    noise,
    same,
    set_all,
    shaken,
    std,
    strategies,
    verdicts,
)
from torch import Tensor

import seqdsl
from seqdsl.backends.torch.carried.newton import (
    _at_rest,  # pyright: ignore[reportPrivateUsage]
    _come_from,  # pyright: ignore[reportPrivateUsage]
    _jacobian,  # pyright: ignore[reportPrivateUsage]
    _linearized,  # pyright: ignore[reportPrivateUsage]
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


@pytest.mark.parametrize("which", ["exact", "diagonal", "identity", "none"])
def test_1_after_i_iterations_the_first_i_states_are_exact(which: str) -> None:
    """Whatever stands for the Jacobian: DEER, quasi-DEER, Picard, Jacobi."""
    weight, x = 2.5 * noise(6, 6, seed=4) / 6**0.5, noise(1, 20, 6, 1)
    first = torch.zeros(1, 6, 1, dtype=torch.float64)
    initial = first[:, None]

    def step(before: Tensor, at: slice) -> Tensor:
        return torch.tanh(weight @ before + x[:, at])

    exact = [first]
    for t in range(20):
        exact.append(step(exact[-1][:, None], slice(t, t + 1))[:, 0])
    true = torch.stack(exact[1:], 1)
    h = noise(1, 20, 6, 1, seed=5)
    for i in range(1, 21):
        before = _come_from(h, first, None, initial, False)
        slope = {
            "exact": _jacobian(step, before),
            "diagonal": _jacobian(step, before).diagonal(dim1=-2, dim2=-1).diag_embed(),
            "identity": torch.eye(6, dtype=torch.float64).expand(1, 20, 6, 6),
            "none": torch.zeros(1, 20, 6, 6, dtype=torch.float64),
        }[which]
        h = h + _linearized(step(before, slice(None)) - h, slope, None, False)
        same(h[:, :i], true[:, :i], within=1e-9)
    same(h, true, within=1e-9)


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


def filtered(F: Tensor, b: Tensor, y: Tensor, m0: Tensor, variance: float) -> Tensor:
    """The Kalman filter, step by step: process noise 1, observations `y`."""
    mean, spread = m0, torch.ones_like(m0)
    rows: list[Tensor] = []
    for t in range(F.shape[1]):
        if t:
            mean, spread = F[:, t] * mean + b[:, t], F[:, t] ** 2 * spread + 1
        gain = spread / (spread + variance)
        mean, spread = mean + gain * (y[:, t] - mean), (1 - gain) * spread
        rows.append(mean)
    return torch.stack(rows, 1)


def damped(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    F, b, y = (noise(2, 19, 3, seed=seed + i) for i in range(3))
    return F, b, y, noise(2, 3, seed=9)


@pytest.mark.parametrize("variance", [0.5, 100.0])
def test_4_the_elk_scan_is_the_sequential_kalman_filter(variance: float) -> None:
    data = damped()
    expected = filtered(*data, variance)
    options = {"D": 3, "variance": variance}
    names = list[str]()
    for name, module in strategies(std("elk").ELK, options):
        names.append(name)
        mean, _ = module(*data)
        same(mean / expected.abs().max(), expected / expected.abs().max(), name)
    assert {"loop", "scan"} <= set(names)


def test_4_steps_of_elk_compose_in_any_grouping() -> None:
    """Associativity is checked before the recurrence counts as a scan; a changed sign is
    told with a counterexample.
    """
    (found,) = verdicts(std("elk").ELK).values()
    assert found.verdict == "scannable" and found.structure == "monoid"
    assert getattr(found.monoid, "name", "") == "filtering"
    wrong = changed("elk", ("second.J * first.b) / d", "second.J + first.b) / d"))
    with pytest.raises(seqdsl.SpecError, match="associative|identity"):
        wrong.ELK(D=3)


def test_4_observations_of_no_weight_leave_the_plain_recurrence() -> None:
    slopes, b, y, m0 = damped(5)
    F = slopes.tanh()
    found, _ = make(std("elk").ELK, D=3, variance=1e8)(F, b, y, m0)
    h, rows = m0, [m0]
    for t in range(1, 19):
        h = F[:, t] * h + b[:, t]
        rows.append(h)
    plain = torch.stack(rows, 1)
    gap = float((found - plain).abs().max())
    assert 0 < gap < 6e-7


def test_5_three_iterations_are_too_few_for_large_state_weights() -> None:
    """Diagonal GRU, state weights of deviation 1: it falls back, with a warning."""
    layer = std("pararnn").ParaGRU
    sizes: dict[str, Any] = {"D": 4, "H": 32}
    loop = make(layer, strategy="loop", **sizes)
    three = layer(dtype=torch.float64, strategy="newton:3", **sizes)
    x = noise(1, 512, 4)
    for deviation, enough in ((1.0, False), (0.01, True)):
        weights = {n: deviation * noise(32, seed=i) for i, n in enumerate(STATE)}
        set_all(loop, weights)
        three.load_state_dict(loop.state_dict())
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            y = three(x)
        same(y, loop(x), within=1e-9)
        assert bool(caught) is not enough
        assert all("in 4 iterations" in str(w.message) for w in caught)
    with pytest.raises(seqdsl.CallError, match="newton:8"):
        layer(strategy="newton:0", **sizes)


STATE = ("az", "ar", "ac")


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
