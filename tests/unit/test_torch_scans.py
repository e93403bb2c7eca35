"""The functions behind scans, at lengths that have several blocks, against a plain loop."""

from __future__ import annotations

import math
from collections.abc import Callable
from unittest.mock import patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from seqdsl.backends.torch.carried import scan
from seqdsl.backends.torch.carried.masked import (
    _logcumsumexp,  # pyright: ignore[reportPrivateUsage]
)
from seqdsl.backends.torch.carried.monoids import (
    _SEMIRINGS,  # pyright: ignore[reportPrivateUsage]
    _product,  # pyright: ignore[reportPrivateUsage]
    _scan_in,  # pyright: ignore[reportPrivateUsage]
    _scan_matrices,  # pyright: ignore[reportPrivateUsage]
)
from seqdsl.backends.torch.carried.scan import (
    _convolved,  # pyright: ignore[reportPrivateUsage]
    _scan,  # pyright: ignore[reportPrivateUsage]
)

Step = Callable[[int, Tensor], Tensor]
LENGTHS = st.one_of(st.integers(0, 3), st.integers(30, 70), st.integers(190, 330))


def loop(
    step: Step,
    first: Tensor,
    initial: Tensor,
    starts: Tensor | None,
    time: int,
    reverse: bool,
) -> Tensor:
    """What a scan means."""
    h, steps = first, list[Tensor]()
    for t in reversed(range(time)) if reverse else range(time):
        if starts is not None:
            at = starts[:, t].view(-1, *[1] * (h.dim() - 1))
            h = torch.where(at, initial, h)
        h = step(t, h)
        steps.append(h)
    if not steps:
        return first[:, None][:, :0]
    return torch.stack(steps[::-1] if reverse else steps, 1)


def close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def random(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=dtype)


def beginnings(seed: int, batch: int, time: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, time, generator=generator) < 0.05


