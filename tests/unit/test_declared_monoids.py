"""Monoids that a spec declares: how they are written, checked and refused."""

from __future__ import annotations

import pytest
from verdicts import by_name, lines

from seqdsl.analysis import analyze
from seqdsl.analysis.laws import laws_of
from seqdsl.diagnostics import SpecError
from seqdsl.elaborate import elaborate_text
from seqdsl.schedule.choose import Wish
from seqdsl.schedule.forms import MonoidScan
from seqdsl.schedule.make import plan
from seqdsl.schedule.plan import Parallel, TimeLoop, walk

AFFINE = """
monoid affine(a: [] = 1, b: [] = 0):
    a = second.a * first.a
    b = second.a * first.b + second.b
"""
DECAYED = """
# h becomes max(rate * h, m), for rates that are not negative.
monoid decayed(h: [], rate: [] = 1, m: [] = -inf):
    rate = first.rate * second.rate
    m = max(second.rate * first.m, second.m)
    max(rate * h, m)
"""


def layer(body: str, head: str = "D") -> str:
    rows = "".join(f"    {row}\n" for row in body.strip().splitlines())
    return f"layer L({head}):\n    input x: [D]\n    input z: [D]\n{rows}"


def codes(text: str) -> list[str]:
    """Codes of what is refused."""
    try:
        analyze(elaborate_text(text))
    except SpecError as error:
        return [d.code for d in error.diagnostics]
    return []


def test_laws_that_algebra_settles_are_said_to_be() -> None:
    body = """
state a: [D] = 1
state b: [D] = 0
a, b = affine(a[t-1], b[t-1], z, x)
output b
"""
    model = elaborate_text(AFFINE + layer(body))
    assert laws_of(model, model.monoids[0]) == (
        "associative: by algebra",
        "identity on the left: by algebra",
        "identity on the right: by algebra",
    )


def test_one_verdict_for_all_states_of_a_monoid() -> None:
    body = """
state a: [D] = 1
state b: [D] = 0
a, b = affine(a[t-1], b[t-1], z, b = x)
output b
"""
    assert lines(AFFINE + layer(body)) == [
        "a, b over t: scannable, monoid affine: loop, scan"
    ]


def test_states_that_have_loops_of_their_own_are_scanned_together() -> None:
    """`a` does not read `b`, so that a loop could compute it alone."""
    body = """
state a: [D] = 1
state b: [D] = 0
a, b = affine(a[t-1], b[t-1], z, b = x)
output a + b
"""
    steps = plan(elaborate_text(AFFINE + layer(body)), Wish("scan")).steps
    forms = [s.form for s in walk(steps) if isinstance(s, Parallel)]
    assert [type(f) for f in forms] == [MonoidScan]
    assert not any(isinstance(s, TimeLoop) for s in walk(steps))


@pytest.mark.parametrize("rate", ["0.9", "exp(z)", "sigmoid(z)", "softplus(-z)"])
def test_what_holds_for_the_steps_that_occur_is_enough(rate: str) -> None:
    body = f"state h: [D] = 0\nh = decayed(h[t-1], {rate}, x)\noutput h"
    assert lines(DECAYED + layer(body)) == [
        "h over t: scannable, monoid decayed: loop, scan"
    ]


@pytest.mark.parametrize("rate", ["-0.5", "z", "tanh(z)"])
def test_what_fails_for_the_steps_that_occur_is_refused(rate: str) -> None:
    body = f"state h: [D] = 0\nh = decayed(h[t-1], {rate}, x)\noutput h"
    assert codes(DECAYED + layer(body)) == ["E0319"]


def test_a_backward_monoid() -> None:
    body = "state h: [D] = 0\nh = decayed(h[t+1], 0.9, x)\noutput h"
    (found,) = by_name(DECAYED + layer(body)).values()
    assert (found.recurrence.direction, found.structure) == ("backward", "monoid")


def test_a_monoid_along_depth() -> None:
    body = """
repeat n in 3:
    state h: [D] = x
    h = decayed(h[n-1], 0.5, z)
output h[n = 3]
"""
    (found,) = by_name(DECAYED + layer(body)).values()
    assert (found.recurrence.axis, found.structure) == ("n", "monoid")


def test_a_monoid_in_a_sub_layer_and_one_inlined_from_it() -> None:
    inner = DECAYED + (
        "layer Peak(D):\n    input x: [D]\n    state h: [D] = 0\n"
        "    h = decayed(h[t-1], 0.9, x)\n    output h\n\n"
    )
    called = inner + layer("output Peak(x + z)")
    (found,) = by_name(called).values()
    assert (found.recurrence.layer, found.structure) == ("out", "monoid")
    looped = inner + layer("state y: [D] = 0\ny = Peak(x + y[t-1])\noutput y")
    reasons = {r.code for v in by_name(looped).values() for r in v.reasons}
    assert "E0320" in reasons


def test_the_step_that_reads_the_state_through_another_one() -> None:
    body = """
state h: [D] = 0
state g: [D] = 0
g = tanh(h[t-1] + g[t-1])
h = decayed(h[t-1], 0.9, g)
output h
"""
    found = by_name(DECAYED + layer(body)).values()
    assert all(v.verdict == "sequential" for v in found)
    assert any(r.code == "E0320" for v in found for r in v.reasons)


