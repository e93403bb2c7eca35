"""Kernels in Triton's interpreter against step-by-step loops in float64."""

# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false
# pyright: reportCallIssue=false

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

pytest.importorskip("triton", reason="Triton is there for Linux only")

from seqdsl.backends.triton.interpreting import interpreting, repair
from seqdsl.backends.triton.launch.delta import delta_products
from seqdsl.backends.triton.launch.outer import decayed_products
from seqdsl.backends.triton.launch.scan import scan

repair()
BOUNDS = {torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 2e-2}
Values = Sequence[Tensor | None]


def test_kernels_are_interpreted() -> None:
    assert interpreting()


def outer_loop(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor | None, state: Tensor, lag: int
):
    """Decayed outer products as the definition has them."""
    reads: list[Tensor] = []
    for t in range(k.shape[1]):
        before = state
        state = kept(g, t, state) + k[:, t, ..., None] * v[:, t, :, None]
        reads.append(torch.einsum("bhk,bhkv->bhv", q[:, t], before if lag else state))
    return torch.stack(reads, 1) if reads else v, state


def kept(g: Tensor | None, t: int, state: Tensor) -> Tensor:
    """What is left of a state."""
    if g is None:
        return state
    return state * g[:, t].exp().view(*state.shape[:2], -1, 1)


def delta_loop(
    q: Tensor,
    l: Tensor,
    r: Tensor,
    y: Tensor | None,
    g: Tensor | None,
    ls: Tensor | None,
    rs: Tensor | None,
    state: Tensor,
    k: Tensor | None = None,
    v: Tensor | None = None,
):
    """Delta rules as the definition has them."""
    reads: list[Tensor] = []
    for t in range(l.shape[1]):
        seen = torch.einsum("bhk,bhkv->bhv", r[:, t], state)
        x = seen if rs is None else rs[:, t, :, None] * seen
        x = x if y is None else x + y[:, t]
        left = l[:, t] if ls is None else ls[:, t, :, None] * l[:, t]
        state = kept(g, t, state) + left[..., None] * x[:, :, None]
        if k is not None and v is not None:
            state = state + k[:, t, ..., None] * v[:, t, :, None]
        reads.append(torch.einsum("bhk,bhkv->bhv", q[:, t], state))
    return torch.stack(reads, 1), state


def agree(
    kernel: Callable[..., tuple[Tensor, Tensor]],
    loop: Callable[..., tuple[Tensor, Tensor]],
    values: Values,
    bound: float,
) -> None:
    """Outputs, last states and all gradients, relative to the largest of each.

    In half precision also relative to what inputs that are off by the bound would change:
    where terms cancel, the largest of the result says nothing about the size of the terms.
    """
    mine = [None if x is None else x.clone().requires_grad_() for x in values]
    true = [None if x is None else x.double().requires_grad_() for x in values]
    found, wanted = kernel(*mine), loop(*true)
    weights = [torch.randn(x.shape, dtype=torch.float64) for x in wanted]
    finite = [x.isfinite() for x in wanted]
    ours = with_gradients(found, mine, weights, finite)
    exact = with_gradients(wanted, true, weights, finite)
    moved = [torch.zeros(()) for _ in exact]
    for _ in range(2 if bound > BOUNDS[torch.float32] else 0):
        inexact = [off_by(bound, x) for x in true]
        other = with_gradients(loop(*inexact), inexact, weights, finite)
        moved = [
            torch.maximum(m, largest_of(x - y))
            for m, x, y in zip(moved, exact, other, strict=True)
        ]
    for a, b, change in zip(ours, exact, moved, strict=True):
        largest = largest_of(b).clamp(min=1e-2)
        allowed = (bound * largest + change).item()
        torch.testing.assert_close(a.double(), b, atol=allowed, rtol=0)


def largest_of(x: Tensor) -> Tensor:
    """The largest absolute value."""
    return x.detach().abs().max() if x.numel() else torch.zeros(())


def off_by(part: float, x: Tensor | None) -> Tensor | None:
    """Values off by a part of themselves, up or down."""
    if x is None:
        return None
    moved = x.detach() * (1 + part * torch.randn_like(x).sign())
    return moved.requires_grad_()


