"""States that a step takes through a whole repeat, by chunks."""

from __future__ import annotations

import pytest

from seqdsl.analysis import analyze
from seqdsl.elaborate import elaborate_text
from seqdsl.schedule.forms import Products
from seqdsl.schedule.products import Chunked
from seqdsl.schedule.turns import in_turns
from seqdsl.testing.cases import Case
from seqdsl.testing.layers import subject
from seqdsl.testing.properties.strategies import (
    others,
    strategies_agree,
    strategies_agree_in_gradients,
    strategies_agree_packed,
)

LAYER = """
layer Turns(D = 3, H = 2, K = 3, V = 2, N = 3):
    input x: [D]
    q = linear(x, [H, K])
    state S: [H, K, V] = 0
    {}
"""
ERASE = "M = {kept} * M[j-1] + b * k * (v - dot[K](k, M[j-1]))"
TURN = (
    "repeat j in N:",
    "    k = l2norm[K](linear(x, [H, K]))",
    "    v = linear(x, [H, V])",
    "    b = sigmoid(linear(x, H))",
)


def text(*lines: str) -> str:
    return LAYER.format("\n    ".join(lines))


def turn(kept: str = "1", begin: str = "S[t-1]", more: str = "") -> tuple[str, ...]:
    """A repeat of delta steps."""
    state = f"    state M: [H, K, V] = {begin}"
    return (*TURN, state, f"    {ERASE.format(kept=kept)}{more}")


LAST = ("S = M[j = N]", "output dot[K](q, S)")
FORMS = {
    "plain": (*turn(), *LAST),
    "decayed before": ("f = sigmoid(linear(x, H))", *turn(begin="f * S[t-1]"), *LAST),
    "decayed by channel": (*turn("sigmoid(linear(x, [H, K]))", "0.9 * S[t-1]"), *LAST),
    "decayed alike": (*turn("0.8"), *LAST),
    "written to beside": (*turn(more=" + 0.1 * linear(x, [H, K]) * v"), *LAST),
    "forgotten": (
        *TURN,
        "    state M: [H, K, V] = S[t-1]",
        "    M = b * k * (v - dot[K](k, M[j-1]))",
        *LAST,
    ),
    "beside another state": (
        *(line.replace("x, [H, V]", "u, [H, V]") for line in turn("0.9")),
        "    state u: [D] = x",
        "    u = 0.5 * u[j-1] + j * b.(H -> H)[H = 0] * x",
        *LAST,
    ),
    "from the end": (*turn(begin="S[t+1]"), *LAST),
    "read before": (*turn(), "S = M[j = N]", "output dot[K](q, S[t-1])"),
    "one turn": (*(x.replace("in N", "in 1") for x in turn()), "S = M[j = 1]", LAST[1]),
}


def form(*lines: str) -> Chunked[Products] | None:
    model = analyze(elaborate_text(text(*lines)))
    verdict = next(v for v in model.verdicts if v.recurrence.axis == "t")
    return in_turns(model.model, verdict, 4)


@pytest.mark.parametrize("name", FORMS)
def test_turns_are_what_the_language_says(name: str) -> None:
    layer = subject(elaborate_text(text(*FORMS[name])), text=text(*FORMS[name]))
    assert form(*FORMS[name]) is not None
    assert "_chunkwise" in str(
        others(layer)["chunk:4"].module.forward.__code__.co_names
    )
    strategies_agree(layer, Case(seed=1, batch=2, time=11, cuts=(5, 6)))
    packed = Case(seed=2, batch=2, time=9, runs=((4, 5), (2, 7)))
    strategies_agree_packed(layer, packed)
    strategies_agree_in_gradients(layer, packed)


@pytest.mark.parametrize(
    "lines",
    [
        (*turn(), "S = M[j = N]", "output S"),
        (*turn(), *LAST, "output early = dot[K](q, M[j = 1])"),
        (*turn(more=" + tanh(M[j-1])"), *LAST),
        (*turn(begin="S[t-1] + 1"), *LAST),
        (*turn(), "S = 0.5 * M[j = N]", LAST[1]),
        (*(x.replace("in N:", "in N while sum[H](b) > 0:") for x in turn()), *LAST),
    ],
)
def test_where_turns_have_no_form(lines: tuple[str, ...]) -> None:
    assert form(*lines) is None
