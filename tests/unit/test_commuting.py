"""Recurrences whose steps commute, and some whose steps do not."""

from __future__ import annotations

import json

import pytest
import torch
from recurrences import EXTERN, HEADER, SIZES
from test_analysis_corpus import ALGORITHMS, ROWS, rows
from test_analysis_corpus import HEADER as ALGORITHM
from test_analysis_corpus import SIZES as PLAIN

from seqdsl.analysis import Analyzed, analyze
from seqdsl.driver import elaborate
from seqdsl.elaborate import elaborate_text
from seqdsl.locate import locate
from seqdsl.testing.commuting import check_commutes, last_states

H = "state h: [D] = 0"

COMMUTING = [
    (H, "h = h[t-1] + x"),
    (H, "h = h[t-1] + f * (x - a) * (1 + h[t-1]) - f * (x - a) * h[t-1]"),
    ("state h: [D] = 1", "h = f * h[t-1]"),
    ("state h: [D] = 1", "h = h[t-1] * where(keep, -1, 1)"),
    ("state S: [K, V] = 0", "S = S[t-1] + k * v"),
    ("state h: [D] = -inf", "h = logaddexp(h[t-1], x)"),
    ("state h: [D] = -inf", "h = max(h[t-1], x)"),
    ("state h: [D] = inf", "h = min(h[t-1], x)"),
    ("state c: bool [D] = false", "c = c[t-1] or keep"),
    ("state n: int = 0", "n = n[t-1] + i"),
    (H, "h = 0.5 * h[t-1] + 1"),
    (H, "h = h[t+1] + x"),
    ("state z: complex [D] = 1", "z = exp(complex(0 * f, f)) * z[t-1]"),
    (
        "state z: [K] = -inf",
        "state S: [K, V] = 0",
        "z = logaddexp(z[t-1], k)",
        "S = exp(z[t-1] - z) * S[t-1] + exp(k - z) * v",
    ),
    (
        "state m: [K] = -10",
        "state S: [K, V] = 0",
        "m = max(m[t-1], k)",
        "old = exp(m[t-1] - m)",
        "S = S[t-1] * old + v * exp(k - m)",
    ),
    (
        "state z: [] = 1",
        "state o: [V] = 0",
        "z = z[t-1] + exp(a)",
        "o = (z[t-1] * o[t-1] + exp(a) * v) / z",
    ),
    (
        "state n: [] = 0",
        "state m: [D] = 0",
        "n = n[t-1] + 1",
        "m = m[t-1] + (x - m[t-1]) / n",
    ),
    (
        "state z: [] = 1",
        "state o: [V] = 0",
        "z = z[t-1] + exp(a)",
        "c = exp(a) / z",
        "o = (1 - c) * o[t-1] + c * v",
    ),
    (
        "state z: [K] = -10",
        "state S: [K, V] = 0",
        "z = logaddexp(z[t-1], k)",
        "c = exp(k - z)",
        "S = S[t-1] + c * (v - S[t-1])",
    ),
]

