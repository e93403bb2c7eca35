"""Labelled recurrences in disguise: linear, though they do not look it."""

from __future__ import annotations

import pytest
from recurrences import H, Row, S, ids, label, only

DISGUISED: list[Row] = [
    ("diagonal", (H, "h = h[t-1] + f * (x - h[t-1])")),
    ("scalar", (H, "h = (h[t-1] * a * 3 - x) / 2")),
    (
        "identity invariant",
        (
            H,
            "h = (h[t-1] + x) ** 2 - h[t-1] * h[t-1] - 2 * h[t-1] * x - x * x + h[t-1] + f",
        ),
    ),
    ("diagonal", (H, "h = square(h[t-1] + f) - square(h[t-1])")),
    ("diagonal", (H, "h = square(h[t-1] + f) / 4 - square(h[t-1] - f) / 4")),
    ("diagonal", (H, "h = h[t-1] / f + x")),
    ("diagonal", (H, "h = where(keep, h[t-1], x)")),
    ("diagonal", (H, "h = where(keep, f * h[t-1], 0) + x")),
    ("scalar", (H, "h = where(on, 0, h[t-1]) + x")),
    ("diagonal", (H, "h = where(keep, h[t-1] + f, h[t-1] * g)")),
    ("identity invariant", (H, "h = where(keep, h[t-1] + f, h[t-1] + g)")),
    (
        "identity invariant",
        (H, "z = sigmoid(f)", "h = z * h[t-1] + (1 - z) * h[t-1] + x"),
    ),
    ("identity invariant", (H, "h = sigmoid(f) * h[t-1] + sigmoid(-f) * h[t-1] + x")),
    ("diagonal", (H, "u = h[t-1] * f", "y = u + x", "h = y - 0.5 * u")),
    ("identity invariant", (H, "h = log(exp(h[t-1] + x))")),
    ("identity log invariant", (H, "h = log(exp(h[t-1]) + exp(x))")),
    ("diagonal log", (H, "h = log(exp(h[t-1] + f) + exp(x))")),
    ("diagonal log", (H, "h = log(exp(f) * exp(h[t-1]) + sigmoid(x))")),
    ("diagonal log", (H, "h = softplus(h[t-1] + f) + x")),
    ("identity max_plus invariant", (H, "h = h[t-1] + relu(x - h[t-1])")),
    ("diagonal max_plus", (H, "h = where(keep, max(h[t-1], x), max(h[t-1], f))")),
    ("diagonal max_plus", (H, "h = f + max(h[t-1], x - f)")),
    ("identity invariant", (H, "h = max(h[t-1], x) + min(h[t-1], x)")),
    ("identity invariant", (H, "h = relu(h[t-1]) - relu(-h[t-1]) + x")),
    (
        "scalar_plus_low_rank 1",
        (S, "S = S[t-1] - b * grad(sum[V](square(dot[K](k, S[t-1]) - v)), S[t-1])"),
    ),
    (
        "scalar_plus_low_rank 1",
        (
            S,
            "e = dot[K](k, S[t-1]) - v",
            "l = 0.5 * sum[V](square(e))",
            "S = a * S[t-1] - b * grad(l, S[t-1])",
        ),
    ),
    (
        "scalar_plus_low_rank 2",
        (
            S,
            "A = S[t-1] - a * k * dot[K](k, S[t-1])",
            "S = A - b * k2 * dot[K](k2, A) + k * v",
        ),
    ),
    (
        "scalar_plus_low_rank 3",
        (
            S,
            "A = S[t-1] - a * k * dot[K](k, S[t-1])",
            "B = A - b * k2 * dot[K](k2, A)",
            "S = B - q * dot[K](q, B) + k * v",
        ),
    ),
    (
        "scalar_plus_low_rank 1",
        (S, "p = k * k2.(K -> Q)", "S = S[t-1] - dot[Q](p, S[t-1].(K -> Q)) + k * v"),
    ),
    (
        "diagonal",
        (H, "s = h[t-1].(D -> J)", "h = (f.(D -> J) * s + x.(D -> J)).(J -> D)"),
    ),
    (
        "diagonal",
        (
            "state h: [P] = 0",
            "h = (gh * h[t-1].(P -> [heads, K]) + kh).([heads, K] -> P)",
        ),
    ),
    (
        "identity invariant",
        (
            "state h: [P] = 0",
            "h = h[t-1].(P -> [heads, K]).([heads, K] -> P) + kh.([heads, K] -> P)",
        ),
    ),
    ("diagonal", (H, "h = x - (x - h[t-1]) * f")),
    ("diagonal", (H, "h = exp(h[t-1] - x) * exp(f) * exp(x - h[t-1]) * h[t-1] + x")),
    ("diagonal", (H, "h = f * h[t-1] + 0 * h[t-1] * h[t-1]")),
    ("diagonal", (H, "m = h[t-1] * h[t-1]", "h = f * h[t-1] + g * m - m * g")),
    (
        "diagonal",
        (H, "m = h[t-1] * h[t-1]", "h = h[t-1] * g + (f + g) * m - f * m - g * m"),
    ),
    ("identity invariant", (H, "h = sum[J](onehot[J](i) * 0) + h[t-1] + x")),
    (
        "dense",
        (
            "state h: [D] = 0",
            "state p: [D] = 0",
            "p = a * p[t-1] + x - h[t-1]",
            "h = h[t-1] + p",
        ),
    ),
    (
        "scalar_plus_low_rank 1",
        (
            "state M: [K, V] = 0",
            "state P: [K, V] = 0",
            "P = a * P[t-1] - b * grad(sum[V](square(dot[K](k, M[t-1]) - v)), M[t-1])",
            "M = M[t-1] + P",
        ),
    ),
    ("diagonal", (H, "h = tanh(x) * h[t-1] + tanh(h[t-1]) + tanh(-h[t-1])")),
    ("diagonal max_min", (H, "h = min(max(h[t-1], x), f)")),
    ("scalar", (H, "h = mean[J](U) * 0 + a * h[t-1]")),
]


@pytest.mark.parametrize(("expected", "lines"), DISGUISED, ids=ids(DISGUISED))
def test_in_disguise(expected: str, lines: tuple[str, ...]) -> None:
    body = ("dim P = heads * K", *lines) if "[P]" in lines[0] else lines
    assert label(only(*body)) == expected
