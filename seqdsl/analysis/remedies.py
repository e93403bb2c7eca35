"""The smallest edits that would make a recurrence affine, each tried before it is told."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from seqdsl.analysis.normal import Normal
from seqdsl.analysis.reasons import culprits, reads_in, text_of
from seqdsl.analysis.structure import structure_of
from seqdsl.ir import nodes as ir

Attempt = Callable[[Iterable[str], Iterable[ir.Node]], Normal]
"""A fresh normal form, with some definitions and some nodes taken as state-free."""


def remedies(
    attempt: Attempt, normal: Normal, states: tuple[str, ...]
) -> tuple[str, ...]:
    """What to change, one sentence an edit."""
    between = [
        n
        for n in normal.model.equation
        if n in normal.members and n not in states and normal.model.equation[n].written
    ]
    dropped = _smallest(attempt, between, states)
    if dropped:
        reads = _reads(normal, [normal.model.equation[n].expr for n in dropped])
        after = _outcome(attempt(dropped, ()), states)
        if after:
            return (f"{after} if {_list(dropped)} did not read {reads}",)
    nodes = culprits(normal, states)
    if nodes and _affine(attempt((), nodes), states):
        after = _outcome(attempt((), nodes), states)
        shown = _list([text_of(n) for n in nodes][:4])
        if after:
            return (f"{after} if {shown} did not read {_reads(normal, nodes)}",)
    return ()


def _smallest(attempt: Attempt, names: list[str], states: tuple[str, ...]) -> list[str]:
    """Names none of which can be left out, such that without them all is affine."""
    if not names or not _affine(attempt(names, ()), states):
        return []
    kept = list(names)
    for name in reversed(names):
        fewer = [n for n in kept if n != name]
        if fewer and _affine(attempt(fewer, ()), states):
            kept = fewer
    return kept


def _affine(normal: Normal, states: tuple[str, ...]) -> bool:
    return not any(normal.bad(normal.value(s)) for s in states)


def _outcome(normal: Normal, states: tuple[str, ...]) -> str:
    shapes = {s: normal.model.equation[s].expr.type.dims for s in states}
    found = structure_of(normal, shapes, {s: normal.value(s) for s in states})
    if found.structure is None:
        return ""
    return f"this would scan ({found.structure.replace('_', ' ')})"


def _reads(normal: Normal, nodes: Iterable[ir.Node]) -> str:
    found = [text for n in nodes for text in reads_in(normal, n)]
    return _list(list(dict.fromkeys(found))) or "the state"


def _list(names: list[str]) -> str:
    quoted = [f"`{n}`" for n in names]
    if len(quoted) < 2:
        return "".join(quoted)
    return f"{', '.join(quoted[:-1])} and {quoted[-1]}"
