"""Intervals hold what is sampled: operator by operator, and for whole coefficients."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_case import noise, run

from seqdsl.analysis.bounds import Bounds
from seqdsl.analysis.interval_rows import ROWS
from seqdsl.analysis.intervals import INF, REAL, Interval, reciprocal
from seqdsl.backends.reference import pointwise
from seqdsl.elaborate import elaborate_text
from seqdsl.ir.ops import MAPS

REALS = sorted(
    n
    for n, row in MAPS.items()
    if row.accepts != "bool" and n not in ("where", "complex", "imag", "not")
)
BOUND = st.sampled_from([-INF, -3.0, -1.0, -0.5, 0.0, 0.25, 1.0, 2.0, 40.0, INF])


@st.composite
def intervals(draw: st.DrawFn) -> Interval:
    low, high = sorted((draw(BOUND), draw(BOUND)))
    if low == high:
        return Interval(low, high) if math.isfinite(low) else REAL
    return Interval(low, high, draw(st.booleans()), draw(st.booleans()))


@st.composite
def points_in(draw: st.DrawFn, interval: Interval) -> float:
    low, high = max(interval.low, -60.0), min(interval.high, 60.0)
    value = draw(st.floats(min(low, high), max(low, high)))
    inner = math.nextafter(value, 0.5 * (low + high))
    return value if value in interval else inner


def holds(interval: Interval, value: float) -> bool:
    """Rounding may bring a value to an open end, or just past a closed one."""
    slack = 1e-9 * max(1.0, abs(value))
    inside = interval.low - slack <= value <= interval.high + slack
    return inside or not math.isfinite(value)


def test_every_operator_has_a_row() -> None:
    assert ROWS.keys() == MAPS.keys()


@pytest.mark.parametrize("op", REALS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_row_holds_all_values(op: str, data: st.DataObject) -> None:
    args = [data.draw(intervals()) for _ in range(MAPS[op].arity)]
    points = [data.draw(points_in(a)) for a in args]
    tensors = [torch.tensor(p, dtype=torch.float64) for p in points]
    value = float(pointwise.MAPS[op](*tensors).to(torch.float64))
    assert holds(ROWS[op](*args), value), (op, args, points, value)


# ---- Whole coefficients

LEAVES = ("x", "p", "half", "one", "less", "t", "uniform", "k", "x[t-1]")
UNARY = (
    *("sigmoid", "tanh", "softplus", "logsigmoid", "relu", "silu", "gelu", "square"),
    *(
        "abs",
        "exp",
        "erf",
        "sin",
        "sqrt",
        "rsqrt",
        "log1p",
        "sign",
        "floor",
        "l2norm[D]",
    ),
    *("softmax[D]", "-", "1 -", "max[D]", "mean[D]", "sum[D]", "cumsum[D]", "float"),
)
BINARY = ("+", "-", "*", "/", "min", "max", "logaddexp", "share", "below", "where")


def combine(children: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    unary = st.builds(_unary, st.sampled_from(UNARY), children)
    return unary | st.builds(_binary, st.sampled_from(BINARY), children, children)


def _unary(op: str, arg: str) -> str:
    arg = f"{arg} + 0 * x" if op.endswith("[D]") else arg
    return f"({op} ({arg}))" if op in ("-", "1 -") else f"{op}({arg})"


def _binary(op: str, a: str, b: str) -> str:
    match op:
        case "+" | "-" | "*" | "/":
            return f"(({a}) {op} ({b}))"
        case "share":
            return f"(exp({a}) / (exp({a}) + square({b})))"
        case "below":
            return f"exp(({a}) - max(({a}), ({b})))"
        case "where":
            return f"where(x > 0, {a}, {b})"
        case _:
            return f"{op}({a}, {b})"


COEFFICIENTS = st.recursive(st.sampled_from(LEAVES), combine, max_leaves=6)
TEXT = """
layer Gate(D):
    input x: [D]
    param p: [D]
    k = l2norm[D](p * x)
    half = 0.5 + 0 * p
    one = 1 + 0 * p
    less = 0 * p - 2
    uniform = sigmoid(3 * x) * sigmoid(-p)
    a = ({0}) + 0 * x
    output a
"""


@settings(max_examples=100, deadline=None)
@given(coefficient=COEFFICIENTS, scale=st.sampled_from([0.1, 1.0, 20.0]))
def test_sampled_coefficients_lie_inside(coefficient: str, scale: float) -> None:
    text = TEXT.format(coefficient)
    model = elaborate_text(text)
    found = Bounds(model).of(model.equation["a"].expr)
    x, p = noise(2, 5, 3, seed=3).detach(), noise(3, seed=4).detach()
    values = run(text, {"D": 3}, {"p": scale * p}, x=scale * x)
    for entry in values.flatten():
        value = float(entry)
        assert holds(found, value), (coefficient, found, value)


def interval_of(expr: str, more: str = "") -> Interval:
    model = elaborate_text(
        f"layer L(D, c = 8.0):\n    input x: [D]\n    param p: [D]\n{more}"
        f"    a = {expr}\n    output a\n"
    )
    return Bounds(model).of(model.equation["a"].expr)


@pytest.mark.parametrize(
    ("expr", "shown"),
    [
        ("sigmoid(x)", "(0, 1)"),
        ("exp(-softplus(x))", "(0, 1)"),
        ("1 - sigmoid(x)", "(0, 1)"),
        ("tanh(x)", "(-1, 1)"),
        ("exp(x)", "(0, ∞)"),
        ("exp(-exp(p) * softplus(x))", "(0, 1)"),
        ("exp(-exp(-0.5) * sigmoid(x))", "(0.5452, 1)"),
        ("2 * sigmoid(x) - 1", "(-1, 1)"),
        ("sigmoid(x) / (sigmoid(x) + sigmoid(p))", "[0, 1]"),
        ("1 - 2 ** (-5 - index[D])", "[0.9688, 1)"),
        ("sqrt(1 - sigmoid(x) ** 2)", "(0, 1)"),
        ("square(x)", "[0, ∞)"),
        ("where(x > 0, sigmoid(x), 0)", "[0, 1)"),
        ("l2norm[D](x)", "[-1, 1]"),
    ],
)
def test_gates(expr: str, shown: str) -> None:
    assert str(interval_of(expr)) == shown


def test_a_maximum_bounds_its_parts() -> None:
    state = "    state m: [D] = 0\n    m = max(m[t-1] + x, p)\n"
    assert interval_of("exp(m[t-1] + x - m)", state).inside(0, 1)
    assert not interval_of("exp(m - m[t-1])", state).inside(0, 1)


def test_a_value_kept_by_a_halted_step_may_be_anything() -> None:
    model = elaborate_text(
        "layer L(D):\n    input x: [D]\n    repeat n in 3 while sum[D](h[n-1]) < 1:\n"
        "        state h: [D] = x\n        h = sigmoid(h[n-1])\n"
        "    output h[n = 3]\n"
    )
    assert Bounds(model).of(model.outputs[0].expr) == REAL


def test_an_inverse_of_what_may_be_zero_is_unbounded() -> None:
    assert reciprocal(Interval(-1.0, 2.0)) == REAL
    assert str(reciprocal(Interval(0.0, 2.0, True))) == "[0.5, ∞)"
