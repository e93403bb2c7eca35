"""Verdicts per component and layer: what splits, what belongs together."""

from __future__ import annotations

from verdicts import CELL, by_name, lines

from seqdsl.analysis import analyze
from seqdsl.elaborate import elaborate_text
from seqdsl.testing.normal_forms import check_normal_forms

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
        "c over t: scannable, identity (log), time-invariant, steps commute: loop, scan",
        (
            "o over t: scannable, scalar (real), data-dependent, steps commute: "
            "loop, scan, chunk"
        ),
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
