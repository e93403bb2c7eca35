"""The labelled recurrences under tests/language/verdicts: each is told apart."""

from __future__ import annotations

from pathlib import Path

import pytest
from recurrences import Row, label, only

from seqdsl.analysis import Verdict, analyze
from seqdsl.analysis.verdict import monoid_name
from seqdsl.elaborate import elaborate_text
from seqdsl.ir.sizes import Scalar
from seqdsl.testing.normal_forms import check_normal_forms

FOLDER = Path(__file__).parents[1] / "language" / "verdicts"
ALGORITHMS = "algorithms"
SIZES: dict[str, Scalar] = {"D": 4, "K": 3, "V": 2, "heads": 2}
HEADER = """
layer L(D, K, V, heads):
    input x: [D]
    input f: [D]
    input s: []
    input v: [V]
    input k: [K]
    input g: []
    input on: bool
"""


def rows(name: str) -> list[Row]:
    """The blocks of a file: a line with the label, then the lines of a layer."""
    text = (FOLDER / f"{name}.txt").read_text("utf-8")
    found: list[Row] = []
    for block in text.split("\n\n"):
        head, *body = block.strip("\n").splitlines() or [""]
        if head and not head.startswith("#"):
            found.append((head, tuple(line[4:] for line in body)))
    return found


NAMES = sorted(p.stem for p in FOLDER.glob("*.txt"))
ROWS = [(n, *row) for n in NAMES if n != ALGORITHMS for row in rows(n)]


@pytest.mark.parametrize(
    ("name", "expected", "lines"), ROWS, ids=[f"{n}: {b[-1]}" for n, _, b in ROWS]
)
def test_recurrence(name: str, expected: str, lines: tuple[str, ...]) -> None:
    assert label(only(*lines)) == expected


@pytest.mark.parametrize(
    ("title", "lines"), rows(ALGORITHMS), ids=[t for t, _ in rows(ALGORITHMS)]
)
def test_algorithm(title: str, lines: tuple[str, ...]) -> None:
    text = HEADER + "".join(f"    {line}\n" for line in lines)
    analyzed = analyze(elaborate_text(text))
    check_normal_forms(analyzed, SIZES)
    found = [_kind(v) for v in analyzed.verdicts if v.verdict not in ("fir", "none")]
    assert found == title.partition(": ")[2].split(", ")


def _kind(verdict: Verdict) -> str:
    return verdict.semiring or monoid_name(verdict.monoid) or verdict.verdict


def test_there_are_enough() -> None:
    assert len(ROWS) + len(rows(ALGORITHMS)) >= 300
    sequential = [e for _, e, _ in ROWS if e.startswith("sequential")]
    assert len(sequential) >= 80
