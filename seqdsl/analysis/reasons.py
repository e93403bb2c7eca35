"""Why an update is not affine, in the user's own lines, and what would make it so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from seqdsl.analysis.messages import message_of, reads_in, shortened
from seqdsl.analysis.normal import Normal
from seqdsl.analysis.terms import Poly, is_bad
from seqdsl.diagnostics import Diagnostic, Label
from seqdsl.ir import nodes as ir
from seqdsl.ir.walk import children
from seqdsl.source import NOWHERE, Span

MAXIMUM = 8
"""No more reasons than this are given for one recurrence."""


def culprits(normal: Normal, states: tuple[str, ...]) -> list[ir.Node]:
    """The expressions that bring what is nonlinear into the updates.

    A function inside the argument of another is not one of them: only the outer
    function's value enters the update.
    """
    bad = tuple(t for s in states for t in normal.bad(normal.value(s)))
    wanted = _nonlinear(bad)
    if any(not _nonlinear((t,)) for t in bad):
        wanted.add(_PRODUCT)
    _look_inside(normal, wanted)
    found: dict[int, ir.Node] = {}
    seen: set[int] = set()
    for state in states:
        for node in _makers(normal, normal.model.equation[state].expr, wanted, seen):
            found[id(node)] = node
    return sorted(found.values(), key=lambda n: (n.span.source.name, n.span.start))


def _look_inside(normal: Normal, wanted: set[int]) -> None:
    """What is in what was too long to be taken apart, or only carried on, in its place."""
    outer = [*normal.long.values(), *normal.carried.values()]
    inner = [
        (_nonlinear(normal.poly(n)), set[int]().union(*_inside_of(normal, n)))
        for n in outer
    ]
    growing = True
    while growing:
        growing = False
        for own, below in inner:
            if below and own & wanted:
                wanted -= own
                wanted |= below
                growing = True


def _inside_of(normal: Normal, node: ir.Node) -> Iterator[set[int]]:
    return (_nonlinear(normal.poly(c)) for c in children(node) if normal.active(c))


_PRODUCT = -1
"""Stands among the keys of what is wanted for products of reads."""


def _nonlinear(poly: Poly) -> set[int]:
    return {f.key for t in poly for f in t.active if f.kind == "nonlinear"}


def _deep(bad: Poly) -> set[int]:
    """Keys of all that the terms `bad` are made of, functions inside functions too."""
    found = set[int]()
    todo = [f for t in bad for f in t.active]
    if any(not _nonlinear((t,)) for t in bad):
        found.add(_PRODUCT)
    while todo:
        factor = todo.pop()
        if factor.key not in found:
            found.add(factor.key)
            todo.extend(f for p in factor.args for t in p for f in t.active)
    return found


def _makers(
    normal: Normal, node: ir.Node, wanted: set[int], seen: set[int]
) -> Iterator[ir.Node]:
    if id(node) in seen or not normal.active(node) or not _spoilt(normal, node):
        return
    seen.add(id(node))
    if isinstance(node, ir.Ref) and node.name in normal.model.equation:
        yield from _makers(normal, normal.model.equation[node.name].expr, wanted, seen)
        return
    below = [c for c in children(node) if normal.active(c)]
    if isinstance(node, ir.Shift | ir.At | ir.Stack | ir.Copy):
        below = []
    old = set[int]().union(*(_nonlinear(normal.poly(c)) for c in below))
    new = _nonlinear(normal.poly(node)) - old
    products = not any(_spoilt(normal, c) for c in below)
    if new & wanted or (products and not new and _PRODUCT in wanted):
        yield node
    for child in below:
        yield from _makers(normal, child, wanted, seen)


def _spoilt(normal: Normal, node: ir.Node) -> bool:
    return any(map(is_bad, normal.poly(node)))


@dataclass(frozen=True)
class Remedies:
    """Edits that were tried and work, one sentence each.

    `excused` are the ids of functions that look like the reason and are not: what is left
    after an edit scans with them.
    """

    texts: tuple[str, ...] = ()
    excused: frozenset[int] = frozenset()


def explain(
    normal: Normal, states: tuple[str, ...], remedies: Remedies
) -> tuple[tuple[Diagnostic, ...], tuple[Diagnostic, ...]]:
    """A diagnostic for every expression that is in the way; and those to show.

    The first has the help. What is only too long to be taken apart matters where nothing
    else is in the way; so does what an edit elsewhere would leave in a scan.
    """
    spoilt = {s: _deep(normal.bad(normal.value(s))) for s in states}
    found: dict[tuple[str, Span], Diagnostic] = {}
    excused: set[tuple[str, Span]] = set()
    for node in culprits(normal, states):
        code, message = message_of(normal, node)
        key = code, _place(normal, node, states)
        keys = _nonlinear(normal.poly(node)) or {_PRODUCT}
        own = tuple(s for s in states if keys & spoilt[s]) or states
        found.setdefault(
            key, Diagnostic(code, message, key[1], _labels(normal, node, own))
        )
        if code == "E0314" or id(node) in remedies.excused:
            excused.add(key)
    every = tuple(found.values())
    shown = tuple(d for key, d in found.items() if key not in excused) or every
    others = [d for d in every if d not in shown and d.code != "E0314"]
    help_ = (*remedies.texts, *_may_stay(others))
    first = tuple(replace(d, help=help_) for d in shown[:1])
    return every, (*first, *shown[1:MAXIMUM])


def _may_stay(others: list[Diagnostic]) -> tuple[str, ...]:
    """The other functions that are not linear, which an edit leaves in a scan."""
    lines: dict[str, list[int]] = {}
    for found in others:
        if found.span is not None:
            text = shortened(found.span.text)
            lines.setdefault(text, []).append(found.span.line)
    if not lines:
        return ()
    shown = [f"`{text}` ({_lines(found)})" for text, found in lines.items()]
    them = "it" if len(shown) == 1 else "them"
    return (
        f"after such an edit {_listed(shown)} may stay: what is left scans with {them}",
    )


def _lines(numbers: list[int]) -> str:
    word = "line" if len(numbers) == 1 else "lines"
    return f"{word} {_listed([str(n) for n in numbers])}"


def _listed(texts: list[str]) -> str:
    return f"{', '.join(texts[:-1])} and {texts[-1]}" if texts[1:] else texts[0]


def _place(normal: Normal, node: ir.Node, states: tuple[str, ...]) -> Span:
    if node.span is not NOWHERE:
        return node.span
    return normal.model.equation[states[0]].span


def _labels(
    normal: Normal, node: ir.Node, states: tuple[str, ...]
) -> tuple[Label, ...]:
    """The reads on other lines, and the updates that are spoilt."""
    labels = [
        Label(span, f"`{text}` is read here")
        for text, span in reads_in(normal, node).items()
        if span is not NOWHERE and not _inside(span, node.span)
    ]
    for state in states:
        span = normal.model.equation[state].span
        if span is not NOWHERE and not _inside(node.span, span):
            labels.append(Label(span, f"so this update is not affine in `{state}`"))
    return tuple(labels)


def _inside(a: Span, b: Span) -> bool:
    return a.source is b.source and b.start <= a.start and a.end <= b.end
