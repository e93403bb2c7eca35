"""Calls of layers, defs and externs: arguments, outputs, instances, extra dims."""

from __future__ import annotations

import pytest
from elaborating import errors, layer, model, only_error, shape

from seqdsl.diagnostics import SpecError
from seqdsl.elaborate import elaborate_text
from seqdsl.ir.bind import bind_sizes

PAIR = """
layer Pair(D, gain = 1):
    input u: [D]
    input v: [D]
    output first = linear(u, D) * gain
    output second = u - v
"""
SWITCH = "layer Switch(D):\n    input on: bool [D]\n    output float(on)\n"
NORM = """
layer Norm[K](eps = 1e-6):
    input x: [..., K]
    param weight: [K] = 1
    output x * rsqrt(sum[K](x * x) + eps) * weight
"""


@pytest.mark.parametrize(
    "call",
    [
        "Pair(x, y)",
        "Pair(x, v = y)",
        "Pair(u = x, v = y)",
        "Pair(v = y, u = x, gain = 2)",
        "Pair(D)(x, y)",
        "Pair(D, 2)(x, v = y)",
        "Pair(gain = 3, D = D)(u = x, v = y)",
    ],
)
def test_ways_to_give_inputs_and_options(call: str) -> None:
    text = f"input x: [D]\ninput y: [D]\na, b = {call}\noutput a + b"
    found = model(layer(text, "D", PAIR))
    (site,) = found.calls
    assert [name for name, _ in site.args] == ["u", "v"]
    assert dict(bind_sizes(found, {"D": 3}).dims) == {"D": 3}


@pytest.mark.parametrize(
    ("call", "code"),
    [
        ("Pair(x)", "E0401"),
        ("Pair(x, x, x)", "E0401"),
        ("Pair(x, x, u = x)", "E0402"),
        ("Pair(x, x, gian = 2)", "E0402"),
        ("Pair[D](x, x)", "E0405"),
        ("Pair(x, t)", "E0407"),
        ("Pair(x, complex(x, x))", "E0407"),
        ("Switch(x)", "E0407"),
        ("Pair(x, m)", "E0407"),
        ("Pair(x, x).third", "E0410"),
        ("Pair(x, x)", "E0409"),
        ("Pair(D)", "E0408"),
        ("Pair(D, 1, 2)(x, x)", "E0401"),
        ("Pair(x)(x, x)", "E0406"),
        ("Norm(x)", "E0404"),
        ("Norm[D, H](x)", "E0404"),
        ("Norm[x](x)", "E0107"),
        ("x.first", "E0408"),
        ("pair(x, x, gain = 2).first", "E0402"),
        ("pair[D](x, x).first", "E0405"),
        ("Pair(x, sum[s <= t](x[s]) * (s >= 0)).first", "E0424"),
    ],
)
def test_wrong_calls(call: str, code: str) -> None:
    text = f"input x: [D]\ninput m: [D, H]\npair = Pair(D)\noutput {call} * 1"
    found = errors(layer(text, "D, H", PAIR, NORM, SWITCH))
    assert [d.code for d in found] == [code], [d.short for d in found]


def test_outputs_by_name_and_all_at_once() -> None:
    text = """
        input x: [D]
        both = Pair(x, 2 * x)
        a, b = Pair(x, x)
        output both.first + both.second
        output a - b
        output c = Pair(x, x).second
    """.replace("output a - b", "output ab = a - b")
    found = model(layer(text, "D", PAIR))
    assert [o.name for o in found.outputs] == ["out", "ab", "c"]
    wrong = "input x: [D]\na, b, c = Pair(x, x)\noutput a + b + c"
    assert only_error(layer(wrong, "D", PAIR)).code == "E0409"


def test_one_instance_at_two_call_sites_shares_its_parameters() -> None:
    text = """
        input x: [D]
        shared = Pair(D)
        a = shared(x, x)
        b = shared(a.first, x)
        c = Pair(x, x)
        output a.second + b.first + c.first
    """
    found = model(layer(text, "D", PAIR))
    assert len(found.instances) == 2
    assert len(found.calls) == 3
    assert {c.instance for c in found.calls} == {"shared", "c"}


