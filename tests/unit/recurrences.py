"""What labelled recurrences are written in, and how their verdicts are labelled."""

from __future__ import annotations

from seqdsl.analysis import Verdict, analyze
from seqdsl.analysis.verdict import monoid_name
from seqdsl.elaborate import elaborate_text
from seqdsl.ir.sizes import Scalar
from seqdsl.testing.normal_forms import check_normal_forms

SIZES: dict[str, Scalar] = {"D": 4, "heads": 2, "K": 3, "V": 2, "N": 2}

HEADER = """
layer L(D, heads, K, V, N):
    input x: [D]
    input f: [D]
    input g: [D]
    input a: []
    input b: []
    input r: [heads]
    input k: [K]
    input k2: [K]
    input q: [K]
    input v: [V]
    input w: [V]
    input kh: [heads, K]
    input qh: [heads, K]
    input gh: [heads, K]
    input vh: [heads, V]
    input i: int
    input on: bool
    input keep: bool [D]
    dim J = D
    dim Q = K
    param U: [D, J]
"""
EXTERN = "extern black(h: [D]) -> [D]\n"

H = "state h: [D] = 0"
S = "state S: [K, V] = 0"
SH = "state S: [heads, K, V] = 0"


def verdicts(body: str) -> dict[str, Verdict]:
    """The verdicts of a layer with the given lines, by the states joined.

    The normal form of all that is affine is compared with the update itself.
    """
    lines = [f"    {line}" for line in body.strip().splitlines()]
    text = EXTERN + HEADER + "\n".join(lines) + "\n"
    analyzed = analyze(elaborate_text(text))
    if "black" not in body:
        check_normal_forms(analyzed, SIZES)
    return {",".join(v.recurrence.states): v for v in analyzed.verdicts}


def only(*lines: str) -> Verdict:
    body = "\n".join(lines)
    last = body.strip().splitlines()[-1]
    output = "" if "output" in body else f"\noutput {last.strip().split(' ')[0]}"
    (found,) = (
        v for v in verdicts(body + output).values() if v.verdict not in ("fir", "none")
    )
    return found


def label(found: Verdict) -> str:
    """`diagonal`, `scalar_plus_low_rank 1`, `dense log`, `sequential E0301`, …"""
    if found.structure is None:
        codes = sorted({r.code for r in found.reasons})
        return " ".join([found.verdict, *codes])
    words = [found.structure]
    if found.rank is not None:
        words.append(str(found.rank))
    elif found.rank_size is not None:
        words.append(str(found.rank_size))
    if found.semiring not in ("real", None):
        words.append(found.semiring)
    name = monoid_name(found.monoid)
    if name:
        words.append(name)
    if found.invariant:
        words.append("invariant")
    return " ".join(words)


Row = tuple[str, tuple[str, ...]]
"""A label, and the lines of a layer."""


def ids(rows: list[Row]) -> list[str]:
    """The last line of each, to name the tests."""
    return [lines[-1] for _, lines in rows]
