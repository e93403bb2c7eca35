"""The smallest edits that would make a recurrence affine, each tried first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from seqdsl.analysis.normal import Normal
from seqdsl.analysis.reasons import culprits, reads_in, text_of
from seqdsl.analysis.semiring import semiring_verdict
from seqdsl.analysis.structure import structure_of
from seqdsl.analysis.verdict import Recurrence
from seqdsl.ir import nodes as ir
from seqdsl.ir.walk import subtree


@dataclass(frozen=True)
class Attempts:
    """Fresh normal forms of what a recurrence would be after an edit.

    `without` takes some definitions and some nodes as state-free; `unread` gives what
    is left of the recurrence if nothing reads one of its states at another step.
    """

    without: Callable[[Iterable[str], Iterable[ir.Node]], Normal]
    unread: Callable[[str], list[tuple[Recurrence, Normal]]]


def remedies(
    attempts: Attempts, normal: Normal, states: tuple[str, ...]
) -> tuple[str, ...]:
    """What to change, one sentence an edit."""
    ways = (
        _definitions(attempts, normal, states),
        _unread(attempts, normal, states) if len(states) > 1 else "",
    )
    found = tuple(w for w in ways if w)
    last = "" if found else _expressions(attempts, normal, states)
    return (*found, last) if last else found


def _definitions(attempts: Attempts, normal: Normal, states: tuple[str, ...]) -> str:
    """Definitions of the same step that would have to leave the state alone."""
    between = [
        e
        for e in normal.model.equations
        if e.name in normal.members and e.name not in states and e.written
    ]
    here = [e.name for e in between if e.span.source is normal.model.span.source]
    dropped = _smallest(attempts, here, states)
    if not dropped and len(here) < len(between):
        dropped = _smallest(attempts, [e.name for e in between], states)
    after = _outcome(attempts.without(dropped, ()), states) if dropped else ""
    if not after:
        return ""
    reads = _reads(normal, [normal.model.equation[n].expr for n in dropped])
    return f"{after} if {_list(dropped)} did not read {reads}"


def _smallest(
    attempts: Attempts, names: list[str], states: tuple[str, ...]
) -> list[str]:
    """Names none of which can be left out, such that without them all is affine."""
    if not names or not _affine(attempts.without(names, ()), states):
        return []
    kept = list(names)
    for name in reversed(names):
        fewer = [n for n in kept if n != name]
        if fewer and _affine(attempts.without(fewer, ()), states):
            kept = fewer
    return kept


def _unread(attempts: Attempts, normal: Normal, states: tuple[str, ...]) -> str:
    """A state whose own past, left unread, would leave scans only."""
    if normal.long:
        return ""  # every try would take as long as the whole did
    stays = {id(n): n for n in culprits(normal, states) if not _may_scan(n)}
    for state in states:
        left = attempts.unread(state)
        # A nonlinear function that still sees the state is not worth another try.
        if not left or any(_remains(r, n, stays) for r, n in left):
            continue
        if not all(_scans(r, n) for r, n in left):
            continue
        names = _list([s for r, _ in left for s in r.states])
        sign = "-" if left[0][0].direction == "forward" else "+"
        verb = "would scan" if len(left) == 1 else "would be scans"
        return f"{names} {verb} if nothing read `{state}[{normal.axis}{sign}1]`"
    return ""


def _remains(
    recurrence: Recurrence, normal: Normal, culprits: Mapping[int, ir.Node]
) -> bool:
    exprs = [
        normal.model.equation[m].expr
        for m in recurrence.members
        if m in normal.model.equation
    ]
    nodes = (n for e in exprs for n in subtree(e) if id(n) in culprits)
    return any(map(normal.active, nodes))


def _may_scan(node: ir.Node) -> bool:
    """Whether a culprit may turn out affine, here or in another semiring."""
    if isinstance(node, ir.Map):
        return node.op in _MAY_SCAN
    return not isinstance(node, ir.Along | ir.ExternCall)


_MAY_SCAN = frozenset(
    ("add", "sub", "mul", "div", "square", "pow", "where", "min", "max", "relu")
    + ("exp", "log", "log1p", "logaddexp", "softplus", "abs", "and", "or", "not")
    + ("silu", "float", "real", "conj")
)
"""Operators of the semirings, and products, of which one side may be left."""


def _scans(recurrence: Recurrence, normal: Normal) -> bool:
    if _affine(normal, recurrence.states):
        return True
    return semiring_verdict(normal, recurrence) is not None


def _expressions(attempts: Attempts, normal: Normal, states: tuple[str, ...]) -> str:
    """Parts of the updates themselves that would have to leave the state alone."""
    nodes = culprits(normal, states)
    usual = ir.Map | ir.Reduce | ir.Along | ir.Contract
    if not nodes or not all(isinstance(n, usual) for n in nodes):
        return ""
    if not _affine(attempts.without((), nodes), states):
        return ""
    after = _outcome(attempts.without((), nodes), states)
    shown = _list(list(dict.fromkeys(map(text_of, nodes)))[:4])
    return f"{after} if {shown} did not read {_reads(normal, nodes)}" if after else ""


def _affine(normal: Normal, states: tuple[str, ...]) -> bool:
    return not any(normal.bad(normal.value(s)) for s in states)


def _outcome(normal: Normal, states: tuple[str, ...]) -> str:
    """What the recurrence would be; empty where nothing would be left of it."""
    shapes = {s: normal.model.equation[s].expr.type.dims for s in states}
    found = structure_of(normal, shapes, {s: normal.linear(s) for s in states})
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