def with_gradients(
    outputs: Sequence[Tensor],
    inputs: Values,
    weights: Sequence[Tensor],
    finite: Sequence[Tensor],
) -> tuple[Tensor, ...]:
    """Outputs where they are `finite`, and gradients of their weighted sum."""
    kept = [torch.where(f, x, 0) for f, x in zip(finite, outputs, strict=True)]
    loss = sum(((o * w).sum() for o, w in zip(kept, weights, strict=True)))
    assert isinstance(loss, Tensor)
    there = [x for x in inputs if x is not None]
    return (*kept, *torch.autograd.grad(loss, there))


def gates(kind: str, lead: tuple[int, ...], K: int, harsh: bool) -> Tensor | None:
    """Logarithms of decays; harsh ones forget all, or nearly, now and then."""
    if kind == "none":
        return None
    g = -torch.rand(*lead, *([K] if kind == "channel" else [])) * 0.5
    if harsh:
        g[:, ::5] *= 300
        g[:, 3::7] = -math.inf
        g[:, 1::7] = 0
    return g


SHAPES = st.fixed_dictionaries(
    {
        "time": st.sampled_from([1, 2, 15, 16, 17, 50, 70]),
        "kind": st.sampled_from(["none", "scalar", "channel"]),
        "harsh": st.booleans(),
        "K": st.sampled_from([1, 5, 16, 20]),
        "V": st.sampled_from([1, 7, 16, 40]),
        "dtype": st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
        "seed": st.integers(0, 99),
    }
)
Shape = dict[str, object]


def drawn(shape: Shape, extents: Sequence[str]) -> list[Tensor]:
    """Random vectors of the extents named, by shape."""
    torch.manual_seed(int(str(shape["seed"])))
    lead = (2 if shape["seed"] == 0 else 1, int(str(shape["time"])), 2)
    dtype = shape["dtype"]
    assert isinstance(dtype, torch.dtype)
    return [torch.randn(*lead, int(str(shape[e]))).to(dtype) for e in extents]


def bound_of(values: Values) -> float:
    first = values[0]
    assert first is not None
    return BOUNDS[first.dtype]


@settings(max_examples=10)
@given(SHAPES, st.sampled_from([0, 1]))
def test_outer_products(shape: Shape, lag: int) -> None:
    q, k, v = drawn(shape, "KKV")
    g = gates(str(shape["kind"]), k.shape[:3], k.shape[3], bool(shape["harsh"]))
    first = torch.randn(len(k), 2, k.shape[3], v.shape[3])
    agree(
        lambda *x: decayed_products(*x, 1.0, lag),
        lambda *x: outer_loop(*x, lag),
        (q, k, v, g, first),
        bound_of((q,)),
    )


@settings(max_examples=5)
@given(SHAPES, st.booleans())
def test_delta_rules(shape: Shape, scaled: bool) -> None:
    q, l, y = drawn(shape, "KKV")
    l = torch.nn.functional.normalize(l.float(), dim=-1).to(l.dtype)
    g = gates(str(shape["kind"]), l.shape[:3], l.shape[3], bool(shape["harsh"]))
    scales = [torch.rand(l.shape[:3]) if scaled else None for _ in range(2)]
    first = torch.randn(len(l), 2, l.shape[3], y.shape[3])
    agree(
        lambda *x: delta_products(*x),
        delta_loop,
        (q, l, -0.9 * l, y, g, *scales, first),
        bound_of((q,)),
    )


@settings(max_examples=5)
@given(SHAPES, st.booleans())
def test_writes_beside_those_that_erase(shape: Shape, own: bool) -> None:
    q, l, r, k, v, y = drawn(shape, "KKKKVV")
    l, r = (
        torch.nn.functional.normalize(x.float(), dim=-1).to(x.dtype) for x in (l, r)
    )
    g = gates(str(shape["kind"]), l.shape[:3], l.shape[3], bool(shape["harsh"]))
    first = torch.randn(len(l), 2, l.shape[3], y.shape[3])
    agree(
        delta_products,
        delta_loop,
        (q, l, -0.9 * r, y if own else None, g, None, None, first, k, v),
        bound_of((q,)),
    )


PLUS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "real": torch.add,
    "log": torch.logaddexp,
    "max_plus": torch.maximum,
    "min_plus": torch.minimum,
    "max_min": torch.maximum,
}


