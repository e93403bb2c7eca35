"""Labelled recurrences, plainly written: what each is."""

from __future__ import annotations

import pytest
from recurrences import SH, H, Row, S, ids, label, only

PLAIN: list[Row] = [
    # T0: scalar and diagonal
    ("identity invariant", (H, "h = h[t-1] + x")),
    ("scalar invariant", (H, "h = 0.9 * h[t-1] + x")),
    ("scalar", (H, "h = a * h[t-1] + x")),
    ("diagonal", (H, "h = f * h[t-1] + x")),
    ("diagonal", (H, "z = sigmoid(linear(x, D))", "h = (1 - z) * h[t-1] + z * x")),
    ("diagonal invariant", (H, "param d: [D] = 0", "h = exp(-exp(d)) * h[t-1] + x")),
    (
        "diagonal",
        (
            "state h: [D, N] = 0",
            "h = exp(f * linear(x, N)) * h[t-1] + x * linear(x, N)",
        ),
    ),
    (
        "diagonal invariant",
        (
            "state h: complex [D] = 0",
            "param d: [D] = 0",
            "h = exp(complex(-exp(d), d)) * h[t-1] + x",
        ),
    ),
    ("identity invariant", ("state c: int = 0", "c = c[t-1] + 1")),
    ("identity invariant", ("state n: [] = 0", "n = n[t-1] + 1")),
    # T1: decayed outer products
    ("identity invariant", (S, "S = S[t-1] + k * v")),
    ("scalar", (S, "S = a * S[t-1] + k * v")),
    ("diagonal", (S, "S = sigmoid(k2) * S[t-1] + k * v")),
    ("diagonal", (S, "S = w * S[t-1] + k * v")),
    ("scalar", (SH, "S = r * S[t-1] + kh * vh")),
    ("diagonal", (SH, "S = exp(gh) * S[t-1] + kh * vh")),
    (
        "scalar invariant",
        (SH, "param d: [heads] = 0", "S = sigmoid(d) * S[t-1] + kh * vh"),
    ),
    ("scalar", ("state o: [heads, K] = 0", "o = r * o[t-1] + r * kh")),
    ("scalar", ("state h: [heads, K, N] = 0", "h = r * h[t-1] + kh * linear(x, N)")),
    # T2: erase
    ("scalar_plus_low_rank 1", (S, "S = S[t-1] + b * k * (v - dot[K](k, S[t-1]))")),
    (
        "scalar_plus_low_rank 1",
        (SH, "S = r * S[t-1] + kh * (vh - dot[K](kh, r * S[t-1]))"),
    ),
    (
        "diagonal_plus_low_rank 1",
        (SH, "d = exp(gh) * S[t-1]", "S = d + r * kh * (vh - dot[K](kh, d))"),
    ),
    ("scalar_plus_low_rank 1", (S, "S = S[t-1] + w * k * (v - dot[K](k, S[t-1]))")),
    # T3: diagonal plus low rank
    (
        "diagonal_plus_low_rank 1",
        (SH, "S = exp(gh) * S[t-1] - (r * kh) * dot[K](kh, S[t-1]) + qh * vh"),
    ),
    ("diagonal_plus_low_rank 1", (S, "S = k2 * S[t-1] + k * dot[K](q, S[t-1])")),
    (
        "diagonal_plus_low_rank 2",
        (S, "S = k2 * S[t-1] + k * dot[K](q, S[t-1]) + q * dot[K](k2, S[t-1]) + k * v"),
    ),
    ("low_rank 1", (S, "S = k * dot[K](q, S[t-1]) + k * v")),
    ("low_rank 1", (H, "h = f * sum[D](g * h[t-1]) + x")),
    ("scalar_plus_low_rank 1 invariant", (H, "h = h[t-1] - mean[D](h[t-1]) + x")),
    # dense
    ("dense invariant", (H, "h = linear(h[t-1], D) + x")),
    ("dense invariant", (H, "h = dot[J](U, h[t-1].(D -> J)) + x")),
    ("dense", (H, "h = a * dot[J](U, h[t-1].(D -> J)) + x")),
    ("dense invariant", (H, "h = roll[D](h[t-1], 1) + x")),
    (
        "dense",
        (
            "state c: [] = 1",
            "state s: [] = 0",
            "c = cos(a) * c[t-1] - sin(a) * s[t-1]",
            "s = sin(a) * c[t-1] + cos(a) * s[t-1]",
        ),
    ),
    ("dense", (H, "h = f * h[t-1] + g * h[t-2] + x")),
    ("dense invariant", (H, "h = conv[D](h[t-1], width = 3) + x")),
    # other semirings
    ("identity max_plus invariant", (H, "h = max(h[t-1], x)")),
    ("identity min_plus invariant", (H, "h = min(h[t-1], x)")),
    ("diagonal max_plus", (H, "h = max(h[t-1] + f, x)")),
    ("identity log invariant", (H, "h = logaddexp(h[t-1], x)")),
    ("diagonal log", (H, "h = logaddexp(h[t-1] + f, x)")),
    ("dense max_plus invariant", (H, "h = max(max[J](U + h[t-1].(D -> J)), x)")),
    ("dense log", (H, "h = logsumexp[J](U + h[t-1].(D -> J)) + x")),
    ("diagonal max_min", (H, "h = max(min(h[t-1], f), x)")),
    ("scalar boolean", ("state h: bool = false", "h = (h[t-1] and on) or a > 0")),
    ("identity boolean invariant", ("state h: bool = false", "h = h[t-1] or on")),
    ("monoid clamp", (H, "h = min(max(h[t-1] + x, 0), 10)")),
    # nonlinear
    ("sequential E0301", (H, "h = tanh(linear(x, D) + linear(h[t-1], D))")),
    ("sequential E0302", (H, "h = h[t-1] * h[t-1] + x")),
    ("sequential E0303", (H, "h = x / (1 + h[t-1])")),
    ("sequential E0304", (H, "h = where(h[t-1] > 0, x, f)")),
    ("sequential E0305", (H, "h = softmax[D](h[t-1]) + x")),
    ("opaque E0307", (H, "h = black(h[t-1]) + x")),
]


@pytest.mark.parametrize(("expected", "lines"), PLAIN, ids=ids(PLAIN))
def test_plain(expected: str, lines: tuple[str, ...]) -> None:
    assert label(only(*lines)) == expected
