"""Options: defaults, arithmetic, choices of form, and what must be known when."""

from __future__ import annotations

import pytest
from elaborating import dtype, errors, layer, model, only_error

from seqdsl.diagnostics import SpecError
from seqdsl.elaborate import elaborate, load_text
from seqdsl.ir.bind import bind_sizes
from seqdsl.ir.sizes import Scalar

FORMS = layer(
    """
    input x: [D]
    h = linear(x, D) if deep else x
    dim k = 3 if kind == "wide" else 1
    output conv(h, width = k)
    """,
    'D, deep = true, kind = "wide"',
)


def test_defaults_are_arithmetic_over_the_options_before_them() -> None:
    found = model(
        layer("input x: [D]\noutput linear(x, [K, F])", "D, K = D/2, F = 2 * K + 1")
    )
    bound = bind_sizes(found, {"D": 8})
    assert dict(bound.dims) == {"D": 8, "K": 4, "F": 9}
    bound = bind_sizes(found, {"D": 8, "K": 3})
    assert bound.dims["F"] == 7


def test_a_default_reads_options_only() -> None:
    assert errors(layer("input x: [D]\noutput x * b", "D, b = x"))[0].code == "E0101"
    assert errors(layer("input x: [D]\noutput x * a * b", "D, a = b, b = 1"))


def test_one_model_serves_every_size() -> None:
    text = layer("input x: [D]\noutput linear(x, H)", "D, H = 2 * D")
    assert model(text) == model(text, {"D": 5}) == model(text, {"D": 64, "H": 3})


@pytest.mark.parametrize(
    ("given", "calls", "taps"),
    [
        ({}, {"h", "out"}, 3),
        ({"deep": False}, {"out"}, 3),
        ({"kind": "narrow"}, {"h", "out"}, 1),
    ],
)
def test_the_form_of_a_layer_can_depend_on_options(
    given: dict[str, Scalar], calls: set[str], taps: int
) -> None:
    found = model(FORMS, given)
    assert {p.key.split(".")[0] for p in found.params} == calls
    assert bind_sizes(found, {"D": 4, **given}).dims["out_tap"] == taps


def test_a_model_is_good_only_for_the_choices_it_was_made_for() -> None:
    found = model(FORMS, {"deep": False})
    with pytest.raises(SpecError, match="one value of `deep`"):
        bind_sizes(found, {"D": 4, "deep": True})


def test_sub_layers_take_the_form_that_their_options_ask_for() -> None:
    caller = "layer B(D):\n    input x: [D]\n    output A(x) + A(x, deep = false)\n"
    found = model(FORMS + "\n" + caller)
    counts = [len(i.model.params) for i in found.instances]
    assert sorted(counts) == [2, 4]


def test_what_decides_the_form_must_be_known() -> None:
    text = layer("input x: [D]\noutput x if deep else 2 * x", "D, deep")
    found = only_error(text)
    assert found.code == "E0406"
    assert "--set deep=…" in found.help[0]
    assert model(text, {"deep": True}).outputs
    run_time = layer("input x: [D]\noutput x if x > 0 else -x", "D")
    assert only_error(run_time).code == "E0406"
    assert "where(condition, a, b)" in only_error(run_time).help[0]


def test_constants_are_dims_and_equations_are_values() -> None:
    text = "input x: [D]\nk = 3\noutput conv(x, width = k)"
    found = only_error(layer(text, "D"))
    assert found.code == "E0406"
    assert "`dim k = …`" in found.help[0]
    choice = "output conv(x, width = 3 if deep else 1)"
    made = model(layer(f"input x: [D]\n{choice}", "D, deep = false"))
    assert bind_sizes(made, {"D": 2}).dims["out_tap"] == 1


def test_only_the_chosen_branch_counts() -> None:
    text = layer("input x: [D]\noutput x if short else linear(x, H)", "D, H, short")
    assert not model(text, {"short": True}).params
    assert len(model(text, {"short": False}).params) == 2


