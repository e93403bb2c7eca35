"""Reasons, remedies and what is printed."""

from __future__ import annotations

import json

from verdicts import CELL, by_name, lines

GRU = """
layer GRU(D, H):
    input x: [D]
    state h: [H] = 0
    r = sigmoid(linear(x, H) + linear(h[t-1], H))
    z = sigmoid(linear(x, H) + linear(h[t-1], H))
    n = tanh(linear(x, H) + r * linear(h[t-1], H))
    h = (1 - z) * n + z * h[t-1]
    output h
"""
LSTM = """
layer LSTM(D, H):
    input x: [D]
    state c: [H] = 0
    state h: [H] = 0
    i = sigmoid(linear(x, H) + linear(h[t-1], H))
    f = sigmoid(linear(x, H) + linear(h[t-1], H))
    o = sigmoid(linear(x, H) + linear(h[t-1], H))
    g = tanh(linear(x, H) + linear(h[t-1], H))
    c = f * c[t-1] + i * g
    h = o * tanh(c)
    output h
"""
# ---- Reasons


def test_a_gru_is_told_which_lines_and_what_would_help() -> None:
    (found,) = by_name(GRU).values()
    assert [r.span.text.split("(")[0] for r in found.reasons if r.span] == [
        "sigmoid",
        "tanh",
    ]
    first = found.reasons[0]
    assert first.help[0] == (
        "this would scan (diagonal) if `z` and `n` did not read `h[t-1]`"
    )
    assert any("not affine in `h`" in label.text for label in first.labels)
    assert found.strategies == ("loop", "newton")


def test_an_lstm_would_scan_without_its_output_gate_feeding_back() -> None:
    (found,) = by_name(LSTM).values()
    assert (
        found.reasons[0].help[0] == "`c` would scan (diagonal) if nothing read `h[t-1]`"
    )
    assert {r.code for r in found.reasons} == {"E0301"}


def test_every_remedy_that_names_definitions_is_true() -> None:
    edited = GRU.replace(
        "z = sigmoid(linear(x, H) + linear(h[t-1], H))", "z = x"
    ).replace("n = tanh(linear(x, H) + r * linear(h[t-1], H))", "n = x")
    (found,) = by_name(
        edited.replace("layer GRU(D, H)", "layer GRU(H)").replace("[D]", "[H]")
    ).values()
    assert found.structure == "diagonal"


# ---- What is printed


def test_the_object_that_explain_prints() -> None:
    text = CELL.replace("sigmoid(linear(x, D))", "tanh(h[t-1])")
    (found,) = by_name(text).values()
    shown = json.loads(json.dumps(found.to_json()))
    (reason,) = shown.pop("reasons")
    assert shown == {
        "states": ["h"],
        "axis": "t",
        "direction": "forward",
        "verdict": "sequential",
        "structure": None,
        "rank": None,
        "semiring": None,
        "invariant": False,
        "streams": True,
        "commutes": False,
        "strategies": ["loop", "newton"],
    }
    assert reason.keys() == {
        "code",
        "file",
        "line",
        "column",
        "end_column",
        "message",
        "help",
    }
    assert (reason["line"], reason["column"], reason["end_column"]) == (5, 9, 21)


def test_one_line_each() -> None:
    assert lines(CELL) == [
        "h over t: scannable, diagonal (real), data-dependent: loop, scan, chunk"
    ]
    assert lines(GRU) == [
        "h over t: sequential, `h[t-1]` goes through sigmoid here: loop, newton"
    ]
