"""Monoids other than matrices: what is recognized, and that its laws hold."""

from __future__ import annotations

import pytest
import torch
from recurrences import H, Row, ids, label, only
from verdicts import lines

from seqdsl.analysis import analyze
from seqdsl.backends.reference import interpret
from seqdsl.elaborate import elaborate_text
from seqdsl.testing.monoids import Steps, Values

C = "state c: bool = false"
CS = "state c: bool [D] = false"
T = "input table: int [D]"
ROWS: list[Row] = [
    ("monoid clamp", (H, "h = min(max(h[t-1] + x, 0), 10)")),
    ("monoid clamp", (H, "h = max(min(h[t-1] + x, f), g) + g")),
    ("monoid clamp", (H, "h = min(max(h[t-1], 0) + x, 1) - f")),
    ("monoid clamp", (H, "h = where(keep, min(relu(h[t-1] + x), f), h[t-1])")),
    ("monoid clamp", (H, "u = max(h[t-1] - x, g)", "h = min(u, 1) + f")),
    ("monoid clamp invariant", ("state n: int = 0", "n = min(max(n[t-1] + 1, 0), 9)")),
    ("monoid table invariant", (C, "c = not c[t-1]")),
    ("monoid table", (C, "c = c[t-1] != on")),
    ("monoid table", (CS, "c = (c[t-1] and not keep) or (keep and not c[t-1])")),
    ("monoid table", (CS, "c = where(keep, not c[t-1], c[t-1] and on)")),
    ("monoid table", (C, "c = (c[t-1] == on) and a > 0 or not c[t-1]")),
    ("monoid table", (T, "state s: int = 0", "s = table[D = s[t-1]]")),
    (
        "monoid table invariant",
        ("input table: int [D] per call", "state s: int = 0", "s = table[D = s[t-1]]"),
    ),
    (
        "monoid table",
        (
            "input table: int [D, K] per call",
            "input key: int",
            "state s: int = 0",
            "s = table[D = s[t-1]][K = key % K]",
        ),
    ),
    (
        "monoid table",
        (T, "state s: int = 0", "s = where(on, table[D = s[t-1]], s[t-1])"),
    ),
    ("monoid table", (T, "state s: int = 0", "s = table[D = table[D = s[t-1]]]")),
    (
        "monoid table",
        (
            C,
            "state e: bool = true",
            "c = c[t-1] != e[t-1]",
            "e = (on or not c) and e[t-1]",
        ),
    ),
]


@pytest.mark.parametrize(("expected", "lines"), ROWS, ids=ids(ROWS))
def test_recognized(expected: str, lines: tuple[str, ...]) -> None:
    assert label(only(*lines)) == expected


# ---- Pairs and triples that come apart into scans


def test_an_online_softmax_is_three_scans() -> None:
    text = """
layer Online(D):
    input s: []
    input v: [D]
    state m: [] = -inf
    state n: [] = 0
    state d: [D] = 0
    m = max(m[t-1], s)
    n = exp(m[t-1] - m) * n[t-1] + exp(s - m)
    d = exp(m[t-1] - m) * d[t-1] + exp(s - m) * v
    output d / n
"""
    found = [line.split(": ", 1)[1] for line in lines(text)]
    assert [f.split(",")[1] for f in found] == [
        " identity (max-plus)",
        " scalar (real)",
        " scalar (real)",
    ]


def test_a_running_mean_kept_normalized_is_affine_in_it() -> None:
    text = """
layer Mean(D):
    input s: []
    input v: [D]
    state c: [] = -inf
    state o: [D] = 0
    m = max(c[t-1], s)
    c = m + log(exp(c[t-1] - m) + exp(s - m))
    o = (o[t-1] * exp(c[t-1] - m) + v * exp(s - m)) / exp(c - m)
    output o
"""
    first, second = lines(text)
    assert "identity (log)" in first and "scalar (real)" in second


@pytest.mark.parametrize("update", ["max(m[t-1], x)", "where(x > m[t-1], x, m[t-1])"])
def test_a_running_argmax_is_a_maximum_and_a_choice(update: str) -> None:
    text = f"""
layer ArgMax(D):
    input x: [D]
    state m: [D] = -inf
    state a: int [D] = 0
    m = {update}
    a = where(x > m[t-1], t, a[t-1])
    output a
"""
    first, second = lines(text)
    assert "identity (max-plus)" in first and "scannable, diagonal" in second


def test_mean_and_variance_by_welford_are_three_scans() -> None:
    text = """
layer Welford(D):
    input x: [D]
    state n: [] = 0
    state mean: [D] = 0
    state M: [D] = 0
    n = n[t-1] + 1
    mean = mean[t-1] + (x - mean[t-1]) / n
    M = M[t-1] + (x - mean[t-1]) * (x - mean)
    output M / n
"""
    assert ["identity (real)" in f or "scalar (real)" in f for f in lines(text)] == [
        True
    ] * 3


# ---- Laws

