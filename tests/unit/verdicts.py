"""Verdicts of a text, in the forms that tests compare."""

from __future__ import annotations

from seqdsl.analysis import Verdict, analyze, one_line
from seqdsl.elaborate import elaborate_text


def lines(text: str) -> list[str]:
    """One line per verdict."""
    return [one_line(v) for v in analyze(elaborate_text(text)).verdicts]


def by_name(text: str) -> dict[tuple[str, ...], Verdict]:
    return {
        (v.recurrence.layer, *v.recurrence.states, v.recurrence.axis): v
        for v in analyze(elaborate_text(text)).verdicts
    }


CELL = """
layer Cell(D):
    input x: [D]
    state h: [D] = 0
    h = sigmoid(linear(x, D)) * h[t-1] + x
    output h
"""
