"""Labelled recurrences in disguise: by choices, by re-indexing, by what is summed."""

from __future__ import annotations

import pytest
from recurrences import SH, H, Row, S, ids, label, only

C = "state c: bool = false"
CHOICES: list[Row] = [
    # maxima and minima as choices
    ("identity max_plus invariant", (H, "h = where(x > h[t-1], x, h[t-1])")),
    ("identity max_plus invariant", (H, "h = where(h[t-1] >= x, h[t-1], x)")),
    ("identity min_plus invariant", (H, "h = where(h[t-1] < x, h[t-1], x)")),
    ("identity min_plus invariant", (H, "h = where(x >= h[t-1], h[t-1], x)")),
    (
        "identity max_plus invariant",
        (H, "up = x > h[t-1]", "h = where(up, x, h[t-1])"),
    ),
    (
        "identity max_plus invariant",
        (H, "h = h[t-1] + where(x > h[t-1], x - h[t-1], 0)"),
    ),
    (
        "diagonal max_plus",
        (H, "g2 = h[t-1] + f", "h = where(2 * g2 > 2 * x, g2, x)"),
    ),
    (
        "identity max_plus invariant",
        (H, "h = 0.5 * (h[t-1] + x) + 0.5 * abs(h[t-1] - x)"),
    ),
    (
        "identity min_plus invariant",
        (H, "h = (h[t-1] + x - abs(x - h[t-1])) / 2"),
    ),
    ("diagonal max_plus", (H, "h = (h[t-1] + f + x + abs(h[t-1] + f - x)) / 2")),
    ("identity max_plus invariant", (H, "h = -min(-h[t-1], -x)")),
    ("identity min_plus invariant", (H, "h = -max(-h[t-1], -x)")),
    ("diagonal max_plus", (H, "h = x + relu(h[t-1] + f - x)")),
    ("identity invariant", (H, "h = where(h[t-1] > x, h[t-1] + f, h[t-1] + f)")),
    (
        "identity invariant",
        (H, "h = where(h[t-1] > 0, h[t-1], 0) + where(h[t-1] > 0, 0, h[t-1]) + x"),
    ),
    # sums of exponentials
    (
        "identity log invariant",
        (H, "m = max(h[t-1], x)", "h = m + log(exp(h[t-1] - m) + exp(x - m))"),
    ),
    (
        "diagonal log",
        (
            H,
            "l = h[t-1] + f",
            "m = max(l, x)",
            "h = m + log(exp(l - m) + exp(x - m))",
        ),
    ),
    ("identity log invariant", (H, "h = x + softplus(h[t-1] - x)")),
    ("identity log invariant", (H, "h = h[t-1] - logsigmoid(h[t-1] - x)")),
    ("identity log invariant", (H, "h = h[t-1] + log1p(exp(x - h[t-1]))")),
    ("identity log invariant", (H, "h = h[t-1] - log(sigmoid(h[t-1]))")),
    (
        "diagonal log",
        (H, "h = logaddexp(logaddexp(h[t-1], x), h[t-1] + f)"),
    ),
    ("identity invariant", (H, "h = logaddexp(h[t-1], x) - softplus(x - h[t-1]) + f")),
]
MATRICES: list[Row] = [
    # identity matrices
    ("identity invariant", (H, "h = dot[J](onehot[J](index[D]), h[t-1].(D -> J)) + x")),
    (
        "identity invariant",
        (H, "h = dot[J](float(index[D] == index[J]), h[t-1].(D -> J)) + x"),
    ),
    (
        "diagonal",
        (
            H,
            "h = dot[J](where(index[J] == index[D], 1, 0) * f, h[t-1].(D -> J)) + x",
        ),
    ),
    (
        "diagonal invariant",
        (
            H,
            "e = float(index[D] == index[J])",
            "h = sum[J](where(index[D] == index[J], U * h[t-1].(D -> J), 0)) + x * sum[J](e)",
        ),
    ),
    ("identity invariant", (H, "h = h[t-1].(D -> J)[J = index[D]] + x")),
    (
        "scalar_plus_low_rank 1",
        (
            S,
            "e = onehot[Q](index[K])",
            "S = dot[Q](e - b * k * k.(K -> Q), S[t-1].(K -> Q)) + k * v",
        ),
    ),
    (
        "diagonal_plus_low_rank 1",
        (
            S,
            "e = float(index[K] == index[Q])",
            "S = dot[Q](k2 * e - k * q.(K -> Q), S[t-1].(K -> Q)) + k * v",
        ),
    ),
    (
        "scalar_plus_low_rank 2",
        (
            S,
            "dim P = K",
            "e = float(index[K] == index[Q])",
            "A = e - a * k * k.(K -> Q)",
            "B = e - b * k2 * k2.(K -> Q)",
            "C = dot[P](A.(Q -> P), B.(K -> P))",
            "S = dot[Q](C, S[t-1].(K -> Q)) + k * v",
        ),
    ),
    # ranks
    (
        "scalar_plus_low_rank N",
        (S, "input A: [N, K]", "S = S[t-1] - dot[N](A, dot[K](A, S[t-1])) + k * v"),
    ),
    (
        "scalar_plus_low_rank 2",
        (
            S,
            "dim R = 2",
            "input A: [R, K]",
            "S = S[t-1] - dot[R](A, dot[K](A, S[t-1])) + k * v",
        ),
    ),
    (
        "diagonal_plus_low_rank 3",
        (
            S,
            "dim R = 2",
            "input A: [R, K]",
            "S = k2 * S[t-1] - dot[R](A, dot[K](A, S[t-1])) + k * dot[K](q, S[t-1])",
        ),
    ),
    (
        "low_rank 2",
        (
            S,
            "dim R = 2",
            "input A: [R, K]",
            "input B: [R, K]",
            "S = sum[R](A * dot[K](B, S[t-1])) + k * v",
        ),
    ),
    (
        "scalar_plus_low_rank heads",
        (H, "input A: [heads, D]", "h = a * h[t-1] + dot[heads](A, dot[D](A, h[t-1]))"),
    ),
    (
        "scalar_plus_low_rank 1",
        (
            SH,
            "p = sum[K](kh * S[t-1])",
            "S = r * (S[t-1] - kh * p) + kh * vh - 0 * p",
        ),
    ),
    (
        "dense",
        (
            H,
            "dim R = D",
            "input A: [R, D]",
            "h = dot[R](A, dot[D](A, h[t-1])) + x",
        ),
    ),
    # convolutions along time, higher order
    ("dense invariant", (H, "h = conv(h[t-1], width = 3) + x")),
    ("dense invariant", (H, "h = conv(h[t-1], width = 2, dilation = 2) + x")),
    ("dense invariant", (H, "h = conv(h[t-1], D, width = 2) + x")),
    ("dense invariant", (H, "u = h[t-1] + x", "h = conv(u, width = 3)")),
    ("dense", ("state h: [D] = 1", "h = conv(2 * h[t-1], width = 2) + x")),
    ("dense", (H, "h = conv(h[t-1] * f, width = 2) + x")),
    ("diagonal invariant", (H, "h = conv(h[t-1], width = 1) + x")),
    ("dense invariant", (H, "h = 2 * h[t-1] - h[t-2] + x")),
    ("diagonal", (H, "h = f * h[t-1] + h[t-2] - 1 * h[t-2] + x")),
    # names and shapes
    (
        "diagonal",
        (
            SH,
            "dim W2 = V",
            "S = (exp(gh) * S[t-1].(V -> W2)).(W2 -> V) + kh * vh",
        ),
    ),
    ("identity invariant", (H, "h = roll[D](roll[D](h[t-1], 1), -1) + x")),
    ("dense invariant", (H, "h = roll[D](roll[D](h[t-1], 1), 2) + x")),
    ("identity invariant", (H, "h = mean[J](h[t-1] + 0 * U) + x")),
    ("scalar invariant", (H, "h = sum[J](0 * U + h[t-1]) + x")),
    ("dense invariant", (H, "h = cumsum[D](h[t-1]) + x")),
]
ROWS = [*CHOICES, *MATRICES]


@pytest.mark.parametrize(("expected", "lines"), ROWS, ids=ids(ROWS))
def test_in_disguise(expected: str, lines: tuple[str, ...]) -> None:
    assert label(only(*lines)) == expected