LAYERS = {
    "softmean": """
    state m: [] = -inf
    state u: [] = 0
    state h: [D] = 0
    m, u, h = softmean[D](m[t-1], u[t-1], h[t-1], sum[D](x), 1, f)
    output m
    output u
    output h
""",
    "stabilized": """
    state m: [D] = -inf
    state h: [D, K] = 0
    m, h = stabilized[K](m[t-1], h[t-1], -abs(x), f, f * index[K])
    output m
    output h
""",
    "fraction": """
    state h: [D] = 1
    h = fraction(h[t-1], exp(x), 1, 1, d = exp(f))
    output h
""",
    "latest": """
    state seen: bool [D] = false
    state h: [D] = 0
    seen, h = latest(seen[t-1], h[t-1], keep, where(keep, x, 0))
    output seen
    output h
""",
    "clamp": """
    state h: [D] = 0.3
    h = max(min(where(keep, h[t-1] + x, max(h[t-1], f)), x + 1), -1)
    output h
""",
    "bits": """
    state h: bool [D] = false
    state c: bool [D] = true
    h = (h[t-1] != c[t-1]) or (keep and not h[t-1])
    c = where(x > f, h, not c[t-1] and h[t-1])
    output h
    output c
""",
    "table": """
    state h: int [D] = 1
    h = where(keep, table[N = h[t-1]][K = key], table[N = table[N = h[t-1]][K = 0]][K = key])
    output h
""",
    "remainders": """
    state h: int [D] = 7
    h = where(keep, h[t-1], where(x > 0, key, (3 * h[t-1] + key) % 5))
    output h
""",
}
HEADER = """
# The mean of w weighted by exp(m): sums relative to the largest m.
monoid softmean[V](m: [] = -inf, u: [] = 0, w: [V] = 0) commutes:
    m = max(first.m, second.m)
    old = where(first.m == m, 1, exp(first.m - m))
    new = where(second.m == m, 1, exp(second.m - m))
    u = old * first.u + new * second.u
    w = old * first.w + new * second.w

# mLSTM: what is kept is scaled by exp(f), all relative to exp(m).
monoid stabilized[V](m: [], w: [V], f: [] = 0, m_in: [] = -inf, w_in: [V] = 0):
    f = first.f + second.f
    m_in = max(second.f + first.m_in, second.m_in)
    kept = where(m_in == -inf, 0, exp(second.f + first.m_in - m_in))
    new = where(m_in == -inf, 0, exp(second.m_in - m_in))
    w_in = kept * first.w_in + new * second.w_in
    top = max(f + m, m_in)
    top
    before = where(top == -inf, 0, exp(f + m - top))
    before * w + where(top == -inf, 0, exp(m_in - top)) * w_in

# h becomes (a h + b) / (c h + d).
monoid fraction(h: [], a: [] = 1, b: [] = 0, c: [] = 0, d: [] = 1):
    a = second.a * first.a + second.b * first.c
    b = second.a * first.b + second.b * first.d
    c = second.c * first.a + second.d * first.c
    d = second.c * first.b + second.d * first.d
    (a * h + b) / (c * h + d)

# The last value that was there: later ones win.
monoid latest(there: bool = false, value: [] = 0):
    there = first.there or second.there
    value = where(second.there, second.value, first.value)

layer L(D, N, K):
    input x: [D]
    input f: [D]
    input keep: bool [D]
    input key: int
    input table: int [D, N, K]
"""
OPTIONS = {"D": 3, "N": 4, "K": 2}
T_STEPS = 7


def _case(name: str, seed: int) -> tuple[Steps, dict[str, torch.Tensor], list[Values]]:
    model = elaborate_text(HEADER + LAYERS[name].lstrip("\n"))
    (verdict,) = (v for v in analyze(model).verdicts if v.structure == "monoid")
    make = torch.Generator().manual_seed(seed)
    lead = (2, T_STEPS)
    inputs = {
        "x": torch.randn(*lead, 3, generator=make, dtype=torch.float64),
        "f": torch.randn(*lead, 3, generator=make, dtype=torch.float64),
        "keep": torch.rand(*lead, 3, generator=make) < 0.5,
        "key": torch.randint(0, 2, lead, generator=make),
        "table": torch.randint(0, 4, (*lead, 3, 4, 2), generator=make),
    }
    steps = Steps(model, verdict, dict(OPTIONS))
    return steps, inputs, steps.leaves(inputs)


def _same(a: Values, b: Values) -> bool:
    return all(
        torch.allclose(x.double(), y.double()) for x, y in zip(a, b, strict=True)
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", LAYERS)
def test_combine_is_associative(name: str, seed: int) -> None:
    steps, _, leaves = _case(name, seed)
    for a, b, c in zip(leaves, leaves[1:], leaves[2:], strict=False):
        left = steps.combine(steps.combine(a, b), c)
        assert _same(left, steps.combine(a, steps.combine(b, c)))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", LAYERS)
def test_a_scan_is_the_loop(name: str, seed: int) -> None:
    steps, inputs, leaves = _case(name, seed)
    states = list(steps.states)
    looped = interpret(steps.model, options=dict(OPTIONS), params={}, inputs=inputs)
    said = [tuple(looped[s][:, t : t + 1] for s in states) for t in range(T_STEPS)]
    for start in range(T_STEPS - 1):
        whole = _tree(steps, leaves[start + 1 :])
        assert _same(steps.apply(whole, said[start]), said[-1])


def _tree(steps: Steps, leaves: list[Values]) -> Values:
    if len(leaves) == 1:
        return leaves[0]
    half = (len(leaves) + 1) // 2
    return steps.combine(_tree(steps, leaves[:half]), _tree(steps, leaves[half:]))


@pytest.mark.parametrize("name", LAYERS)
def test_the_identity_changes_nothing(name: str) -> None:
    steps, _, leaves = _case(name, 0)
    for leaf in leaves:
        unit = steps.identity(leaf)
        assert _same(steps.combine(unit, leaf), leaf)
        assert _same(steps.combine(leaf, unit), leaf)
        assert _same(steps.combine(unit, unit), unit)