@settings(max_examples=15)
@given(
    st.sampled_from(list(PLUS)),
    st.sampled_from([1, 31, 32, 33, 300]),
    st.sampled_from([1, 5, 40]),
    st.booleans(),
)
def test_scans(semiring: str, time: int, channels: int, harsh: bool) -> None:
    torch.manual_seed(time)
    a, b = torch.rand(2, time, channels) * 2 - 1, torch.randn(2, time, channels)
    if harsh:
        a[:, 1::5] = 0
        if semiring not in ("real", "min_plus"):
            a[:, 1::7], b[:, 2::3] = -math.inf, -math.inf

    def loop(a: Tensor, b: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        steps: list[Tensor] = []
        for t in range(time):
            if semiring == "real":
                h = a[:, t] * h
            else:
                h = torch.minimum(a[:, t], h) if semiring == "max_min" else a[:, t] + h
            h = PLUS[semiring](h, b[:, t])
            steps.append(h)
        return torch.stack(steps, 1), h

    def kernel(a: Tensor, b: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        made = scan(a, b, h, semiring)
        return made, made[:, -1]

    agree(kernel, loop, (a, b, torch.randn(2, channels)), 1e-5)


# ---- Gradients of gradients


def again(
    run: Callable[..., Sequence[Tensor]], values: Values, dtype: torch.dtype
) -> list[Tensor]:
    """Second gradients: of a weighted sum of those of squares, which depend on all."""
    torch.manual_seed(1)
    leaves = [None if x is None else x.to(dtype).requires_grad_() for x in values]
    there, zero = [x for x in leaves if x is not None], torch.zeros((), dtype=dtype)
    outs = [x.where(x > -100, 0) for x in run(*leaves)]
    loss = sum((x.square().sum() for x in outs), zero)
    grads = torch.autograd.grad(loss, there, create_graph=True)
    more = sum(((g * torch.randn(g.shape)).sum() for g in grads), zero)
    return list(torch.autograd.grad(more, there, materialize_grads=True))


def agree_again(
    kernel: Callable[..., Sequence[Tensor]],
    loop: Callable[..., Sequence[Tensor]],
    values: Values,
) -> None:
    """Second gradients, relative to the largest of each."""
    found = again(kernel, values, torch.float32), again(loop, values, torch.float64)
    for a, b in zip(*found, strict=True):
        allowed = 1e-5 * float(b.abs().max().clamp(min=1))
        torch.testing.assert_close(a.double(), b, atol=allowed, rtol=0)


@pytest.mark.parametrize("kind", ["none", "scalar", "channel"])
@pytest.mark.parametrize("lag", [0, 1])
def test_second_gradients_of_outer_products(kind: str, lag: int) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 20, 2, n) for n in (5, 5, 3))
    g, first = gates(kind, (1, 20, 2), 5, harsh=False), torch.randn(1, 2, 5, 3)
    agree_again(
        lambda *x: decayed_products(*x, 1.0, lag),
        lambda *x: outer_loop(*x, lag),
        (q, k, v, g, first),
    )


@pytest.mark.parametrize("kind", ["scalar", "channel"])
@pytest.mark.parametrize("both", [False, True])
def test_second_gradients_of_delta_rules(kind: str, both: bool) -> None:
    torch.manual_seed(0)
    q, l, k, v, y = (torch.randn(1, 20, 2, n) for n in (5, 5, 5, 3, 3))
    l = torch.nn.functional.normalize(l, dim=-1)
    g, first = gates(kind, (1, 20, 2), 5, harsh=False), torch.randn(1, 2, 5, 3)
    scales = torch.rand(1, 20, 2), torch.rand(1, 20, 2)
    more = (k, v) if both else ()
    values = (q, l, -0.9 * l, y, g, *scales, first, *more)
    agree_again(delta_products, delta_loop, values)