def test_an_instance_serves_one_shape() -> None:
    text = """
        input x: [D]
        input h: [H]
        n = Norms(eps = 1e-3)
        output n(x)
        output m = n(x * h)
    """
    rows = "layer Norms(eps = 1e-6):\n    input x: [..., 3]\n    output x * eps"
    found = errors(layer(text, "D, H", rows))
    assert [d.code for d in found] == ["E0408"]


@pytest.mark.parametrize(
    ("argument", "dims"),
    [("x", ("D",)), ("x * h", ("D", "H")), ("h * (x * x.(D -> E))", ("H", "D", "E"))],
)
def test_dims_that_a_layer_does_not_touch(argument: str, dims: tuple[str, ...]) -> None:
    text = f"input x: [D]\ninput h: [H]\ndim E = D\noutput Norm[D]({argument})"
    found = model(layer(text, "D, H", NORM))
    assert shape(found, "out") == dims
    (instance,) = found.instances
    assert [p.type.dims for p in instance.model.params] == [("K",)]


def test_callees_dims_go_by_the_callers_names() -> None:
    turn = "layer Turn(A, B):\n    input m: [A, B]\n    output m.(A -> C, B -> A)\n"
    turn += "    dim C = A\n"
    text = "input m: [D, H]\noutput Turn(m)"
    found = errors(layer(text, "D, H", turn), {"D": 2, "H": 3})
    assert found
    swap = "layer Swap(A, B):\n    input m: [A, B]\n    output dot[A](m, linear(m, A))"
    assert shape(model(layer("input m: [D, H]\noutput Swap(m)", "D, H", swap)), "out")


def test_a_dim_of_the_callees_result_gets_a_name() -> None:
    widen = "layer Widen(D, W = 2 * D):\n    input x: [D]\n    output linear(x, W)"
    text = "input x: [D]\ny = Widen(x)\nz = Widen(x, W = 3)\noutput sum[W](y)\noutput z"
    found = model(layer(text, "D", widen))
    extents = bind_sizes(found, {"D": 4}).dims
    assert sorted(extents.values()) == [3, 4, 8]
    assert shape(found, "out") == ()


def test_values_per_batch_and_per_call() -> None:
    slow = (
        "layer Slow(D):\n    input x: [D]\n    input c: [D] per batch\n    output x + c"
    )
    text = "input x: [D]\ninput c: [D] per batch\ninput n: int per call\noutput "
    assert model(layer(text + "Slow(x, c)", "D", slow))
    assert only_error(layer(text + "Slow(x, x)", "D", slow)).code == "E0412"
    steps = (
        "layer Steps(D):\n    input x: [D]\n    input n: int per call\n    output x * n"
    )
    assert model(layer(text + "Steps(x, n)", "D", steps))
    assert only_error(layer(text + "Steps(x, int(x[D = 0]))", "D", steps)).code == (
        "E0412"
    )


def test_a_layer_made_in_a_repeat_is_one_per_step() -> None:
    text = """
        input x: [D]
        shared = Pair(D)
        repeat l in 3:
            state h: [D] = x
            own = Pair(D)
            h = own(h[l-1], shared(h[l-1], x).first).first
        output h[l = 3]
    """
    found = model(layer(text, "D", PAIR))
    assert {i.name: i.scope for i in found.instances} == {
        "shared": (),
        "l.{l}.own": ("l",),
    }
    outside = text.replace("output h[l = 3]", "output own(x, x).first")
    assert only_error(layer(outside, "D", PAIR)).code == "E0120"


def test_parameters_need_a_count_that_is_known() -> None:
    text = """
        input x: [D]
        input steps: int per call
        repeat l in steps:
            state h: [D] = x
            h = tanh({})
        output h[l = steps]
    """
    assert model(layer(text.format("h[l-1] + 1"), "D"))
    for call in ("linear(h[l-1], D)", "Pair(h[l-1], x).first", "param([D]) * h[l-1]"):
        found = only_error(layer(text.format(call), "D", PAIR))
        assert found.code == "E0427"


