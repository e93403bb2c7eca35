"""Recurrences that look linear and are not."""

from __future__ import annotations

import pytest
from recurrences import H, Row, S, ids, only

NEAR: list[Row] = [
    ("sequential E0301", (H, "h = exp(log(h[t-1]) + f) + x")),
    ("sequential E0301", (H, "h = sqrt(h[t-1] * h[t-1]) + x")),
    ("sequential E0301", (H, "h = abs(h[t-1]) + x")),
    ("sequential E0303", (H, "h = h[t-1] * h[t-1] / h[t-1] + x")),
    ("sequential E0303", (H, "h = 1 / (1 / h[t-1]) + x")),
    ("sequential E0302", (H, "h = (h[t-1] + x) ** 2 - 2 * h[t-1] * x")),
    ("sequential E0302", (H, "h = h[t-1] * (f + g * h[t-1])")),
    ("sequential E0304", (H, "h = where(h[t-1] > 0, h[t-1], 0.1 * h[t-1]) + x")),
    ("sequential E0304", (H, "h = where(h[t-1] > x, h[t-1] + 1, h[t-1])")),
    (
        "sequential E0301",
        (
            H,
            "z = sigmoid(linear(x, D) + linear(h[t-1], D))",
            "h = (1 - z) * h[t-1] + z * x",
        ),
    ),
    ("sequential E0301", (H, "h = f * h[t-1] + g * sigmoid(h[t-1])")),
    ("sequential E0301", (H, "h = round(h[t-1] + x)")),
    ("sequential E0301", ("state c: int = 0", "c = (c[t-1] + 1) % 7 + 1")),
    ("sequential E0301", ("state c: int = 0", "c = c[t-1] // 2 + i")),
    ("sequential E0305", (H, "h = f * h[t-1] + max[D](h[t-1])")),
    ("sequential E0305", (H, "h = h[t-1] + prod[D](h[t-1])")),
    ("sequential E0303", (H, "h = h[t-1] / sqrt(sum[D](square(h[t-1])) + 1) + x")),
    (
        "sequential E0302",
        (
            S,
            "S = S[t-1] + k * dot[K](q, S[t-1]) * v - k * sum[V](dot[K](q, S[t-1]) * dot[K](k, S[t-1]))",
        ),
    ),
    (
        "sequential E0302",
        (
            S,
            "S = S[t-1] - b * grad(sum[V](square(square(dot[K](k, S[t-1])) - v)), S[t-1])",
        ),
    ),
    (
        "sequential E0301 E0303",
        (S, "S = S[t-1] - b * grad(sum[V](log1p(exp(dot[K](k, S[t-1])) )), S[t-1])"),
    ),
    (
        "sequential E0302",
        (
            "state h: [] = 0",
            "state g2: [] = 0",
            "h = a * h[t-1] * g2[t-1] + b",
            "g2 = a * g2[t-1] + h",
        ),
    ),
    ("sequential E0301", (H, "h = logaddexp(h[t-1], 2 * h[t-1] + x)")),
    ("sequential E0301", (H, "h = logaddexp(h[t-1], x) * f")),
    ("sequential E0301", (H, "h = log(exp(h[t-1]) + x)")),
    ("sequential E0301", (H, "h = log(exp(h[t-1]) - exp(x))")),
    ("sequential E0301", (H, "h = log(1 + h[t-1]) + x")),
    ("sequential E0301", (H, "h = max(2 * h[t-1], x)")),
    ("sequential E0301", (H, "h = max(h[t-1], x) * f")),
    ("sequential E0301", (H, "h = max(h[t-1] + f, x - h[t-1])")),
    ("sequential E0301", (H, "h = min(max(h[t-1] * f, 0), 10)")),
    ("sequential E0301", (H, "h = tanh(h[t-1] + x) - tanh(h[t-1])")),
    ("sequential E0302", (H, "h = exp(h[t-1]) * exp(h[t-1] - x) + f")),
    ("sequential E0301", (H, "h = sin(h[t-1]) + sin(h[t-1])")),
    ("sequential E0301", (H, "h = 1e-9 * tanh(h[t-1]) + f * h[t-1]")),
    ("sequential E0302", (H, "m = h[t-1] * h[t-1]", "h = f * h[t-1] + g * m - m * f")),
    ("sequential E0312", (H, "h = f * stopgrad(h[t-1]) + x")),
    ("sequential E0311", ("state z: complex [D] = 0", "z = f * conj(z[t-1]) + x")),
    (
        "sequential E0311",
        ("state z: complex [D] = 0", "z = f * complex(real(z[t-1]), 0) + x"),
    ),
    ("sequential E0301", (H, "h = where(on, tanh(h[t-1]), h[t-1])")),
    ("sequential E0302", (H, "h = dot[J](h[t-1] * U, h[t-1].(D -> J))")),
    ("sequential E0305", (H, "h = cumprod[D](h[t-1])")),
    ("sequential E0305", (H, "h = top[D](h[t-1], 2) + x")),
    ("sequential E0301", (H, "h = gelu(f * h[t-1] + x)")),
    ("sequential E0301", (H, "h = h[t-1] ** 0.5 + x")),
    # almost a maximum, a minimum or a clamp
    ("sequential E0304", (H, "h = where(x > h[t-1], x, 0.5 * h[t-1])")),
    ("sequential E0304", (H, "h = where(x > h[t-1], x + f, h[t-1])")),
    ("sequential E0304", (H, "h = where(2 * x > h[t-1], x, h[t-1])")),
    ("sequential E0304", (H, "h = where(x == h[t-1], x, h[t-1] + 1)")),
    ("sequential E0304", (H, "h = where(f * x > f * h[t-1], x, h[t-1])")),
    ("sequential E0301", (H, "h = max(h[t-1], x) + min(h[t-1], f)")),
    ("sequential E0301", (H, "h = 0.5 * (h[t-1] + x) + 0.6 * abs(h[t-1] - x)")),
    ("sequential E0301", (H, "h = f * max(h[t-1], x) + g * min(h[t-1], x)")),
    ("sequential E0301", (H, "h = min(max(h[t-1] + x, 0), 10 - h[t-1])")),
    (
        "sequential E0301",
        (H, "h = min(max(where(keep, h[t-1], h[t-2]) + x, 0), f)"),
    ),
    # almost a log of a sum of exponentials
    (
        "sequential E0301",
        (H, "m = max(h[t-1], x)", "h = m + log(exp(h[t-1] - m) + exp(f - m) - 1)"),
    ),
    ("sequential E0301", (H, "h = 2 * softplus(h[t-1] - x) + x")),
    ("sequential E0301", (H, "h = x - softplus(h[t-1])")),
    ("sequential E0301", (H, "h = log(sigmoid(h[t-1])) + x")),
    ("sequential E0301", (H, "h = logaddexp(h[t-1], x) - softplus(h[t-1] - f)")),
    # almost an automaton
    (
        "sequential E0304",
        ("state h: bool [D] = false", "h = roll[D](h[t-1], 1) != keep"),
    ),
    (
        "sequential E0301",
        (
            "input table: int [D]",
            "state h: int = 0",
            "h = table[D = min(h[t-1] + 1, 3)]",
        ),
    ),
    (
        "sequential E0301",
        ("input table: [D]", "state h: [] = 0", "h = table[D = int(h[t-1])]"),
    ),
    (
        "sequential E0301",
        ("input table: int [D]", "state h: int = 0", "h = table[D = h[t-1]] + i"),
    ),
    # almost higher order, almost low rank
    ("sequential E0306", (H, "h = conv(h[t-1], width = N) + x")),
    ("sequential E0306", (H, "h = conv(tanh(h[t-1]), width = 2) + x")),
    ("sequential E0302", (H, "h = 2 * h[t-1] - h[t-1] * h[t-2] + x")),
    ("sequential E0302", (S, "S = S[t-1] - k * dot[K](k * S[t-1], S[t-1])")),
    (
        "sequential E0305",
        (S, "S = S[t-1] - k * dot[K](softmax[K](S[t-1]), k2 * v)"),
    ),
]


@pytest.mark.parametrize(("expected", "lines"), NEAR, ids=ids(NEAR))
def test_only_seemingly_linear(expected: str, lines: tuple[str, ...]) -> None:
    found = only(*lines)
    words = expected.split()
    assert found.verdict == words[0]
    assert {r.code for r in found.reasons} == set(words[1:])
    assert all(r.span is not None and r.span.text for r in found.reasons)


def test_a_choice_per_entry_of_a_reduced_state_is_not_inside_the_reduction() -> None:
    found = only("state c: bool [D] = false", "c = where(keep, any[D](c[t-1]), f > 0)")
    assert found.verdict == "sequential"
    whole = only("state c: bool [D] = false", "c = where(on, any[D](c[t-1]), keep)")
    assert (whole.structure, whole.semiring) == ("dense", "boolean")
