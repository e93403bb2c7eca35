"""Generated modules under torch.func: grad, vmap, jvp, and one within another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from seqdsl.elaborate import load_file
from seqdsl.testing.layers import subjects

# what torch itself does when forward mode is first used
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")

func: Any = torch.func

ROOT = Path(__file__).parents[2]
PLACES = (
    "stdlib/mingru.seq:MinGRU",
    "stdlib/gru.seq:GRU",
    "stdlib/lstm.seq:LSTM",
    "stdlib/gla.seq:GLA",
    "stdlib/gated_deltanet.seq:GatedDeltaNet",
    "stdlib/lru.seq:LRU",
    "stdlib/mamba.seq:Mamba",
    "stdlib/mlstm.seq:MLSTM",
    "stdlib/attention.seq:MHA",
    "tests/language/ok/axes_depth_time.seq:StackedRNN",
)
Values = dict[str, Tensor]


def made(place: str) -> tuple[Callable[[Values, Tensor], Tensor], Values, Tensor]:
    """A layer as a function of parameters and input, with a value of each."""
    path, layer = place.split(":")
    subject = next(subjects(load_file(ROOT / path), layer))
    (given,) = subject.model.inputs
    extents = [subject.bound.dims[d] for d in given.type.dims]
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, *extents, generator=generator, dtype=torch.float64)
    module: Any = subject.module

    def run(params: Values, x: Tensor) -> Tensor:
        result: Any = func.functional_call(module, params, (x,))
        return result if isinstance(result, Tensor) else result[0]

    return run, subject.params(0), x


def _close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("place", PLACES)
def test_grad_is_that_of_autograd(place: str) -> None:
    run, params, x = made(place)

    def loss(params: Values, x: Tensor) -> Tensor:
        return run(params, x).square().sum()

    found: Any = func.grad(loss, argnums=(0, 1))(params, x)
    leaves = {n: v.clone().requires_grad_() for n, v in params.items()}
    y = x.clone().requires_grad_()
    wanted = torch.autograd.grad(
        loss(leaves, y), [*leaves.values(), y], materialize_grads=True
    )
    for ours, theirs in zip([*found[0].values(), found[1]], wanted, strict=True):
        _close(ours, theirs)


@pytest.mark.parametrize("place", PLACES)
def test_vmap_is_a_loop(place: str) -> None:
    run, params, x = made(place)
    many = torch.stack([x, 2 * x, -x])
    several = {n: torch.stack([v, 1.1 * v]) for n, v in params.items()}
    with sdpa_kernel(SDPBackend.MATH):  # of torch's, only this one is mapped as a whole
        found: Tensor = func.vmap(run, in_dims=(None, 0))(params, many)
        mapped: Tensor = func.vmap(run, in_dims=(0, None))(several, x)
    _close(found, torch.stack([run(params, one) for one in many]))
    alone = [run({n: v[i] for n, v in several.items()}, x) for i in range(2)]
    _close(mapped, torch.stack(alone))


@pytest.mark.parametrize("place", PLACES)
def test_jvp_and_vjp_are_adjoint(place: str) -> None:
    run, params, x = made(place)
    generator = torch.Generator().manual_seed(1)
    step = torch.randn(x.shape, generator=generator, dtype=x.dtype)
    with sdpa_kernel(SDPBackend.MATH):  # of torch's, only this one has forward mode
        still = {n: torch.zeros_like(v) for n, v in params.items()}
        given: tuple[Tensor, Tensor] = func.jvp(run, (params, x), (still, step))
        y, moved = given
        back = torch.randn(y.shape, generator=generator, dtype=y.dtype)
        pull: Callable[[Tensor], tuple[Values, Tensor]] = func.vjp(run, params, x)[1]
    _, pulled = pull(back)
    _close((moved * back).sum(), (pulled * step).sum())


@pytest.mark.parametrize("place", PLACES)
def test_modes_can_be_mixed(place: str) -> None:
    run, params, x = made(place)
    x = x[:1, :2]
    with sdpa_kernel(SDPBackend.MATH):

        def loss(x: Tensor) -> Tensor:
            return run(params, x).square().sum()

        _close(func.jacfwd(loss)(x), func.jacrev(loss)(x))
        second: Tensor = func.hessian(loss)(x)
        _close(second, func.jacrev(func.jacrev(loss))(x))

        def of_row(row: Tensor) -> Tensor:
            return loss(row[None])

        per_row: Tensor = func.vmap(func.grad(of_row))(torch.cat([x, -x]))
        _close(per_row[:1], func.grad(loss)(x))
