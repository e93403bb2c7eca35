"""Single operators of the interpreter: values, derivatives, edges, refusals."""

from __future__ import annotations

import math

import pytest
import torch
from reference_case import layer, listed, run
from torch import Tensor

from seqdsl.backends.reference.pointwise import MAPS, logaddexp
from seqdsl.backends.reference.reductions import REDUCTIONS, along, reduce
from seqdsl.diagnostics import CallError
from seqdsl.ir import ops

INF = math.inf


def tensor(*values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# ---- Pointwise


def test_every_pointwise_operator_has_a_meaning() -> None:
    assert MAPS.keys() == ops.MAPS.keys() and REDUCTIONS.keys() == ops.REDUCTIONS.keys()


REAL = [
    row
    for row in ops.MAPS.values()
    if any(row.partials)
    and row.result in ("promote", "branches")
    and row.name != "conj"
]
POSITIVE = ("log", "sqrt", "rsqrt", "pow", "log1p")


@pytest.mark.parametrize("row", REAL, ids=lambda row: row.name)
def test_derivatives_are_those_of_the_table(row: ops.MapOp) -> None:
    generator = torch.Generator().manual_seed(3)
    draw = torch.rand(3, 2, 6, generator=generator, dtype=torch.float64)
    draw = draw * 0.9 + 0.05 if row.name in POSITIVE else draw * 1.9 - 0.95
    values = {n: draw[i].requires_grad_() for i, n in enumerate("abc"[: row.arity])}
    if row.result == "branches":
        values["a"] = draw[0].detach() > 0
    declared = "; ".join(
        f"{n}: {'float' if v.is_floating_point() else 'bool'}"
        for n, v in values.items()
    )
    call = f"{row.name}({', '.join(values)})"
    infix = f"a {row.symbol} b" if row.arity == 2 else f"{row.symbol}a"
    applied = f"y = {infix if row.symbol else call}"
    result = run(layer(declared, applied, "output y"), None, None, None, **values)
    for partial, value in zip(row.partials, values.values(), strict=True):
        if partial is None:
            continue
        used = " + ".join(f"0 * {n}" for n, v in values.items() if v.requires_grad)
        table = run(
            layer(declared, applied, f"output {used} + ({partial})"),
            None,
            None,
            None,
            **values,
        )
        (ours,) = torch.autograd.grad(result.sum(), value, retain_graph=True)
        torch.testing.assert_close(ours, table.detach())


@pytest.mark.parametrize(
    ("a", "b", "slopes"),
    [
        (-INF, 1.0, (0.0, 1.0)),
        (-INF, -INF, (0.5, 0.5)),
        (2.0, 2.0, (0.5, 0.5)),
        (INF, 0.0, (1.0, 0.0)),
    ],
)
def test_logaddexp_at_infinity(a: float, b: float, slopes: tuple[float, float]) -> None:
    x, y = tensor(a).requires_grad_(), tensor(b).requires_grad_()
    both = torch.autograd.grad(logaddexp(x, y).sum(), (x, y), create_graph=True)
    assert tuple(float(g.detach()) for g in both) == slopes
    second = torch.autograd.grad(both[0].sum(), (x, y))
    assert all(bool(g.isfinite().all()) for g in second)


def test_logaddexp_second_derivative_at_a_tie() -> None:
    x, y = tensor(0.3, 2.0).requires_grad_(), tensor(0.3, -1.0).requires_grad_()
    assert torch.autograd.gradgradcheck(logaddexp, (x, y))


def test_whole_numbers_and_bools() -> None:
    a = torch.tensor([[7, -7, 0]])
    text = layer("a: int", "output OUT")
    for expr, wanted in {
        "a // 2": [3, -4, 0],
        "a % 3": [1, 2, 0],
        "a * a - 1": [48, 48, -1],
        "int(a / 2)": [3, -3, 0],
        "a > 0 or not (a != 0)": [True, False, True],
        "max(a, 1) + (a == 7)": [8, 1, 1],
        "abs(a)": [7, 7, 0],
    }.items():
        found = run(text.replace("OUT", expr), a=a)
        assert listed(found) == [wanted] and found.dtype == torch.tensor(wanted).dtype


def test_whole_numbers_are_not_divided_by_zero() -> None:
    with pytest.raises(CallError, match="divided by zero"):
        run(layer("a: int", "output 1 // a"), a=torch.zeros(1, 1, dtype=torch.int64))


def test_complex_recurrence() -> None:
    text = layer(
        "x: float",
        "state h: complex [] = 0",
        "h = complex(0.6, 0.7) * h[t-1] + x",
        "output real(h) - 2 * imag(h) + abs(conj(h))",
    )
    x = torch.randn(2, 5, dtype=torch.float64, requires_grad=True)
    h, found = torch.zeros(2, dtype=torch.complex128), list[Tensor]()
    for t in range(5):
        h = (0.6 + 0.7j) * h + x[:, t]
        found.append(h.real - 2 * h.imag + h.abs())
    torch.testing.assert_close(run(text, x=x), torch.stack(found, 1))


def test_softplus_is_exact_where_torch_turns_linear() -> None:
    found = run(layer("x: float", "output softplus(x) - x"), x=tensor([21.0]))
    assert found.item() == pytest.approx(math.exp(-21), rel=1e-4)


# ---- Reductions and masks

X = tensor([0.5, -1.0, 2.0, 2.0], [1.0, 3.0, -2.0, 0.0])
SOME = torch.tensor([[True, False, True, True], [False, True, True, False]])
NONE = torch.zeros_like(SOME)


@pytest.mark.parametrize(
    ("op", "wanted"),
    [
        ("sum", [4.5, 1.0]),
        ("mean", [1.5, 0.5]),
        ("prod", [2.0, -6.0]),
        ("max", [2.0, 3.0]),
        ("min", [0.5, -2.0]),
        ("argmax", [2, 1]),
        ("argmin", [0, 2]),
    ],
)
def test_masked_reductions(op: str, wanted: list[float]) -> None:
    assert listed(reduce(op, X, SOME)) == wanted
    hidden = torch.where(SOME, X, INF if op in ("max", "argmax") else -INF)
    assert listed(reduce(op, hidden, SOME)) == wanted


@pytest.mark.parametrize(
    ("op", "wanted"),
    [
        ("sum", 0),
        ("mean", 0),
        ("prod", 1),
        ("max", -INF),
        ("min", INF),
        ("logsumexp", -INF),
    ],
)
def test_reductions_of_nothing(op: str, wanted: float) -> None:
    x = X.clone().requires_grad_()
    result = reduce(op, x, NONE)
    assert listed(result) == [wanted, wanted]
    (gradient,) = torch.autograd.grad(result.sum(), x)
    assert gradient.abs().max() == 0
    assert listed(reduce(op, x[:, :0], NONE[:, :0])) == [wanted, wanted]


def test_whole_numbers_keep_their_precision_under_a_mask() -> None:
    big = torch.tensor([[2**60 + 1, 5, 7]])
    seen = torch.tensor([[True, False, True]])
    assert listed(reduce("max", big, seen)) == [2**60 + 1]
    assert listed(reduce("min", big, seen)) == [7]


@pytest.mark.parametrize("op", ["softmax", "log_softmax"])
def test_softmax_with_and_without_anything_visible(op: str) -> None:
    x = torch.stack([X[0], X[1]]).requires_grad_()
    mask = torch.stack([SOME[0], NONE[0]])
    plain = getattr(torch, op)(X[0, [0, 2, 3]], -1)
    result = along(op, x, mask, 0)
    torch.testing.assert_close(result[0, [0, 2, 3]], plain)
    nothing = 0.0 if op == "softmax" else -INF
    assert listed(result[1]) == [nothing] * 4 and result[0, 1] == nothing

    def visible(x: Tensor) -> Tensor:
        return torch.where(mask, along(op, x, mask, 0), 0.0)

    assert torch.autograd.gradcheck(visible, (x,))
    assert torch.autograd.gradgradcheck(visible, (x,))


def test_logsumexp_with_minus_infinity_inside() -> None:
    x = tensor([-INF, 1.0, 2.0], [-INF, -INF, -INF]).requires_grad_()
    result = reduce("logsumexp", x, torch.ones_like(x, dtype=torch.bool))
    torch.testing.assert_close(result, torch.logsumexp(x, -1))
    (gradient,) = torch.autograd.grad(result.sum(), x)
    torch.testing.assert_close(gradient[0], torch.softmax(x[0], -1).detach())
    assert listed(gradient[1]) == [0, 0, 0]


def test_top_keeps_the_largest_and_the_lower_of_equals() -> None:
    x = tensor([1.0, 3.0, 3.0, 3.0, -1.0]).requires_grad_()
    mask = torch.ones(5, dtype=torch.bool)
    assert listed(along("top", x, mask, 2)) == [[0, 3, 3, 0, 0]]
    assert listed(along("top", -x, mask, 3)) == [[-1, -3, 0, 0, 1]]
    (gradient,) = torch.autograd.grad(along("top", x, mask, 2).sum(), x)
    assert listed(gradient) == [[0, 1, 1, 0, 0]]


@pytest.mark.parametrize(
    "op", ["cumsum", "cumprod", "logcumsumexp", "cummax", "cummin"]
)
@pytest.mark.parametrize("axis", ["K", "t"])
def test_running_operators_along_dims_and_time(op: str, axis: str) -> None:
    x = torch.randn(1, 4, 3, dtype=torch.float64)
    found = run(layer("x: [K]", f"output {op}[{axis}](x)", options="K"), {"K": 3}, x=x)
    wanted = getattr(torch, op)(x, 2 if axis == "K" else 1)
    wanted = wanted if isinstance(wanted, Tensor) else wanted.values
    torch.testing.assert_close(found, wanted)
