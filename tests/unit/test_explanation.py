"""What `explain` says beside the verdict: derivation, costs, numerical safety."""

from __future__ import annotations

import json

import pytest
from effort import calls
from verdicts import CELL

from seqdsl.analysis import Analyzed, Verdict, analyze
from seqdsl.analysis.costs import Costs, costs
from seqdsl.analysis.derivation import derivation
from seqdsl.analysis.formula import Formula, number, symbol
from seqdsl.analysis.note import Note
from seqdsl.analysis.safety import safety
from seqdsl.commands.explanation import (
    check_line,
    explain_verdict,
    full_json,
    known_sizes,
)
from seqdsl.commands.page import page
from seqdsl.elaborate import elaborate, elaborate_text, load_std, load_text
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import evaluate

GRU = """layer GRU(D, H):
    input x: [D]
    state h: [H] = 0
    r = sigmoid(linear(x, H) + linear(h[t-1], H))
    z = sigmoid(linear(x, H) + linear(h[t-1], H))
    n = tanh(linear(x, H) + r * linear(h[t-1], H))
    h = (1 - z) * n + z * h[t-1]
    output h
"""
DELTA = """layer Delta(D, heads, K, V, eps = 0.0):
    input x: [D]
    state S: [heads, K, V] = 0
    q = linear(x, [heads, K])
    k = l2norm[K](linear(x, [heads, K]))
    v = linear(x, [heads, V])
    a = sigmoid(linear(x, heads))
    e = v - dot[K](k, a * S[t-1])
    b = sigmoid(linear(x, heads))
    S = a * S[t-1] + b * k * e
    output dot[K](q, S)
"""
LINEAR = """layer Linear(D, heads, K, V):
    input x: [D]
    state S: [heads, K, V] = 0
    k = linear(x, [heads, K])
    a = {}
    S = a * S[t-1] + k * linear(x, [heads, V])
    output dot[K](linear(x, [heads, K]), S)
"""


def only(text: str) -> tuple[Analyzed, Verdict]:
    analyzed = analyze(elaborate_text(text))
    (verdict,) = analyzed.verdicts
    return analyzed, verdict


def costs_of(text: str) -> Costs:
    analyzed, verdict = only(text)
    return costs(analyzed.model, verdict)


def steps_of(text: str) -> list[tuple[str, str, int | None]]:
    analyzed, verdict = only(text)
    return [(s.lead, s.text, s.line) for s in derivation(analyzed.model, verdict)]


def notes_of(text: str, **known: int) -> list[Note]:
    analyzed, verdict = only(text)
    found = costs(analyzed.model, verdict)
    return list(safety(analyzed.model, verdict, found, known))


# ---- Formulas


def test_formulas_are_printed_as_a_person_would() -> None:
    t, k = symbol("T"), symbol("K")
    assert str(Formula()) == "0"
    assert str(number(3) * t * k * k) == "3*T*K**2"
    assert str(t * k * k + number(2) * t * k) == "T*K*(K + 2)"
    assert str(t / "C" + number(-1)) == "T/C - 1"
    assert (t * k * k + number(2) * t * k).order() == "O(T*K**2)"
    assert number(7).order() == Formula().order() == "O(1)"


def test_a_formula_is_also_arithmetic() -> None:
    formula = symbol("T") * symbol("log2(T)") * number(3) + symbol("K")
    assert evaluate(formula.size(), {"T": 8, "K": 5}) == pytest.approx(77)


# ---- Costs


def test_costs_of_an_elementwise_scan() -> None:
    found = costs_of(CELL)
    assert str(found.state) == "D"
    rows = {r.strategy: (str(r.work), str(r.depth)) for r in found.rows}
    assert rows["loop"] == ("2*T*B*D", "T")
    assert rows["scan"] == ("6*T*B*D", "2*log2(T)")


