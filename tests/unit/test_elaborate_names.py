"""Names and scopes: what a name means, who may use it, and what is said otherwise."""

from __future__ import annotations

import pytest
from elaborating import codes, errors, layer, marked, model, only_error, warnings


def test_unknown_name_is_marked_and_a_near_one_offered() -> None:
    found = only_error(layer("input speed: [D]\noutput 2 * sped"))
    assert (found.code, marked(found)) == ("E0101", "sped")
    assert found.help == ("did you mean `speed`?",)


def test_unknown_dim_is_marked_and_a_near_one_offered() -> None:
    found = only_error(layer("input x: [D]\noutput linear(x, Heds)", "D, Heads = 2"))
    assert (found.code, marked(found)) == ("E0207", "Heds")
    assert found.help[0] == "did you mean `Heads`?"
    assert "`dim Heds = …`" in found.help[1]


def test_unknown_operator_offers_operators_defs_and_layers() -> None:
    for wrong, right in (
        ("softmx[D](x)", "softmax"),
        ("rmsnrm[D](x)", "rmsnorm"),
        ("clmp(x, 0, 1)", "clamp"),
    ):
        found = only_error(layer(f"input x: [D]\noutput {wrong}"))
        assert found.help == (f"did you mean `{right}`?",)


def test_own_names_count_more_than_those_of_the_prelude_and_of_the_language() -> None:
    own = "def clamp(x, low, high):\n    x * 0"
    found = model(layer("input x: [D]\noutput clamp(x, 0, 1)", "D", own))
    assert "mul" in repr(found.outputs[0].expr)
    assert "max" not in repr(found)
    silu = "def silu(x):\n    x + 1"
    assert "silu" not in repr(
        model(layer("input x: [D]\noutput silu(x)", "D", silu)).outputs[0].expr
    )


def test_values_and_layers_are_told_apart() -> None:
    for line, said in (
        ("output Block", "`Block` is a layer or def"),
        ("output sigmoid", "`sigmoid` is an operator"),
        ("output x(x)", "`x` is a value and cannot be called"),
        ("output linear(x, x)", "`x` is a value, not a dim"),
        ("output x + [D]", "a list of dims is not a value"),
        ('output x + "a"', "a text is not a value"),
    ):
        found = only_error(layer(f"input x: [D]\n{line}"))
        assert found.code in ("E0107", "E0408")
        assert said in found.message


@pytest.mark.parametrize(
    "lines",
    [
        "input x: [D]\nx2 = x\nx2 = x\noutput x2",
        "input x: [D]\ninput x: [D]\noutput x",
        "input x: [D]\ndim J = 2\ndim J = 3\noutput linear(x, J)",
        "input x: [D]\nD = x\noutput D",
        "input x: [D]\nparam w: [D]\nstate w: [D] = 0\noutput w + x",
        "input x: [D]\noutput x\noutput x",
        (
            "input x: [D]\nrepeat n in 2:\n    state h: [D] = x\n    h = h[n-1]\n"
            "repeat n in 2:\n    state g: [D] = x\n    g = g[n-1]\n"
            "output a = h[n = 2]\noutput b = g[n = 2]"
        ),
    ],
)
def test_a_name_is_defined_once(lines: str) -> None:
    found = only_error(layer(lines, "D"))
    assert found.code == "E0105"
    assert found.labels or "two outputs" in found.message


def test_inputs_and_parameters_cannot_be_redefined() -> None:
    assert only_error(layer("input x: [D]\nx = 2\noutput x")).code == "E0119"
    assert only_error(layer("input x: [D]\nparam w: []\nw = 2\noutput x")).code == (
        "E0119"
    )


@pytest.mark.parametrize("name", ["t", "batch"])
def test_axes_have_their_names_for_themselves(name: str) -> None:
    assert only_error(layer(f"input {name}: [D]\noutput {name}", "D")).code == "E0116"
    found = errors(layer("input x: [D]\noutput x", f"D, {name}"))
    assert "E0116" in codes(found)


def test_a_value_of_a_repeat_is_hidden_outside_it() -> None:
    text = """
        input x: [D]
        repeat n in 3:
            state h: [D] = x
            h = h[n-1] + 1
        output h
    """
    found = only_error(layer(text, "D"))
    assert found.code == "E0120"
    assert "`h[n = …]`" in found.help[0]


def test_names_of_a_def_and_of_its_caller_do_not_meet() -> None:
    gate = "def gate(a):\n    x = sigmoid(a)\n    y = x * a\n    y + x"
    found = model(layer("input x: [D]\ny = gate(x)\noutput gate(y)", "D", gate))
    names = [e.name for e in found.equations]
    assert len(names) == len(set(names)) == 5


def test_a_def_does_not_see_its_callers_names() -> None:
    peek = "def peek(a):\n    a + x"
    found = only_error(layer("input x: [D]\noutput peek(x)", "D", peek))
    assert (found.code, marked(found)) == ("E0101", "x")


def test_layers_and_defs_that_contain_themselves() -> None:
    loop = "layer Loop(D):\n    input x: [D]\n    output Loop(x)"
    found = only_error(layer("input x: [D]\noutput Loop(x)", "D", loop))
    assert found.code == "E0115"
    again = "def again(x):\n    again(x) + 1"
    found = only_error(layer("input x: [D]\noutput again(x)", "D", again))
    assert found.code == "E0115"


def test_circles_within_a_step_are_printed() -> None:
    found = only_error(layer("input x: [D]\na = b + x\nb = c\nc = a\noutput a", "D"))
    assert found.code == "E0108"
    for name in "abc":
        assert f"`{name}`" in found.message
    assert len(found.labels) >= 2


def test_an_equation_that_reads_its_past_must_be_a_state() -> None:
    found = only_error(layer("input x: [D]\nh = h[t-1] + x\noutput h", "D"))
    assert found.code == "E0109"
    assert "state h" in found.help[0]


def test_states_need_an_equation_and_an_initial_value() -> None:
    assert only_error(layer("input x: [D]\nstate h: [D] = 0\noutput x", "D")).code == (
        "E0110"
    )
    text = "input x: [D]\nstate h: [D]\nh = h[t-1] + x\noutput h"
    assert only_error(layer(text, "D")).code == "E0111"


def test_statements_out_of_place() -> None:
    for line in ("input y: [D]", "output h"):
        text = f"""
            input x: [D]
            repeat n in 2:
                {line}
                state h: [D] = x
                h = h[n-1]
            output h[n = 2]
        """
        assert only_error(layer(text, "D")).code == "E0117"
    assert only_error(layer("input x: [D]\nx + 1\noutput x", "D")).code == "E0117"


def test_warnings_about_what_has_no_effect() -> None:
    text = """
        input x: [D]
        input extra: [D]
        dim J = 3
        param w: [D]
        unused = 2 * x
        _quiet = 3 * x
        state s: [D] = 0
        s = x + 1
        output s
    """
    found = {(w.code, marked(w)) for w in warnings(layer(text, "D, F = 2"))}
    assert ("W0104", "F = 2") in found
    assert ("W0102", "w") in found
    assert ("W0105", "s") in found
    assert {code for code, _ in found} == {"W0101", "W0102", "W0104", "W0105"}
    assert not any("_quiet" in text for _, text in found)
