"""Verdicts on recurrences that are no scan: why, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from seqdsl.analysis.graph import Edge, circles
from seqdsl.analysis.normal import Normal
from seqdsl.analysis.reasons import explain
from seqdsl.analysis.remedies import Attempts, remedies
from seqdsl.analysis.verdict import Recurrence, Strategy, Verdict
from seqdsl.diagnostics import Diagnostic
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import TIME


def nonlinear(
    recurrence: Recurrence, inside: tuple[Edge, ...], normal: Normal
) -> Verdict:
    """The verdict on updates that are not affine in any semiring, with its reasons."""
    model, states = normal.model, recurrence.states

    def frozen(nodes: Iterable[ir.Node]) -> Normal:
        members, current = recurrence.members, normal.current
        return Normal(model, normal.axis, members, inside, nodes, current=current)

    def without(drop: Callable[[Edge], bool]) -> list[tuple[Recurrence, Normal]]:
        edges = tuple(e for e in inside if not drop(e))
        left = circles(model, edges, recurrence.axis)
        return [
            (r, Normal(model, r.axis, r.members, e, current=normal.current))
            for r, e in left
        ]

    found = remedies(Attempts(frozen, without), normal, states)
    reasons, shown = explain(normal, states, found)
    smooth = all(model.equation[s].expr.type.dtype == "float" for s in states)
    codes = {r.code for r in reasons}
    newton = smooth and recurrence.axis == TIME and codes <= _SMOOTH
    if newton and shown:
        first = replace(shown[0], help=(*shown[0].help, _NEWTON))
        shown = (first, *shown[1:])
    verdict = sequential(recurrence, reasons, ("newton",) if newton else ())
    return replace(verdict, reasons=shown)


_NEWTON = "ask for `newton`, which finds all steps at once by iteration"
_SMOOTH = {"E0301", "E0302", "E0303", "E0304", "E0305"}


def sequential(
    recurrence: Recurrence,
    reasons: tuple[Diagnostic, ...],
    more: tuple[Strategy, ...],
) -> Verdict:
    """A loop for the reasons given, and `more` ways to run it."""
    codes = {r.code for r in reasons}
    if "E0310" in codes:
        return Verdict(recurrence, "opaque", reasons=reasons)
    opaque = bool(codes) and codes <= {"E0307"}
    return Verdict(
        recurrence,
        "opaque" if opaque else "sequential",
        strategies=("loop", *more),
        reasons=reasons,
    )