def test_costs_of_a_gated_cell() -> None:
    found = costs_of(GRU)
    (loop, _) = found.rows
    assert loop.work.order() == "O(T*B*H**2)"
    # three products with the state, ten additions and multiplications, four functions
    assert evaluate(loop.work.size(), {"T": 1, "B": 1, "H": 10}) == 600 + 140


def test_costs_of_a_delta_rule() -> None:
    rows = {r.strategy: r for r in costs_of(DELTA).rows}
    assert rows["loop"].work.order() == "O(T*B*heads*K*V)"
    assert rows["chunk"].work.order() == "O(T*B*heads*(C*K + C*V + K*V))"
    assert rows["scan"].work.order() == "O(T*B*heads*K**2*(K + V))"
    assert str(rows["chunk"].depth) == "T/C"


def test_a_state_read_two_steps_back_is_kept_twice() -> None:
    text = CELL.replace("+ x", "+ 0.5 * h[t-2] + x")
    assert str(costs_of(text).state) == "2*D"


def test_the_window_of_a_convolution_is_its_state() -> None:
    text = (
        "layer C(D):\n    input x: [D]\n    y = conv(x, width = 4)\n    output y + x\n"
    )
    found = costs_of(text)
    assert str(found.state) == "3*D"
    assert {str(r.work) for r in found.rows} == {"8*T*B*D"}


def test_check_shows_a_short_state() -> None:
    analyzed, verdict = only(CELL)
    assert check_line(analyzed, verdict).endswith(": loop, scan, chunk; state D")


# ---- Derivation


def test_a_derivation_puts_definitions_in_and_collects() -> None:
    assert steps_of(DELTA) == [
        ("update", "S = a * S[t-1] + b * k * e", 10),
        ("with", "e = v - dot[K](k, a * S[t-1])", 8),
        (
            "collect",
            "S = a * S[t-1] - k * a * b * dot[K](k, S[t-1]) + b * k * v",
            None,
        ),
        (
            "so",
            "the coefficient of S has no dim K, V: scalar along it, one for each heads",
            None,
        ),
        (
            "so",
            "K of S[t-1] is contracted with k and comes back with k: rank one",
            None,
        ),
        ("so", "the coefficients vary along t, but not with the state", None),
    ]


def test_a_sequential_one_lists_what_can_be_hoisted() -> None:
    hoisted = [(text, line) for lead, text, line in steps_of(GRU) if lead == "hoist"]
    assert sorted(hoisted, key=str) == [("linear(x, H)", n) for n in (4, 5, 6)]


def test_semirings_are_named() -> None:
    text = CELL.replace("sigmoid(linear(x, D)) * h[t-1] + x", "max(h[t-1] + x, 2 * x)")
    leads = steps_of(text)
    assert ("collect", "h = max(x + h[t-1], 2 * x)", None) in leads
    assert ("so", "a maximum of sums: + is the product", None) in leads


def test_clamps_are_shown_as_clamps() -> None:
    text = CELL.replace(
        "sigmoid(linear(x, D)) * h[t-1] + x", "min(max(h[t-1] + x, 0), 10)"
    )
    shown = [text for lead, text, _ in steps_of(text) if lead == "collect"]
    assert shown == ["h = min(max(h[t-1] + x, 0), 10)"]


# ---- Numerical safety


def test_a_gate_keeps_the_state_bounded() -> None:
    first = notes_of(CELL)[0]
    assert "lies in (0, 1)" in first.text and "always inside (-1, 1]" in first.text
    assert not first.warning


@pytest.mark.parametrize(
    ("gate", "warns", "says"),
    [
        ("sigmoid(linear(x, [heads, K]))", True, "sub-chunks of 16"),
        ("exp(-0.6 * sigmoid(linear(x, [heads, K])))", False, "e^38.4"),
        ("sigmoid(linear(x, heads))", False, "at most 1"),
        ("exp(linear(x, heads))", True, "can overflow float32"),
        ("tanh(linear(x, heads))", False, "no logarithm"),
    ],
)
def test_exponents_inside_a_chunk(gate: str, warns: bool, says: str) -> None:
    (note,) = (n for n in notes_of(LINEAR.format(gate)) if n.about == "chunk")
    assert (note.warning, says in note.text) == (warns, True), note
    assert note.span is not None and note.span.line == 5


