"""Newton's iteration: the loop's values, few rounds where steps contract, else the loop."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import seqdsl
from seqdsl.backends.torch.carried.newton import (
    _at_rest,  # pyright: ignore[reportPrivateUsage]
)

CELLS = """\
layer Cell(D, H):
    input x: [D]
    state h: [H] = 0
    z = sigmoid(linear(x, H) + linear(h[t-1], H))
    n = tanh(linear(x, H) + z * linear(h[t-1], H))
    h = (1 - z) * n + z * h[t-1]
    output h

# every entry by itself, so that the Jacobian is two by two
layer Diagonal(D, H):
    input x: [D]
    state c: [H] = 0
    state h: [H] = 0
    param w: [H] ~ normal(0, 1)
    f = sigmoid(linear(x, H) + w * h[t-1])
    c = f * c[t-1] + (1 - f) * tanh(linear(x, H) + w * c[t-1])
    h = sigmoid(linear(x, H)) * tanh(c)
    output h

# the logistic map, which is chaotic at 4
layer Chaos():
    input x: []
    state h: [] = 0.3
    h = 4 * h[t-1] * (1 - h[t-1]) + 0 * x
    output h
"""


def pair(name: str, **options: int) -> tuple[Any, Any]:
    spec = seqdsl.loads(CELLS)
    made = [getattr(spec, name)(**options, strategy=s) for s in ("loop", "newton")]
    loop, newton = (m.double() for m in made)
    newton.load_state_dict(loop.state_dict())
    return loop, newton


@pytest.mark.parametrize("name", ["Cell", "Diagonal"])
def test_values_and_gradients_are_those_of_the_loop(name: str) -> None:
    loop, newton = pair(name, D=4, H=6)
    x = torch.randn(2, 200, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 200, 6, dtype=torch.float64)
    found: list[Tensor] = []
    for module in (loop, newton):
        y = module(x)
        slopes = torch.autograd.grad((y * weight).sum(), [x, *module.parameters()])
        found.append(torch.cat([y.flatten(), *(s.flatten() for s in slopes)]))
    torch.testing.assert_close(found[1], found[0], rtol=1e-8, atol=1e-8)


def test_a_contraction_takes_few_rounds() -> None:
    """Quadratic convergence: rounds grow with the logarithm of the accuracy, not with T."""
    made = torch.Generator().manual_seed(0)
    weight = 0.1 * torch.randn(8, 8, dtype=torch.float64, generator=made)
    x = torch.randn(2, 2000, 8, 1, dtype=torch.float64, generator=made)

    def step(before: Tensor, at: slice) -> Tensor:
        return torch.tanh(weight @ before + x[:, at])

    first = torch.zeros(2, 8, 1, dtype=torch.float64)
    h, _, rounds = _at_rest(step, first, None, first[:, None], 2000, False)
    assert h is not None
    assert rounds <= 10


def test_chaos_is_told_and_run_step_by_step() -> None:
    loop, newton = pair("Chaos")
    x = torch.zeros(1, 300, dtype=torch.float64)
    with pytest.warns(UserWarning, match="newton did not come to rest"):
        y = newton(x)
    torch.testing.assert_close(y, loop(x))
    strict = seqdsl.loads(CELLS).Chaos(strategy="newton:strict").double()
    with pytest.raises(ArithmeticError, match="newton did not come to rest"):
        strict(x)
