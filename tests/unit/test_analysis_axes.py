"""Verdicts per axis, component and layer; reasons, remedies and what is printed."""

from __future__ import annotations

import json

import pytest
import torch

from seqdsl.analysis import Verdict, analyze, one_line
from seqdsl.backends.reference import interpret
from seqdsl.elaborate import elaborate_text
from seqdsl.ir.sizes import Scalar
from seqdsl.testing.normal_forms import check_normal_forms


def lines(text: str) -> list[str]:
    """One line per verdict."""
    return [one_line(v) for v in analyze(elaborate_text(text)).verdicts]


def by_name(text: str) -> dict[tuple[str, ...], Verdict]:
    return {
        (v.recurrence.layer, *v.recurrence.states, v.recurrence.axis): v
        for v in analyze(elaborate_text(text)).verdicts
    }


CELL = """
layer Cell(D):
    input x: [D]
    state h: [D] = 0
    h = sigmoid(linear(x, D)) * h[t-1] + x
    output h
"""
GRU = """
layer GRU(D, H):
    input x: [D]
    state h: [H] = 0
    r = sigmoid(linear(x, H) + linear(h[t-1], H))
    z = sigmoid(linear(x, H) + linear(h[t-1], H))
    n = tanh(linear(x, H) + r * linear(h[t-1], H))
    h = (1 - z) * n + z * h[t-1]
    output h
"""
LSTM = """
layer LSTM(D, H):
    input x: [D]
    state c: [H] = 0
    state h: [H] = 0
    i = sigmoid(linear(x, H) + linear(h[t-1], H))
    f = sigmoid(linear(x, H) + linear(h[t-1], H))
    o = sigmoid(linear(x, H) + linear(h[t-1], H))
    g = tanh(linear(x, H) + linear(h[t-1], H))
    c = f * c[t-1] + i * g
    h = o * tanh(c)
    output h
"""
TITANS = """
layer NeuralMemory(D, K, V):
    input x: [D]
    k = l2norm[K](linear(x, K))
    v = linear(x, V)
    state M: [K, V] = param
    state P: [K, V] = 0
    loss = sum[V](square(dot[K](k, M[t-1]) - v))
    P = sigmoid(linear(x, [])) * P[t-1] - softplus(linear(x, [])) * grad(loss, M[t-1])
    M = (1 - sigmoid(linear(x, []))) * M[t-1] + P
    output M
"""


# ---- Components


def test_softmax_with_a_running_maximum_splits_into_two_scans() -> None:
    text = """
layer Aaren(D, heads, K):
    input x: [D]
    param q: [heads, K]
    k = linear(x, [heads, K])
    v = linear(x, [heads, K])
    s = dot[K](q, k) / sqrt(K)
    state c: [heads] = -inf
    state o: [heads, K] = 0
    c = logaddexp(c[t-1], s)
    o = exp(c[t-1] - c) * o[t-1] + exp(s - c) * v
    output o
"""
    assert lines(text) == [
        "c over t: scannable, identity (log), time-invariant: loop, scan",
        "o over t: scannable, scalar (real), data-dependent: loop, scan, chunk",
    ]


def test_mlstm_is_three_scans() -> None:
    text = """
layer mLSTM(D, heads, K, V):
    input x: [D]
    state C: [heads, K, V] = 0
    state n: [heads, K] = 0
    state m: [heads] = 0
    k = linear(x, [heads, K])
    i = linear(x, [heads])
    f = logsigmoid(linear(x, [heads]))
    m = max(f + m[t-1], i)
    C = exp(f + m[t-1] - m) * C[t-1] + exp(i - m) * k * linear(x, [heads, V])
    n = exp(f + m[t-1] - m) * n[t-1] + exp(i - m) * k
    output C
"""
    found = by_name(text)
    assert found["", "m", "t"].semiring == "max_plus"
    assert found["", "C", "t"].structure == found["", "n", "t"].structure == "scalar"


def test_coupled_memory_and_momentum_are_jointly_affine() -> None:
    model = elaborate_text(TITANS)
    analyzed = analyze(model)
    (found,) = analyzed.verdicts
    assert set(found.recurrence.states) == {"M", "P"}
    assert (found.structure, found.rank) == ("scalar_plus_low_rank", 1)
    assert check_normal_forms(analyzed, {"D": 3, "K": 2, "V": 2}) == 2


def test_a_lagged_read_of_another_component_is_a_stream() -> None:
    text = """
layer L(D):
    input x: [D]
    state c: [D] = 0
    state h: [D] = 0
    c = tanh(c[t-1] + x)
    h = sigmoid(c[t-1]) * h[t-1] + c
    output h
"""
    found = by_name(text)
    assert found["", "c", "t"].verdict == "sequential"
    assert found["", "h", "t"].structure == "diagonal"


