"""Dims: broadcasting by name, second names, splits, merges, slices, and dtypes."""

from __future__ import annotations

import pytest
from elaborating import dtype, errors, layer, model, only_error, shape

from seqdsl.diagnostics import SpecError
from seqdsl.elaborate import elaborate_text
from seqdsl.ir.bind import bind_sizes
from seqdsl.ir.types import BATCH, TIME

INPUTS = """
input x: [D]
input h: [H]
input m: [D, H]
input k: int
input b: bool [D]
input z: complex [D]
"""


def made(expr: str, *lines: str) -> tuple[tuple[str, ...], str]:
    """Shape and dtype of an expression over the usual inputs."""
    text = "\n".join([INPUTS.strip(), *lines, f"y = {expr}", "output y"])
    found = model(layer(text, "D, H"))
    return shape(found, "y"), dtype(found, "y")


@pytest.mark.parametrize(
    ("expr", "dims", "kind"),
    [
        # broadcasting: only `*` forms an outer product
        ("x * h", ("D", "H"), "float"),
        ("h * x", ("H", "D"), "float"),
        ("m + x", ("D", "H"), "float"),
        ("x + m", ("D", "H"), "float"),
        ("m * h + x", ("D", "H"), "float"),
        ("where(b, m, 0)", ("D", "H"), "float"),
        ("where(b, x, m)", ("D", "H"), "float"),
        ("x < m", ("D", "H"), "bool"),
        ("max(x, m, 1)", ("D", "H"), "float"),
        # index values say their dims themselves
        ("index[D] - index[H]", ("D", "H"), "int"),
        ("index[D] == index[H]", ("D", "H"), "bool"),
        ("(2 * index[D] + 1) / (index[H] + 1)", ("D", "H"), "float"),
        # dtypes
        ("b + k", ("D",), "int"),
        ("b * x", ("D",), "float"),
        ("k + 1", (), "int"),
        ("k / 2", (), "float"),
        ("k // 2", (), "int"),
        ("x + z", ("D",), "complex"),
        ("abs(z)", ("D",), "float"),
        ("conj(z) * z", ("D",), "complex"),
        ("float(b)", ("D",), "float"),
        ("b and not b", ("D",), "bool"),
        ("0 < x < 1", ("D",), "bool"),
        ("exp(k)", (), "float"),
        # reductions and what runs along dims
        ("sum[D](m)", ("H",), "float"),
        ("sum[D, H](m)", (), "float"),
        ("sum[D](b)", (), "int"),
        ("argmax[H](m)", ("D",), "int"),
        ("any[D](b)", (), "bool"),
        ("softmax[H](m)", ("D", "H"), "float"),
        ("dot[D](x, m)", ("H",), "float"),
        ("dot[D](x, m, b)", ("H",), "float"),
        ("dot[D, H](x, m, h)", (), "float"),
        # re-indexing
        ("x[D = 0]", (), "float"),
        ("m[D = k]", ("H",), "float"),
        ("m[D = index[H] % 2]", ("H",), "float"),
        ("m.(D -> J, H -> D, J -> H)", (), ""),
        ("stack[P](x, x, x)", ("P", "D"), "float"),
        ("concat[D as P](x, x)", ("P",), "float"),
        ("onehot[D](k)", ("D",), "float"),
        ("gather[D](m, int(h))", ("H",), "float"),
        ("roll[D](m, 1)", ("D", "H"), "float"),
        ("linear(m, 3)", ("3",), "float"),
        ("linear[D](m, 3)", ("3", "H"), "float"),
        ("linear(x, D)", ("D",), "float"),
        ("linear(h, [D, 2])", ("D", "2"), "float"),
        ("embed(k, 7, [D, H])", ("D", "H"), "float"),
        ("conv[D](m, width = 3)", ("D", "H"), "float"),
        ("conv(m, 5, width = 2)", ("5",), "float"),
        ("conv(m, 5, width = 2, sum = D)", ("5", "H"), "float"),
    ],
)
def test_types_of_expressions(expr: str, dims: tuple[str, ...], kind: str) -> None:
    if not kind:
        with pytest.raises(SpecError):
            made(expr)
        return
    found, got = made(expr)
    assert (set(found), got) == (set(dims), kind)
    assert len(found) == len(dims)