def test_a_step_of_another_recurrence_may_be_read() -> None:
    body = """
state g: [D] = 0
state h: [D] = 0
g = tanh(x + g[t-1])
h = decayed(h[t-1], 0.9, g)
output h
"""
    kinds = {
        v.recurrence.states: v.verdict for v in by_name(DECAYED + layer(body)).values()
    }
    assert kinds == {("g",): "sequential", ("h",): "scannable"}


@pytest.mark.parametrize(
    "update",
    [
        "h = decayed(h[t-2], 0.9, x)",
        "h = decayed(z, 0.9, x)",
        "h = decayed(h[t-1], 0.9, x) + z",
        "u = decayed(h[t-1], 0.9, x)\nh = u",
        "h = where(x > 0, decayed(h[t-1], 0.9, x), h[t-1])",
    ],
)
def test_a_step_is_the_whole_update(update: str) -> None:
    body = f"state h: [D] = 0\n{update}\noutput h"
    assert codes(DECAYED + layer(body)) == ["E0414"]


def test_states_in_another_order() -> None:
    body = """
state a: [D] = 1
state b: [D] = 0
b, a = affine(a[t-1], b[t-1], z, x)
output b
"""
    assert codes(AFFINE + layer(body)) == ["E0414"]


@pytest.mark.parametrize(
    "declared",
    [
        "monoid m(a = 0):\n    a = first.a + second.a",
        "monoid m(h: []):\n    h",
        "monoid m(first: [] = 0):\n    first = 1",
        "monoid m(a: [] = 0):\n    a = first.a + second.a\n    a",
        "monoid m(h: [], a: [] = 0):\n    a = first.a + second.a",
        "monoid m(a: [] = 0):\n    state b: [] = 0\n    a = first.a + second.a",
    ],
)
def test_declarations_that_are_not_whole(declared: str) -> None:
    text = f"{declared}\n\n" + layer("state h: [D] = 0\nh = m(h[t-1], x)\noutput h")
    assert codes(text) == ["E0122"]


def test_elements_that_are_compared_by_what_they_do() -> None:
    # Scaling a matrix does not change the fraction that it stands for.
    text = """
monoid fraction(h: [], a: [] = 1, b: [] = 0, c: [] = 0, d: [] = 1):
    size = abs(second.a * first.a + second.b * first.c) + 1
    a = (second.a * first.a + second.b * first.c) / size
    b = (second.a * first.b + second.b * first.d) / size
    c = (second.c * first.a + second.d * first.c) / size
    d = (second.c * first.b + second.d * first.d) / size
    (a * h + b) / (c * h + d)
"""
    body = "state h: [D] = 1\nh = fraction(h[t-1], exp(x), 1, 1, exp(z))\noutput h"
    assert "monoid fraction" in lines(text + layer(body))[0]


def test_matrices_of_a_size_known_later() -> None:
    text = """
monoid product[K, J](M: [K, J] = float(index[K] == index[J])):
    dim R = K
    M = dot[R](second.M.(J -> R), first.M.(K -> R))
"""
    body = """
dim J = K
state M: [K, J] = float(index[K] == index[J])
M = product[K, J](M[t-1], linear(x, [K, J]))
output M
"""
    found = lines(text + layer(body, "D, K"))
    assert found == ["M over t: scannable, monoid product: loop, scan"]


def test_what_cannot_be_tried_is_refused() -> None:
    text = """
monoid total(a: complex [] = 0):
    a = exp(first.a) * second.a
"""
    body = "state h: complex [D] = 0\nh = total(h[t-1], complex(x, z))\noutput h"
    assert codes(text + layer(body)) == ["E0316", "E0317"]


@pytest.mark.parametrize(
    ("combine", "code"),
    [
        ("linear(first.a, V) + second.a", "E0122"),
        ("first.a + second.a + normal(0, 1)", "E0122"),
        ("rmsnorm[V](first.a) + second.a", "E0122"),
        ("first.a + second.a * t", "E0101"),
        ("first.b + second.a", "E0410"),
    ],
)
def test_a_monoid_is_a_function_of_two_elements(combine: str, code: str) -> None:
    text = f"monoid m(a: [V] = 0):\n    a = {combine}\n\n"
    body = "state h: [D] = 0\nh = m(h[t-1], x)\noutput h"
    assert code in codes(text + layer(body))


def test_a_step_is_no_value() -> None:
    text = "monoid m(a: [] = 0):\n    a = first.a + second.a\n\n"
    assert codes(text + layer("output m(x, z)")) == ["E0414"]
    twice = "monoid m(a: [] = 0):\n    a = first.a + second.a\n    a = first.a\n\n"
    body = "state h: [D] = 0\nh = m(h[t-1], x)\noutput h"
    assert codes(twice + layer(body)) == ["E0122"]


def test_a_small_failure_is_shown_with_enough_digits() -> None:
    text = (
        "monoid m(a: [] = 0):\n"
        "    a = first.a + second.a + 1e-5 * first.a * second.a * (first.a - second.a)\n\n"
    )
    model = elaborate_text(text + layer("state h: [D] = 0\nh = m(h[t-1], x)\noutput h"))
    with pytest.raises(SpecError) as caught:
        analyze(model)
    one, other = caught.value.diagnostics[0].help[1].split("; ")
    assert one.rpartition("= ")[2] != other.rpartition("= ")[2]
