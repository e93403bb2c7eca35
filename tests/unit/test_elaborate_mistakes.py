"""Several mistakes at once are all found, and none is followed by its own echo."""

from __future__ import annotations

import pytest
from elaborating import codes, errors, layer, marked, only_error


def test_independent_mistakes_are_reported_together_in_the_order_of_the_text() -> None:
    text = """
        input x: [D]
        input y: [H]
        a = x + y
        b = unknown(x)
        c = softmax[Q](x)
        state s: [D] = 0
        s = tanh(s[t-1]) * wrong
        output a + b
        output c
        output d = linear(x, H, bais = false)
    """
    found = errors(layer(text, "D, H"))
    assert codes(found) == ["E0201", "E0101", "E0207", "E0101", "E0402"]
    assert [marked(d) for d in found][1:] == [
        "unknown",
        "Q",
        "wrong",
        "bais = false",
    ]


def test_a_dim_without_extent_is_still_a_dim() -> None:
    text = "input x: [D]\ndim J = 0\ny = linear(x, J)\noutput sum[J](y) * J"
    assert only_error(layer(text, "D")).code == "E0204"


@pytest.mark.parametrize(
    "line",
    [
        "a = x + nothing",
        "a = sum[Q](x)",
        "a = linear(x)",
        "a: [H] = x",
        "param a: [Q]",
        "param a: int [D]",
        "state a: [Q] = 0\na = a[t-1]",
        "a, b = x",
        "repeat t in 2:\n    a = x",
    ],
)
def test_uses_of_what_is_wrong_are_silent(line: str) -> None:
    uses = "c = a * 2\noutput tanh(c)\noutput linear(c, H)\noutput z = a[t-1]"
    found = errors(layer(f"input x: [D]\n{line}\n{uses}", "D, H"))
    first = len(line.splitlines()) + 2
    assert found
    assert all(d.span is not None and d.span.line <= first for d in found), found
    assert len({d.code for d in found}) == len(found)


def test_one_line_can_be_wrong_at_several_arguments() -> None:
    found = errors(layer("input x: [D]\noutput where(p < x < q, r + s, v)", "D"))
    assert [marked(d) for d in found] == ["p", "q", "r", "s", "v"]


def test_a_mistake_in_a_sub_layer_is_reported_once_where_it_is() -> None:
    inner = "layer Inner(D):\n    input x: [D]\n    output x + wrong"
    text = "input x: [D]\na = Inner(x)\nb = Inner(2 * x)\noutput a + b"
    found = only_error(layer(text, "D", inner))
    assert (found.code, marked(found)) == ("E0101", "wrong")
    assert found.span is not None
    assert found.span.line == 3


def test_a_mistake_in_a_def_is_reported_once_for_all_its_calls() -> None:
    twice = "def twice(a):\n    a * wrong"
    found = only_error(layer("input x: [D]\noutput twice(x) + twice(2)", "D", twice))
    assert marked(found) == "wrong"


def test_a_layer_without_output() -> None:
    assert only_error(layer("input x: [D]\ny = x", "D")).code == "E0112"


def test_spans_of_all_errors_lie_on_the_right_lines() -> None:
    lines = [f"y{i} = x + missing{i}" for i in range(20)]
    text = layer("input x: [D]\n" + "\n".join(lines) + "\noutput x", "D")
    found = errors(text)
    assert [d.span.line for d in found if d.span] == list(range(3, 23))
    assert [marked(d) for d in found] == [f"missing{i}" for i in range(20)]