@pytest.mark.parametrize(
    ("expr", "code"),
    [
        ("x + h", "E0201"),
        ("x < h", "E0201"),
        ("max(x, h)", "E0201"),
        ("where(b, h, 0)", "E0201"),
        ("x + index[H]", "E0201"),
        ("x ** h", "E0201"),
        ("sum[H](x)", "E0202"),
        ("dot[H](x, x)", "E0202"),
        ("x[H = 0]", "E0202"),
        ("x.(H -> D)", "E0202"),
        ("linear[H](x, 3)", "E0202"),
        ("conv[H](x, width = 3)", "E0202"),
        ("sum[D, D](m)", "E0203"),
        ("x * x.(D -> H)", "E0208"),
        ("conv[D, D](m, width = 3)", "E0203"),
        ("conv[D](m, D, width = 3)", "E0203"),
        ("linear(x, [H, H])", "E0203"),
        ("x and b", "E0211"),
        ("not x", "E0211"),
        ("sigmoid(z)", "E0211"),
        ("z < z", "E0211"),
        ("max[D](z)", "E0211"),
        ("linear(b, 3)", "E0211"),
        ("argmax[D, H](m)", "E0212"),
        ("cumsum[D, x > 0](x)", "E0213"),
        ("dot[D, x > 0](x, x)", "E0213"),
        ("x[D = 0.5]", "E0214"),
        ("x[D = x]", "E0214"),
        ("onehot[D](x)", "E0214"),
        ("m[D = x[D = 0]]", "E0214"),
        ("where(x, x, x)", "E0210"),
        ("sum[D, x](x)", "E0210"),
        ("sum[x > 0](x)", "E0404"),
        ("sum(h0)", "E0101"),
        ("softmax(x)", "E0404"),
        ("concat[D](x, m)", ""),
        ("concat[D as P](x, h)", "E0202"),
        ("stack[P](x, m, h)", ""),
        ("linear(x, D + 1)", "E0204"),
        ("stack[P](x, h)", "E0201"),
        ("x.([D, H] -> P)", "E0207"),
    ],
)
def test_what_does_not_fit(expr: str, code: str) -> None:
    if expr == "x * x.(D -> H)":
        text = "\n".join([INPUTS.strip(), f"y = {expr}", "output y"])
        found = errors(layer(text, "D, H"), {"D": 3, "H": 4})
        assert [d.code for d in found] == [code]
        return
    text = "\n".join([INPUTS.strip(), f"y = {expr}", "output y"])
    if not code:
        assert model(layer(text, "D, H"))
        return
    found = errors(layer(text, "D, H"))
    assert [d.code for d in found] == [code]


def test_the_rename_is_suggested_with_the_dims_at_hand() -> None:
    found = errors(layer("input x: [D]\ninput h: [H]\noutput x + h", "D, H"))[0]
    assert "….(D -> H)" in found.help[0]
    assert found.help[1] == "only `*` may form an outer product"


def test_second_names_splits_and_merges() -> None:
    text = """
        input x: [D]
        dim J = D
        dim heads = 2
        dim K = D / heads
        outer = x * x.(D -> J)
        cut = x.(D -> [heads, K])
        back = cut.([heads, K] -> D)
        turned = cut.([K, heads] -> D)
        both = outer.(D -> J, J -> D)
        output both
        output back + turned
    """
    found = model(layer(text, "D"))
    assert shape(found, "outer") == ("D", "J")
    assert shape(found, "cut") == ("heads", "K")
    assert shape(found, "back") == shape(found, "turned") == ("D",)
    assert shape(found, "both") == ("J", "D")
    assert dict(bind_sizes(found, {"D": 6}).dims)["K"] == 3
    with pytest.raises(SpecError):
        bind_sizes(found, {"D": 5})