def test_an_unknown_layer_is_a_key_error() -> None:
    program = load_text(FORMS.replace("layer A", "layer Former"))
    with pytest.raises(KeyError, match="did you mean `Former`"):
        elaborate(program, "former")


def test_positional_options_and_their_count() -> None:
    cell = (
        "layer Cell(D, H, gain = 1):\n    input x: [D]\n    output gain * linear(x, H)"
    )
    assert model(layer("input x: [D]\nc = Cell(D, 3, 2)\noutput c(x)", "D", cell))
    for made, code in (
        ("Cell(D, 3, 2, 1)", "E0401"),
        ("Cell(D, 3, hidden = 3)", "E0402"),
        ("Cell(D, 3, H = 3)", "E0402"),
    ):
        text = layer(f"input x: [D]\nc = {made}\noutput c(x)", "D", cell)
        assert errors(text)[0].code == code
    needed = layer("input x: [D]\noutput Cell(x)", "D", cell)
    assert only_error(needed).code == "E0403"
    assert "`H`" in only_error(needed).message


@pytest.mark.parametrize(
    ("expr", "expected"),
    [
        ("N", "int"),
        ("t % N", "int"),
        ("(t + 1) // (2 * N - 1)", "int"),
        ("min(t, N - 1)", "int"),
        ("t / N", "float"),
        ("t * rate", "float"),
        ("N > 2", "bool"),
        ("rate > 2 and N == 3", "bool"),
        ("2 ** t", "float"),
        ("t ** 2", "int"),
        ("2 ** (-t)", "float"),
        ("floor(rate)", "int"),
        ("inf", "float"),
        ("true", "bool"),
    ],
)
def test_arithmetic_over_extents_is_whole(expr: str, expected: str) -> None:
    text = f"input x: [N]\ny = {expr}\noutput x * y"
    assert dtype(model(layer(text, "N, rate = 0.5")), "y") == expected


def test_options_in_the_place_of_a_dim_must_be_whole_numbers() -> None:
    text = "input x: [D]\noutput x[D = t % D] * rate * N"
    found = model(layer(text, "D, N, rate = 0.5"))
    integral = {o.name: o.integral for o in found.options}
    assert integral["D"]
    assert not integral["rate"]
    with pytest.raises(SpecError, match="E0503"):
        bind_sizes(found, {"D": 2.5, "N": 3})


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("output roll[D](x, 1.5)", "E0413"),
        ("output conv(x, width = 0)", "E0413"),
        ("output conv[D](x, width = 2)", "E0413"),
        ("output conv(x, width = 2, dilation = 0)", "E0413"),
        ("output top[D](x, 0)", "E0413"),
        ("output normal[D](0, 1, seed = 0.5) + x", "E0413"),
        ("output x[D = 3:2 as J]", "E0413"),
        ("output linear(x, 0)", "E0204"),
        ("output linear(x, 1.5)", "E0204"),
        ("output x * (1 / 0)", "E0217"),
        ("output x * 2 ** 5000", "E0217"),
        ("output x * log(0)", "E0217"),
        ('output conv[D](x, width = 3, pad = "mirror")', "E0411"),
        ('output linear(x, D, bias = "no")', "E0411"),
        ("output conv(x, width = x)", "E0406"),
    ],
)
def test_values_out_of_range(line: str, code: str) -> None:
    assert only_error(layer(f"input x: [D]\n{line}", "D")).code == code


def test_what_the_other_choice_needs_is_not_unused() -> None:
    text = layer(
        """
        input x: [D]
        dim F = 2 * D
        output linear(linear(x, F), D) / c if deep else x
        """,
        "D, c = 4, deep = false",
    )
    assert elaborate(load_text(text), "A").warnings == ()
    unused = text.replace(" / c", "")
    (warning,) = elaborate(load_text(unused), "A").warnings
    assert warning.code == "W0104"