def decays(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Of size up to 1, of both signs, and some exactly 0."""
    a = random(seed, *shape, dtype=dtype)
    a = a / (1 + a.abs())
    return torch.where(random(seed + 1, *shape) > 2, 0, a)


@given(
    st.integers(0, 99),
    LENGTHS,
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from([{}, {"_SPAN": 96}, {"_LANES": 0}]),
)
def test_diagonal_scan(
    seed: int,
    time: int,
    packed: bool,
    reverse: bool,
    complex_: bool,
    as_if: dict[str, int],
) -> None:
    """At once, in spans as if of millions of numbers, step by step as if of wide steps."""
    with patch.dict(vars(scan), as_if):
        _check_diagonal_scan(seed, time, packed, reverse, complex_)


def _check_diagonal_scan(
    seed: int, time: int, packed: bool, reverse: bool, complex_: bool
) -> None:
    dtype = torch.complex128 if complex_ else torch.float64
    a = decays(seed, 2, time, 3, dtype=dtype).requires_grad_()
    b = random(seed + 2, 2, time, 3, dtype=dtype).requires_grad_()
    first = random(seed + 3, 2, 3, dtype=dtype).requires_grad_()
    initial = random(seed + 4, 3, dtype=dtype)
    starts = beginnings(seed, 2, time) if packed else None
    ours, last = _scan(a, b, first, starts, initial, reverse)
    theirs = loop(
        lambda t, h: a[:, t] * h + b[:, t], first, initial, starts, time, reverse
    )
    close(ours, theirs)
    if time:
        close(last, ours[:, 0 if reverse else -1])
        weight = random(seed + 5, 2, time, 3, dtype=dtype)
        for x, y in zip(
            torch.autograd.grad((ours * weight).sum().real, (a, b, first)),
            torch.autograd.grad((theirs * weight).sum().real, (a, b, first)),
            strict=True,
        ):
            close(x, y)


@given(st.integers(0, 99), LENGTHS, st.booleans(), st.floats(0.3, 1.01))
def test_convolution(seed: int, time: int, reverse: bool, size: float) -> None:
    a = size * torch.tensor([1.0, -1.0, 0.0], dtype=torch.float64)
    b, first = random(seed, 2, time, 3), random(seed + 1, 2, 3)
    ours, last = _convolved(a, b, first, None, 0.0, reverse)
    theirs = loop(lambda t, h: a * h + b[:, t], first, first, None, time, reverse)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    if time:
        close(last, ours[:, 0 if reverse else -1])


@pytest.mark.parametrize("time", [40, 3000])
def test_convolutions_round_entry_by_entry(time: int) -> None:
    """Small entries beside large ones are as exact as in a scan, gradients too."""
    a = torch.tensor([1.0, 0.99, 0.5, -0.9], dtype=torch.float64).requires_grad_()
    size = 10 ** torch.linspace(0, 8, time, dtype=torch.float64)[:, None]
    b = (random(0, 2, time, 4).abs() * size).requires_grad_()
    first = random(1, 2, 4).requires_grad_()
    results: list[tuple[Tensor, ...]] = []
    for function, factor in ((_convolved, a), (_scan, a[None, None])):
        h, _ = function(factor, b, first, None, 0.0)
        weighed = (h / size).square().sum()
        results.append((h, *torch.autograd.grad(weighed, [a, b, first])))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=0)


@pytest.mark.parametrize("semiring", _SEMIRINGS)
@given(st.integers(0, 99), LENGTHS, st.booleans(), st.booleans())
def test_semirings(
    semiring: str, seed: int, time: int, packed: bool, reverse: bool
) -> None:
    plus, times, zero = _SEMIRINGS[semiring]

    def made(number: int, *shape: int) -> Tensor:
        x = random(seed + number, *shape)
        if semiring == "boolean":
            return x > 0.5
        return x.masked_fill(x > 1.5, zero)

    starts = beginnings(seed, 2, time) if packed else None
    a, b, first, initial = (
        made(0, 2, time, 3),
        made(1, 2, time, 3),
        made(2, 2, 3),
        made(3, 3),
    )
    ours, _ = _scan_in(semiring, a, b, first, starts, initial, reverse)
    theirs = loop(
        lambda t, h: plus(times(a[:, t], h), b[:, t]),
        first,
        initial,
        starts,
        time,
        reverse,
    )
    torch.testing.assert_close(ours, theirs)
    m, b = made(4, 2, time, 3, 3), made(5, 2, time, 3, 2)
    if semiring == "real":
        m = m / 4
    first, initial = made(6, 2, 3, 2), made(7, 2, 1, 3, 2)
    ours, _ = _scan_matrices(semiring, m, b, first, starts, initial, reverse)
    theirs = loop(
        lambda t, h: plus(_product(semiring, m[:, t], h), b[:, t]),
        first, initial[:, 0], starts, time, reverse,
    )  # fmt: skip
    torch.testing.assert_close(ours, theirs)


def test_a_million_steps_stay_exact() -> None:
    time = 1_000_000
    a = torch.sigmoid(random(0, 1, time, 2, dtype=torch.float32) + 3)
    b = (1 - a) * random(1, 1, time, 2, dtype=torch.float32)
    zero = torch.zeros(1, 2)
    ours, _ = _scan(a, b, zero, None, 0.0)
    exact, _ = _scan(a.double(), b.double(), zero.double(), None, 0.0)
    assert float((ours - exact).abs().max()) < 1e-5 * float(exact.abs().max())


@pytest.mark.slow
@pytest.mark.parametrize("semiring", ["log", "max_plus", "min_plus", "max_min"])
def test_a_million_steps_in_a_semiring(semiring: str) -> None:
    """As exact at the end as a thousand steps from what a thousand before it left."""
    time, near = 1_000_000, 1_000
    a = -torch.rand(1, time, 2, generator=torch.Generator().manual_seed(0))
    b, first = random(1, 1, time, 2, dtype=torch.float32), torch.zeros(1, 2)
    ours, last = _scan_in(semiring, a, b, first, None, 0.0)
    assert bool(ours.isfinite().all())
    exact, _ = _scan_in(
        semiring, a[:, -near:].double(), b[:, -near:].double(),
        ours[:, -near - 1].double(), None, 0.0,
    )  # fmt: skip
    torch.testing.assert_close(ours[:, -near:].double(), exact, rtol=1e-4, atol=1e-4)
    assert torch.equal(last, ours[:, -1])


@pytest.mark.slow
def test_a_million_rotations_stay_on_the_circle() -> None:
    """A product of a million matrices of size 1 neither grows nor dies."""
    time = 1_000_000
    angle = 0.01 + 0.001 * random(0, 1, time, dtype=torch.float32)
    sides = [[angle.cos(), -angle.sin()], [angle.sin(), angle.cos()]]
    turn = torch.stack([torch.stack(row, -1) for row in sides], -2)
    first = torch.tensor([[[1.0], [0.0]]])
    none = torch.zeros(1, time, 2, 1)
    ours, _ = _scan_matrices("real", turn, none, first, None, first[:, None])
    size = ours.square().sum((-2, -1)).sqrt()
    assert float((size - 1).abs().max()) < 2e-2
    whole = angle.double().cumsum(1)[:, -1]
    exact = torch.stack([whole.cos(), whole.sin()], -1)
    assert float((ours[:, -1, :, 0].double() - exact).abs().max()) < 2e-2


# of torch's own: it compiles something when jvp is first used
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
def test_mapped_and_pushed_forward() -> None:
    """vmap, jvp and double backward go through the scan as through the loop."""
    a, b, first = decays(0, 2, 40, 3), random(2, 2, 40, 3), random(3, 2, 3)

    def ours(a: Tensor, b: Tensor, first: Tensor) -> Tensor:
        return _scan(a, b, first, None, 0.0)[0]

    def theirs(a: Tensor, b: Tensor, first: Tensor) -> Tensor:
        return loop(lambda t, h: a[:, t] * h + b[:, t], first, first, None, 40, False)

    given_ = (a, b, first)
    moved = tuple(map(torch.ones_like, given_))
    for x, y in zip(
        torch.func.jvp(ours, given_, moved),  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
        torch.func.jvp(theirs, given_, moved),  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
        strict=True,
    ):
        close(x, y)
    many = tuple(torch.stack([x, 2 * x]) for x in given_)
    close(
        torch.func.vmap(ours)(*many),
        torch.stack([ours(*given_), ours(*(2 * x for x in given_))]),
    )  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
    leaves = tuple(
        x.clone()[:, :5].requires_grad_()
        if x.dim() == 3
        else x.clone().requires_grad_()
        for x in given_
    )
    assert torch.autograd.gradgradcheck(ours, leaves)


def test_running_logs_of_sums_have_finite_second_gradients() -> None:
    """torch's own are nan where the first gradient that comes in is 0."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 6, generator=generator, dtype=torch.float64)
    x[0, :2] = x[1, 3] = -math.inf
    for dim in (0, 1, -1):
        torch.testing.assert_close(_logcumsumexp(x, dim, None), x.logcumsumexp(dim))
    leaf = x.clamp(min=-3).requires_grad_()
    grad = torch.randn(3, 6, generator=generator, dtype=torch.float64)
    grad[0, 2] = 0

    def ours(x: Tensor) -> Tensor:
        y = _logcumsumexp(x, 1, x.detach() > -2)
        return torch.where(y > -math.inf, y, 0)

    assert torch.autograd.gradcheck(ours, (leaf,))
    assert torch.autograd.gradgradcheck(ours, (leaf,), (grad.requires_grad_(),))