def test_results_of_a_repeat_by_member_and_step() -> None:
    text = """
        input x: [D]
        repeat l in 2:
            state h: [D] = x
            own = Pair(h[l-1], x)
            h = own.first
        output own.second[l = 1]
        output all = stack[l as M](own.first)
    """
    assert shape(model(layer(text, "D", PAIR)), "all") == ("M", "D")
    bare = text.replace("own.second[l = 1]", "own[l = 1]")
    assert only_error(layer(bare, "D", PAIR)).code == "E0409"


def test_defs_fit_their_arguments_by_name_then_from_the_right() -> None:
    score = "def score(q: [K], k: [K]):\n    dot[K](q, k) / sqrt(K)"
    text = "input q: [heads, E]\ninput k: [heads, E]\noutput score(q, k)"
    assert shape(model(layer(text, "heads, E", score)), "out") == ("heads",)
    bad = "input q: [E]\ninput k: []\noutput score(q, k)"
    assert only_error(layer(bad, "E", score)).code == "E0407"
    for call, code in (
        ("score(q)", "E0401"),
        ("score(q, k, q)", "E0401"),
        ("score(q, k, v = q)", "E0402"),
        ("score[E](q, k)", "E0405"),
    ):
        wrong = f"input q: [E]\ninput k: [E]\noutput {call}"
        assert only_error(layer(wrong, "E", score)).code == code


def test_a_def_may_declare_dtypes() -> None:
    pick = "def pick(x: [K], i: int):\n    x[K = i]"
    text = "input x: [D]\ninput k: int\noutput pick(x, {})"
    assert model(layer(text.format("k"), "D", pick))
    assert model(layer(text.format("k > 0"), "D", pick.replace("K = i", "K = int(i)")))
    assert only_error(layer(text.format("k / 2"), "D", pick)).code == "E0407"


def test_a_def_holds_equations_only() -> None:
    stateful = "def f(x):\n    state h: [] = 0\n    x"
    assert only_error(layer("input x: [D]\noutput f(x)", "D", stateful)).code == "E0117"
    empty = "def f(x):\n    y = x"
    assert only_error(layer("input x: [D]\noutput f(x)", "D", empty)).code == "E0118"


def test_an_argument_of_a_def_is_evaluated_once() -> None:
    twice = "def twice(a):\n    a * a"
    text = "input x: [D]\noutput twice(linear(x, D)) + twice(x)"
    found = model(layer(text, "D", twice))
    assert len(found.params) == 2


def test_externs_declare_what_they_take_and_give() -> None:
    extern = "extern sim(state_: [N], steps: int) -> [N, 2]\n"
    text = "input x: [D]\ninput n: int\noutput sim({})"
    found = model(layer(text.format("x, n"), "D", extern))
    assert shape(found, "out") == ("D", "2")
    (signature,) = found.externs
    assert [name for name, _ in signature.args] == ["state_", "steps"]
    for args, code in (
        ("x", "E0401"),
        ("n, n", "E0407"),
        ("x, 0.5", "E0407"),
        ("x, n, k = 1", "E0402"),
    ):
        assert only_error(layer(text.format(args), "D", extern)).code == code


def test_sizes_of_a_sub_layer_are_checked_with_the_callers() -> None:
    fixed = "layer Fixed():\n    input x: [4]\n    output 2 * x"
    found = model(layer("input x: [D]\noutput Fixed(x)", "D", fixed))
    assert bind_sizes(found, {"D": 4})
    with pytest.raises(SpecError, match="E0504"):
        bind_sizes(found, {"D": 5})


def test_an_extra_dim_may_have_the_name_of_the_callees_own() -> None:
    body = "input x: [K, D]\noutput rmsnorm[K](x)"
    text = "import std.prelude: rmsnorm\nlayer Outer(D = 2, K = 3):\n"
    text += "".join(f"    {line}\n" for line in body.splitlines())
    assert bind_sizes(elaborate_text(text), {}).dims["K"] == 3