NOT = [
    (H, "h = f * h[t-1] + x"),
    (H, "h = 0.9 * h[t-1] + x"),
    (H, "h = lerp(h[t-1], x, sigmoid(f))"),
    ("state S: [K, V] = 0", "S = exp(-softplus(k2)) * S[t-1] + k * v"),
    ("state S: [K, V] = 0", "S = S[t-1] + b * k * (v - dot[K](k, S[t-1]))"),
    ("state h: [D] = -inf", "h = logaddexp(h[t-1] - softplus(f), x)"),
    ("state h: [D] = -inf", "h = max(h[t-1] + f, x)"),
    ("state h: [D] = 0", "h = logaddexp(logaddexp(h[t-1], x), h[t-1])"),
    (H, "h = min(max(h[t-1] + x, 0), 1)"),
    (H, "h = where(keep, x, h[t-1])"),
    (H, "h = h[t-1] + t * x"),
    (H, "h = h[t-1] + x * x[t-1]"),
    (H, "h = h[t-1] + x * conv(f, width = 2)"),
    (H, "h = h[t-1] + x * cumsum[t](f)"),
    (H, "h = h[t-2] + x"),
    (H, "h = h[t-1] + roll[D](h[t-1], 1) + x"),
    ("state c: bool [D] = false", "c = (c[t-1] and keep) or x > 0"),
    (
        "state z: [D] = 0",
        "state h: [D] = 0",
        "z = z[t-1] + f",
        "h = h[t-1] + z * x",
    ),
    (
        "state m: [K] = -10",
        "state S: [K, V] = 0",
        "m = max(m[t-1] - 0.5, k)",
        "S = exp(m[t-1] - m) * S[t-1] + exp(k - m) * v",
    ),
    (
        "state z: [K] = -10",
        "state S: [K, V] = 0",
        "z = logaddexp(z[t-1], k)",
        "S = exp(z[t-1] - z) * S[t-1] + v",
    ),
    (
        "state n: [] = 0",
        "state m: [D] = 0",
        "n = n[t-1] + 1",
        "m = m[t-1] + (x - 0.5 * m[t-1]) / n",
    ),
    (
        "state z: [] = 1",
        "state o: [V] = 0",
        "z = z[t-1] + exp(a)",
        "c = exp(0.5 * a) / z",
        "o = (1 - c) * o[t-1] + c * v",
    ),
]


def made(lines: tuple[str, ...]) -> tuple[str, Analyzed]:
    name = lines[-1].split(" ")[0]
    body = "".join(f"    {line}\n" for line in (*lines, f"output {name}"))
    return name, analyze(elaborate_text(EXTERN + HEADER + body))


@pytest.mark.parametrize("lines", COMMUTING, ids=[c[-1] for c in COMMUTING])
def test_steps_that_commute(lines: tuple[str, ...]) -> None:
    name, analyzed = made(lines)
    found = {v.recurrence.states: v for v in analyzed.verdicts}
    assert found[(name,)].commutes
    assert found[(name,)].to_json()["commutes"] is True
    for seed in range(3):
        assert check_commutes(analyzed, SIZES, seed) >= 1


@pytest.mark.parametrize("lines", NOT, ids=[c[-1] for c in NOT])
def test_steps_whose_order_matters(lines: tuple[str, ...]) -> None:
    name, analyzed = made(lines)
    own = (v for v in analyzed.verdicts if name in v.recurrence.states)
    (found,) = (v for v in own if v.verdict == "scannable")
    assert not found.commutes
    assert found.to_json()["commutes"] is False
    changed = [
        not torch.allclose(one.double(), other.double())
        for seed in range(4)
        for one, other in last_states(analyzed, found, SIZES, seed).values()
    ]
    assert any(changed), "it commutes, and that could be found"


def test_no_labelled_recurrence_is_wrongly_said_to_commute() -> None:
    tried = 0
    for _, _, lines in ROWS:
        if "output" not in "\n".join(lines) and "black" not in "\n".join(lines):
            tried += check_commutes(made(lines)[1], SIZES)
    for _, lines in rows(ALGORITHMS):
        text = ALGORITHM + "".join(f"    {line}\n" for line in lines)
        tried += check_commutes(analyze(elaborate_text(text)), PLAIN)
    assert tried >= 40


def test_lightnet_may_see_its_tokens_in_any_order_and_gla_may_not() -> None:
    found = {}
    for name in ("std.lightnet:LightNetCell", "std.gla:GLA"):
        layer = name.partition(":")[2]
        program, _ = locate(name)
        analyzed = analyze(elaborate(program, layer, {}).model)
        found[name] = [bool(v.commutes) for v in analyzed.verdicts if v.updates]
    assert found == {"std.lightnet:LightNetCell": [True, True], "std.gla:GLA": [False]}
    assert json.dumps(found)
