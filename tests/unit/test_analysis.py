"""Labelled recurrences: what each is, plain, in disguise, and only seemingly linear."""

from __future__ import annotations

import pytest

from seqdsl.analysis import Verdict, analyze
from seqdsl.elaborate import elaborate_text
from seqdsl.ir.sizes import Scalar
from seqdsl.testing.normal_forms import check_normal_forms

SIZES: dict[str, Scalar] = {"D": 4, "heads": 2, "K": 3, "V": 2, "N": 2}

HEADER = """
layer L(D, heads, K, V, N):
    input x: [D]
    input f: [D]
    input g: [D]
    input a: []
    input b: []
    input r: [heads]
    input k: [K]
    input k2: [K]
    input q: [K]
    input v: [V]
    input w: [V]
    input kh: [heads, K]
    input qh: [heads, K]
    input gh: [heads, K]
    input vh: [heads, V]
    input i: int
    input on: bool
    input keep: bool [D]
    dim J = D
    dim Q = K
    param U: [D, J]
"""
EXTERN = "extern black(h: [D]) -> [D]\n"

H = "state h: [D] = 0"
S = "state S: [K, V] = 0"
SH = "state S: [heads, K, V] = 0"


def verdicts(body: str) -> dict[str, Verdict]:
    """The verdicts of a layer with the given lines, by the states joined.

    The normal form of all that is affine is compared with the update itself.
    """
    lines = [f"    {line}" for line in body.strip().splitlines()]
    text = EXTERN + HEADER + "\n".join(lines) + "\n"
    analyzed = analyze(elaborate_text(text))
    if "black" not in body:
        check_normal_forms(analyzed, SIZES)
    return {",".join(v.recurrence.states): v for v in analyzed.verdicts}


def only(*lines: str) -> Verdict:
    body = "\n".join(lines)
    last = body.strip().splitlines()[-1]
    output = "" if "output" in body else f"\noutput {last.strip().split(' ')[0]}"
    (found,) = (
        v for v in verdicts(body + output).values() if v.verdict not in ("fir", "none")
    )
    return found


def label(found: Verdict) -> str:
    """`diagonal`, `scalar_plus_low_rank 1`, `dense log`, `sequential E0301`, …"""
    if found.structure is None:
        codes = sorted({r.code for r in found.reasons})
        return " ".join([found.verdict, *codes])
    words = [found.structure]
    if found.rank is not None:
        words.append(str(found.rank))
    if found.semiring not in ("real", None):
        words.append(found.semiring)
    if found.monoid:
        words.append(found.monoid)
    if found.invariant:
        words.append("invariant")
    return " ".join(words)


PLAIN: list[tuple[str, tuple[str, ...]]] = [
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

DISGUISED: list[tuple[str, tuple[str, ...]]] = [
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

NEAR: list[tuple[str, tuple[str, ...]]] = [
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
    ("sequential E0301", ("state c: int = 0", "c = (c[t-1] + 1) % 7")),
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
    ("sequential E0304", ("state h: bool = false", "h = not h[t-1]")),
    ("sequential E0304", ("state h: bool = false", "h = h[t-1] != on")),
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
]


def _ids(rows: list[tuple[str, tuple[str, ...]]]) -> list[str]:
    return [rows[i][1][-1] for i in range(len(rows))]


@pytest.mark.parametrize(("expected", "lines"), PLAIN, ids=_ids(PLAIN))
def test_plain(expected: str, lines: tuple[str, ...]) -> None:
    assert label(only(*lines)) == expected


@pytest.mark.parametrize(("expected", "lines"), DISGUISED, ids=_ids(DISGUISED))
def test_in_disguise(expected: str, lines: tuple[str, ...]) -> None:
    body = ("dim P = heads * K", *lines) if "[P]" in lines[0] else lines
    assert label(only(*body)) == expected


@pytest.mark.parametrize(("expected", "lines"), NEAR, ids=_ids(NEAR))
def test_only_seemingly_linear(expected: str, lines: tuple[str, ...]) -> None:
    found = only(*lines)
    words = expected.split()
    assert found.verdict == words[0]
    assert {r.code for r in found.reasons} == set(words[1:])
    assert all(r.span is not None and r.span.text for r in found.reasons)