def test_splits_that_cannot_fit_are_refused_when_sizes_are_known() -> None:
    text = "input x: [D]\ndim a = 2\ndim b = 3\noutput x.(D -> [a, b])"
    assert model(layer(text, "D"))
    assert only_error(layer(text, "D"), {"D": 7}).code == "E0208"
    with pytest.raises(SpecError, match="E0504"):
        bind_sizes(model(layer(text, "D")), {"D": 7})


@pytest.mark.parametrize(
    ("part", "extent"),
    [("0:4", 4), ("2:D", 8), ("0:D:2", 5), ("1:8:3", 3), (":5", 5), ("D - 3:", 3)],
)
def test_extents_of_slices(part: str, extent: int) -> None:
    found = model(layer(f"input x: [D]\noutput y = x[D = {part} as J]", "D"))
    assert bind_sizes(found, {"D": 10}).dims["J"] == extent


def test_numbers_are_dims() -> None:
    text = "input x: [3, D]\noutput sum[3](x) + linear(x, [3, D])[3 as Q = 0]"
    assert errors(layer(text, "D"))
    text = "input x: [3, D]\noutput sum[3](x * linear(x, [3, D]))"
    found = model(layer(text, "D"))
    assert shape(found, "out") == ("D",)
    assert bind_sizes(found, {"D": 2}).dims["3"] == 3


def test_a_dim_may_be_named_below_its_use_and_must_agree() -> None:
    text = "input x: [D]\noutput sum[J](y)\ny = x[D = 0:3 as J]\nz = x[D = 1:{} as J]"
    assert model(layer(text.format(4), "D"))
    clash = model(layer(text.format(6) + "\noutput o = sum[J](z)", "D"))
    with pytest.raises(SpecError, match="already has another extent"):
        bind_sizes(clash, {"D": 8})


def test_annotations_are_checked() -> None:
    for line, fits in (
        ("y: [D] = x", True),
        ("y: complex [D] = x", True),
        ("y: [H, D] = x * h", True),
        ("y: [H] = x", False),
        ("y: int [D] = x", False),
        ("y: [] = sum[D](x)", True),
    ):
        text = layer(f"input x: [D]\ninput h: [H]\n{line}\noutput y", "D, H")
        if fits:
            assert model(text)
        else:
            assert only_error(text).code == "E0205"


def test_updates_and_initial_values_must_fit_their_state() -> None:
    for line, code in (
        ("state s: [D] = 0\ns = s[t-1] * h", "E0206"),
        ("state s: int [D] = 0\ns = s[t-1] + x", "E0206"),
        ("state s: [D] = h\ns = s[t-1] + x", "E0209"),
        ("state s: int = 0.5\ns = s[t-1] + 1", "E0209"),
        ("state s: [D] = x\ns = s[t-1] + x", "E0430"),
        ("state s: [D] = 0\ns = s[t-1] + s[t+1]", "E0429"),
    ):
        text = layer(f"input x: [D]\ninput h: [H]\n{line}\noutput s", "D, H")
        assert only_error(text).code == code


def test_a_state_over_the_steps_of_a_repeat_together_varies_along_time_only() -> None:
    made = elaborate_text(
        "layer L(D, N = 2):\n    input x: [D]\n    w = param([D], normal(0, 0.5))\n"
        "    repeat n in N:\n        r = tanh(linear(w, D))\n"
        "    state h: [D] = 0\n"
        "    h = 0.7 * h[t-1] + mean[M](stack[n as M](r)) * x\n    output h\n"
    )
    assert made.state["h"].type.axes == {BATCH, TIME}