def test_directions() -> None:
    text = """
layer L(D):
    input x: [D]
    state f: [D] = 0
    state b: [D] = 0
    f = x * f[t-1] + x
    b = x * b[t+1] + f
    output b
"""
    found = by_name(text)
    assert found["", "f", "t"].streams and not found["", "b", "t"].streams
    assert found["", "b", "t"].recurrence.direction == "backward"


def test_a_state_that_forgets_itself_is_no_recurrence() -> None:
    text = """
layer L(D):
    input x: [D]
    state c: [D] = 0
    c = c[t-1] - c[t-1] + x
    output c
"""
    assert lines(text) == ["c over t: none"]


def test_finite_memory() -> None:
    text = """
layer L(D):
    input x: [D]
    y = 0.5 * x + 0.5 * x[t-1]
    z = silu(conv(y, width = 3))
    output z
"""
    found = by_name(text)
    assert found["", "x", "t"].verdict == found["", "z", "t"].verdict == "fir"


def test_attention_to_its_own_past_reads_all_steps() -> None:
    text = """
layer L(D):
    input x: [D]
    state h: [D] = 0
    h = x + dot[s](softmax[s < t](dot[D](x, x[s])), h[s])
    output h
"""
    (found,) = by_name(text).values()
    assert found.verdict == "sequential"
    assert [r.code for r in found.reasons] == ["E0306"]


# ---- Axes


def test_two_axes_are_two_recurrences() -> None:
    text = """
layer G(D, N):
    input x: [D]
    repeat n in N:
        state h: [D] = 0
        h = x * h[t-1] + 0.5 * h[n-1]
    output h[n = N]
"""
    found = by_name(text)
    assert found["", "h", "t"].structure == "diagonal"
    assert found["", "h", "n"].structure == "scalar" and found["", "h", "n"].invariant


def test_depth_with_a_time_state_inside() -> None:
    text = """
layer L(D, N):
    input x: [D]
    repeat n in N:
        state y: [D] = x
        state s: [D] = 0
        s = 0.9 * s[t-1] + y[n-1]
        y = y[n-1] + tanh(linear(s, D))
    output y[n = N]
"""
    found = by_name(text)
    assert found["", "s", "t"].structure == "scalar"
    assert found["", "y", "n"].verdict == "sequential"


PRODUCT = """
layer L(K, V, N):
    input k: [K]
    input v: [V]
    input a: []
    input W0: [K, V] per batch
    state W: [K, V] = W0
    repeat n in {steps}:
        state S: [K, V] = {first}
        S = {update}
    W = S[n = {steps}]
    output W
"""
DELTA = "S[n-1] - a * k * (dot[K](k, S[n-1]) - n * v)"


@pytest.mark.parametrize(
    ("steps", "first", "update", "expected"),
    [
        ("3", "a * W[t-1]", DELTA, "scalar plus low rank 3 (real)"),
        ("N", "a * W[t-1]", DELTA, "scalar plus low rank (real)"),
        ("2", "k * W[t-1]", DELTA, "diagonal plus low rank 2 (real)"),
        ("N", "W[t-1]", "v * S[n-1] + k * v", "diagonal (real)"),
        ("N", "W[t-1]", "S[n-1] + W[t-1] + k * v", "dense (real)"),
        ("N", "k * v", "0.5 * S[n-1] + W[t-1]", "dense (real)"),
    ],
)
def test_a_repeat_of_affine_steps_is_affine(
    steps: str, first: str, update: str, expected: str
) -> None:
    text = PRODUCT.format(steps=steps, first=first, update=update)
    model = elaborate_text(text)
    (line,) = (s for s in lines(text) if s.startswith("W over t"))
    assert expected in line and "scannable" in line
    make = torch.Generator().manual_seed(0)
    inputs = {
        "k": torch.randn(1, 1, 3, generator=make, dtype=torch.float64),
        "v": torch.randn(1, 1, 2, generator=make, dtype=torch.float64),
        "a": torch.randn(1, 1, generator=make, dtype=torch.float64),
    }
    inputs = {n: x.expand(3, *x.shape[1:]) for n, x in inputs.items()}
    start = torch.randn(2, 3, 2, generator=make, dtype=torch.float64)
    inputs["W0"] = torch.stack([start[0], start[1], 0.3 * start[0] + 0.7 * start[1]])
    options: dict[str, Scalar] = {"K": 3, "V": 2, "N": 2}
    found = interpret(model, options=options, params={}, inputs=inputs)["W"]
    assert torch.allclose(0.3 * found[0] + 0.7 * found[1], found[2])


