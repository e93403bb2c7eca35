"""What explain says of clamps, semirings and monoids in floating point, and where."""

from __future__ import annotations

import pytest
from verdicts import by_name

from seqdsl.analysis import analyze
from seqdsl.analysis.costs import costs
from seqdsl.analysis.derivation import derivation
from seqdsl.analysis.note import Note
from seqdsl.analysis.safety import safety
from seqdsl.elaborate import elaborate_text

HEAD = "layer L(D):\n    input x: [D]\n    input keep: bool [D]\n"

# A scalar Kalman filter: the variance is a linear fraction of the one before.
KALMAN = """
monoid fraction(h: [], a: [] = 1, b: [] = 0, c: [] = 0, d: [] = 1):
    a = second.a * first.a + second.b * first.c
    b = second.a * first.b + second.b * first.d
    c = second.c * first.a + second.d * first.c
    d = second.c * first.b + second.d * first.d
    (a * h + b) / (c * h + d)

layer Kalman(D):
    input x: [D]
    state p: [D] = 1
    r = softplus(x)
    p = fraction(p[t-1], r, 0.1 * r, 1, 0.1 + r)
    output p
"""


def notes(text: str) -> tuple[Note, ...]:
    analyzed = analyze(elaborate_text(text))
    (found,) = (v for v in analyzed.verdicts if v.verdict == "scannable")
    return safety(analyzed.model, found, costs(analyzed.model, found))


def of(*lines: str) -> tuple[Note, ...]:
    return notes(HEAD + "".join(f"    {line}\n" for line in lines))


@pytest.mark.parametrize(
    ("lines", "said", "warned"),
    [
        (
            ("state h: [D] = 0", "h = min(max(h[t-1] + x, 0), 10)", "output h"),
            ("stays in [0, 10]", "shifts of several steps apart"),
            True,
        ),
        (
            ("state h: [D] = 0", "h = clamp(h[t-1] + tanh(x), -5, 5)", "output h"),
            ("stays in [-5, 5]", "up to 1 * T"),
            False,
        ),
        (
            (
                "state z: [D] = -inf",
                "z = logaddexp(z[t-1] - softplus(x), x)",
                "output z",
            ),
            ("no exp of more than 0", "cannot grow"),
            False,
        ),
        (
            ("state m: [D] = 0", "m = max(m[t-1] + tanh(x), x)", "output m"),
            ("may change places", "at most 1 * T"),
            False,
        ),
        (
            ("state c: bool [D] = false", "c = c[t-1] and keep or x > 0", "output c"),
            ("exact in any order",),
            False,
        ),
        (
            ("state c: bool [D] = false", "c = c[t-1] != keep", "output c"),
            ("tables hold only values",),
            False,
        ),
        (
            ("state h: [D] = 0", "h = linear(h[t-1], D) + x", "output h"),
            ("no bound is known of the matrix",),
            True,
        ),
    ],
)
def test_each_algebra_has_its_notes(
    lines: tuple[str, ...], said: tuple[str, ...], warned: bool
) -> None:
    found = of(*lines)
    text = " ".join(n.text for n in found)
    assert all(s in text for s in said)
    assert any(n.warning for n in found) is warned
    assert all(n.span is not None and n.span.line == 5 for n in found)


def test_products_and_divisors_of_a_declared_monoid_are_warned_of() -> None:
    found = notes(KALMAN)
    warned = {n.span.line: n.text for n in found if n.warning and n.span is not None}
    assert set(warned) == {3, 4, 6, 7}
    assert "products can overflow" in warned[3]
    assert "divides by (c * h + d)" in warned[7] or "divides by c * h + d" in warned[7]
    (verdict,) = by_name(KALMAN).values()
    assert (verdict.structure, verdict.verdict) == ("monoid", "scannable")


def test_a_state_that_is_used_split_is_explained_split() -> None:
    text = """
layer Merged(D, heads, K = D/heads, V = K):
    input x: [D]
    dim P = heads * K
    k = l2norm[K](linear(x, [heads, K]))
    v = linear(x, [heads, V])
    state S: [P, V] = 0
    u = S[t-1].(P -> [heads, K])
    S = (u - k * dot[K](k, u) + k * v).([heads, K] -> P)
    output S
"""
    analyzed = analyze(elaborate_text(text))
    (found,) = (v for v in analyzed.verdicts if v.verdict == "scannable")
    assert (found.structure, found.rank) == ("scalar_plus_low_rank", 1)
    model, seen = analyzed.seen(found)
    steps = [s.text for s in derivation(model, seen) if s.lead == "split"]
    assert steps == ["P of S is [heads, K]"]


def test_what_may_stay_after_an_edit_is_named() -> None:
    text = HEAD + (
        "    state h: [D] = 0\n"
        "    state c: [D] = 0\n"
        "    f = sigmoid(linear(x, D) + linear(h[t-1], D))\n"
        "    c = f * c[t-1] + x\n"
        "    h = tanh(c)\n"
        "    output h\n"
    )
    (found,) = by_name(text).values()
    shown = found.reasons[0]
    assert shown.span is not None and shown.span.text.startswith("sigmoid")
    assert any("`tanh(c)` (line 8) may stay" in h for h in shown.help)
    assert [r.code for r in found.reasons] == ["E0301"]