def test_an_erase_shrinks_what_it_reads() -> None:
    (note,) = (n for n in notes_of(DELTA) if n.about == "low rank")
    assert "at most 1; k itself is multiplied by a number in (0, 1)" in note.text


def test_a_reflection_can_change_the_sign() -> None:
    text = DELTA.replace("b = sigmoid(", "b = 2 * sigmoid(")
    (note,) = (n for n in notes_of(text) if n.about == "low rank")
    assert "it can change sign" in note.text


def test_index_widths_for_given_sizes() -> None:
    known = {"heads": 4, "K": 64, "V": 64}
    (note,) = (n for n in notes_of(DELTA, **known) if n.about == "index")
    assert f"T*B = {2**31 // (4 * 64 * 64)}" in note.text


# ---- The whole


def test_json_and_text_say_the_same() -> None:
    analyzed, verdict = only(DELTA)
    found = json.loads(json.dumps(full_json(analyzed, verdict, {})))
    assert found["state_size"] == "heads*K*V"
    lines = explain_verdict(analyzed, verdict, {})
    text = "\n".join("".join(piece for piece, _ in line) for line in lines)
    assert all(row["work"] in text for row in found["costs"])
    assert all(step["text"].split()[0] in text for step in found["derivation"])


def test_sizes_of_sublayers_follow_from_those_given() -> None:
    text = DELTA + (
        "layer Top(D):\n    input x: [D]\n"
        "    output Delta(x, heads = 2, K = D, V = 2 * D)\n"
    )
    analyzed = analyze(elaborate_text(text))
    (inner,) = analyzed.inner
    sizes = known_sizes(analyzed, {"D": 8})[inner]
    assert (sizes["heads"], sizes["K"], sizes["V"]) == (2, 8, 16)
    assert known_sizes(analyzed, {})[inner].get("K") is None


@pytest.mark.parametrize("name", ["ttt", "slstm", "rwkv7", "gated_deltanet"])
def test_analysis_of_a_library_layer_is_little_work(name: str) -> None:
    program = load_std(name)
    model = elaborate(program, program.layers[-1]).model
    analyze(model)
    # A core makes some five million calls a second.
    assert calls(lambda: analyze(model)) < 250_000


def test_analysis_grows_linearly_with_the_number_of_recurrences() -> None:
    def model(count: int) -> ir.Model:
        body = "".join(
            f"    state h{i}: [D] = 0\n"
            f"    h{i} = tanh(linear({f'h{i - 1}' if i else 'x'} + h{i}[t-1], D))\n"
            for i in range(count)
        )
        text = f"layer Deep(D):\n    input x: [D]\n{body}    output h{count - 1}\n"
        return elaborate_text(text)

    few, many = model(12), model(48)
    analyze(few)
    assert calls(lambda: analyze(many)) < 4.5 * calls(lambda: analyze(few))


def test_the_page_of_a_layer() -> None:
    text = """
# What is kept decays.
layer Kept(D):
    input x: [D]
    state h: [D] = 0
    h = sigmoid(x) * h[t-1] + x
    output h

layer Other(D):
    input x: [D]
    state h: [D] = 0
    h = tanh(h[t-1] + x)
    output Kept(h)
"""
    program = load_text(text)
    model = elaborate(program, "Other").model
    made = page(model, analyze(model), {})
    assert made.startswith("# Other\n") and "# What is kept" not in made
    assert "layer Other(D):" in made and "layer Kept" not in made
    assert "## h over t\n" in made and "## h over t in out\n" in made
    assert "| `scan` | `2*log2(T)` |" in made
    assert "E0301" in made and "lies in (0, 1)" in made
    assert made.count("```") % 2 == 0