def pairs_loop(
    q: Tensor, l: Tensor, r: Tensor, y: Tensor, g: Tensor
) -> tuple[Tensor, Tensor]:
    """Two rows a step, of which the first decays, as the definition has them."""
    state = before = q.new_zeros(q.shape[0], q.shape[2], q.shape[3], y.shape[3])
    reads: list[Tensor] = []
    for t in range(q.shape[1]):
        if t % 2 == 0:
            before, state = state, kept(g[:, ::2], t // 2, state)
        seen = torch.einsum("bhk,bhkv->bhv", r[:, t], before)
        state = state + l[:, t, ..., None] * (y[:, t] + seen)[:, :, None]
        reads.append(torch.einsum("bhk,bhkv->bhv", q[:, t], state))
    return torch.stack(reads, 1), state


def test_second_gradients_of_several_writes_in_a_step() -> None:
    torch.manual_seed(0)
    q, l, y = (torch.randn(1, 12, 2, n) for n in (5, 5, 3))
    l = torch.nn.functional.normalize(l, dim=-1)
    first = torch.arange(12)[:, None] % 2 == 0

    def kernel(*x: Tensor) -> tuple[Tensor, Tensor]:
        q, l, r, y, g = x
        return delta_products(q, l, r, y, torch.where(first, g, 0), group=2)

    agree_again(kernel, pairs_loop, (q, l, -0.4 * l, y, -torch.rand(1, 12, 2)))


@pytest.mark.filterwarnings("ignore:(divide by zero|invalid value)")
@pytest.mark.parametrize("semiring", list(PLUS))
def test_second_gradients_of_scans(semiring: str) -> None:
    torch.manual_seed(0)
    a, b = torch.randn(2, 40, 3), torch.randn(2, 40, 3)
    if semiring == "log":
        a[:, 1::7], b[:, 2::3] = -math.inf, -math.inf

    def loop(a: Tensor, b: Tensor, h: Tensor) -> tuple[Tensor, ...]:
        steps: list[Tensor] = []
        if semiring == "log":  # torch has no second gradients at -inf
            a, b = a.clamp_min(-200), b.clamp_min(-200)
        for t in range(a.shape[1]):
            if semiring == "real":
                h = a[:, t] * h
            else:
                h = torch.minimum(a[:, t], h) if semiring == "max_min" else a[:, t] + h
            h = PLUS[semiring](h, b[:, t])
            steps.append(h)
        return (torch.stack(steps, 1),)

    def kernel(a: Tensor, b: Tensor, h: Tensor) -> tuple[Tensor, ...]:
        return (scan(a, b, h, semiring),)

    agree_again(kernel, loop, (0.5 * a, b, torch.randn(2, 3)))


def test_several_segments_of_many_chunks() -> None:
    torch.manual_seed(1)
    q, k, v = (torch.randn(1, 600, 1, n) for n in (8, 8, 8))
    g = -torch.rand(1, 600, 1) * 0.1
    first = torch.randn(1, 1, 8, 8)
    agree(
        lambda *x: decayed_products(*x),
        lambda *x: outer_loop(*x, 0),
        (q, k, v, g, first),
        1e-5,
    )


@pytest.mark.parametrize("kind", ["scalar", "channel"])
def test_keys_in_two_blocks(kind: str) -> None:
    torch.manual_seed(0)
    q, k = (torch.randn(1, 21, 1, 200) / 10 for _ in range(2))
    v, first = torch.randn(1, 21, 1, 5), torch.randn(1, 1, 200, 5)
    g = gates(kind, (1, 21, 1), 200, harsh=True)
    agree(
        lambda *x: decayed_products(*x),
        lambda *x: outer_loop(*x, 0),
        (q, k, v, g, first),
        1e-5,
    )


def test_no_steps() -> None:
    q, k, v = (torch.randn(1, 0, 2, n) for n in (4, 4, 3))
    first = torch.randn(1, 2, 4, 3)
    for o, last in (
        decayed_products(q, k, v, initial=first),
        delta_products(q, k, k, v, initial=first),
    ):
        assert o.shape == (1, 0, 2, 3)
        torch.testing.assert_close(last, first)


@pytest.mark.parametrize("op", ["outer", "delta", "scan"])
def test_operators_keep_to_their_fakes(op: str) -> None:
    from seqdsl.backends.triton.launch.delta_forward import delta
    from seqdsl.backends.triton.launch.outer import outer

    q, k, v = (torch.randn(1, 20, 1, 4, requires_grad=True) for _ in range(3))
    g = -torch.rand(1, 20, 1)
    tests = ("test_schema", "test_faketensor", "test_autograd_registration")
    if op == "outer":
        torch.library.opcheck(outer, (q, k, v, g, None, 1.0, 0, True), test_utils=tests)
    elif op == "delta":
        given_ = (q, k, k, v, k, v, g, *[None] * 3, 1.0, True, 1)
        torch.library.opcheck(delta, given_, test_utils=tests)
    else:
        x = torch.rand(1, 20, 4, requires_grad=True)
        torch.library.opcheck(scan, (x, x, x[:, 0], "log"), test_utils=tests)