@pytest.mark.parametrize(
    ("first", "update"),
    [
        ("a * W[t-1]", "tanh(S[n-1])"),
        ("tanh(W[t-1])", "a * S[n-1]"),
        ("W[t-1]", "S[n-1] * W[t-1]"),
        ("k * v", "sum[K](W[t-1]) * S[n-1]"),
    ],
)
def test_a_repeat_with_a_nonlinear_step_is_not(first: str, update: str) -> None:
    text = PRODUCT.format(steps="N", first=first, update=update)
    found = by_name(text)["", "W", "t"]
    assert [r.code for r in found.reasons] == ["E0309"]


def test_a_halting_condition_makes_depth_sequential() -> None:
    text = """
layer L(D, N):
    input x: [D]
    repeat n in N while q[n-1] < 0.99:
        state h: [D] = x
        state q: [] = 0
        h = linear(h[n-1], D)
        q = q[n-1] + sigmoid(linear(h, []))
    output h[n = N]
"""
    (found,) = by_name(text).values()
    assert [r.code for r in found.reasons] == ["E0313"]


# ---- Layers


def test_a_sub_layer_is_analyzed_once_and_listed_under_its_name() -> None:
    text = (
        CELL
        + """
layer LM(D, L):
    input x: [D]
    repeat l in L:
        state y: [D] = x
        y = y[l-1] + Cell(y[l-1])
    output y[l = L]
"""
    )
    found = by_name(text)
    inner = [v for k, v in found.items() if k[1:] == ("h", "t")]
    assert len(inner) == 1 and inner[0].structure == "diagonal"
    assert inner[0].recurrence.layer


def test_a_sub_layer_in_the_circle_is_inlined() -> None:
    text = (
        CELL
        + """
layer L(D):
    input x: [D]
    state y: [D] = 0
    y = 0.5 * y[t-1] + Cell(x)
    output y

layer F(D):
    input x: [D]
    state y: [D] = 0
    y = Cell(y[t-1] + x)
    output y
"""
    )
    (found,) = by_name(text).values()
    assert found.verdict == "sequential" and len(found.recurrence.states) == 2
    outer = analyze(elaborate_text(text, layer="L")).verdicts
    assert {v.verdict for v in outer} == {"scannable"}


# ---- Reasons


def test_a_gru_is_told_which_lines_and_what_would_help() -> None:
    (found,) = by_name(GRU).values()
    assert [r.span.text.split("(")[0] for r in found.reasons if r.span] == [
        "sigmoid",
        "tanh",
    ]
    first = found.reasons[0]
    assert first.help[0] == (
        "this would scan (diagonal) if `z` and `n` did not read `h[t-1]`"
    )
    assert any("not affine in `h`" in label.text for label in first.labels)
    assert found.strategies == ("loop", "newton")


def test_an_lstm_would_scan_without_its_output_gate_feeding_back() -> None:
    (found,) = by_name(LSTM).values()
    assert found.reasons[0].help[0] == "`c` would scan if nothing read `h[t-1]`"
    assert {r.code for r in found.reasons} == {"E0301"}


def test_every_remedy_that_names_definitions_is_true() -> None:
    edited = GRU.replace(
        "z = sigmoid(linear(x, H) + linear(h[t-1], H))", "z = x"
    ).replace("n = tanh(linear(x, H) + r * linear(h[t-1], H))", "n = x")
    (found,) = by_name(
        edited.replace("layer GRU(D, H)", "layer GRU(H)").replace("[D]", "[H]")
    ).values()
    assert found.structure == "diagonal"


# ---- What is printed


def test_the_object_that_explain_prints() -> None:
    text = CELL.replace("sigmoid(linear(x, D))", "tanh(h[t-1])")
    (found,) = by_name(text).values()
    shown = json.loads(json.dumps(found.to_json()))
    (reason,) = shown.pop("reasons")
    assert shown == {
        "states": ["h"],
        "axis": "t",
        "direction": "forward",
        "verdict": "sequential",
        "structure": None,
        "rank": None,
        "semiring": None,
        "invariant": False,
        "streams": True,
        "strategies": ["loop", "newton"],
    }
    assert reason.keys() == {
        "code",
        "file",
        "line",
        "column",
        "end_column",
        "message",
        "help",
    }
    assert (reason["line"], reason["column"], reason["end_column"]) == (5, 9, 21)


def test_one_line_each() -> None:
    assert lines(CELL) == [
        "h over t: scannable, diagonal (real), data-dependent: loop, scan, chunk"
    ]
    assert lines(GRU) == [
        "h over t: sequential, `h[t-1]` goes through sigmoid here: loop, newton"
    ]
