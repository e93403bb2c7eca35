"""The smallest edits that would make a recurrence affine, each tried first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from seqdsl.analysis.graph import Edge
from seqdsl.analysis.messages import reads_in, text_of
from seqdsl.analysis.normal import Normal
from seqdsl.analysis.reasons import Remedies, culprits
from seqdsl.analysis.semiring import semiring_verdict
from seqdsl.analysis.structure import structure_of
from seqdsl.analysis.verdict import Recurrence
from seqdsl.ir import nodes as ir
from seqdsl.ir.types import TIME
from seqdsl.ir.walk import children, subtree

Left = list[tuple[Recurrence, Normal]]


@dataclass(frozen=True)
class Attempts:
    """What a recurrence would be after an edit.

    `frozen` takes some nodes as state-free; `without` leaves out those reads for which a
    function says so, and gives the recurrences that are then left.
    """

    frozen: Callable[[Iterable[ir.Node]], Normal]
    without: Callable[[Callable[[Edge], bool]], Left]


def remedies(attempts: Attempts, normal: Normal, states: tuple[str, ...]) -> Remedies:
    """What to change."""
    if normal.long:
        return Remedies()  # every try would take as long as the whole did
    nodes = culprits(normal, states)
    tries = _Tries(attempts, normal, states, nodes)
    found = [tries.unread()] if len(states) > 1 else []
    found.append(tries.definitions())
    texts = tuple(text for text, _ in found if text)
    left = [pair for text, own in found if text for pair in own]
    last = "" if texts else _expressions(attempts, normal, states)
    more = tuple(t for t in (last, _held(attempts, normal, states)) if t)
    return Remedies(
        (*texts, *more),
        frozenset(id(n) for n in nodes if any(x.active(n) for _, x in left)),
    )


@dataclass(frozen=True)
class _Tries:
    attempts: Attempts
    normal: Normal
    states: tuple[str, ...]
    nodes: list[ir.Node]

    def definitions(self) -> tuple[str, Left]:
        """Definitions of the same step that would have to leave the state alone."""
        model = self.normal.model
        between = [
            e.name
            for e in model.equations
            if e.name in self.normal.members
            and e.name not in self.states
            and e.written
            and e.span.source is model.span.source
        ]
        dropped = self._smallest(between)
        left = self._left_by(dropped) if dropped else None
        if not left:
            return "", []
        reads = _reads(self.normal, [model.equation[n].expr for n in dropped])
        return f"{self._outcome(left)} if {_list(dropped)} did not read {reads}", left

    def unread(self) -> tuple[str, Left]:
        """A state whose own past, left unread, would leave scans only."""
        for state in self.states:

            def drop(edge: Edge, state: str = state) -> bool:
                return edge.source == state and edge.kind != "same"

            left = self._scans(self.attempts.without(drop))
            if left:
                sign = "-" if left[0][0].direction == "forward" else "+"
                read = f"{state}[{self.normal.axis}{sign}1]"
                return f"{self._outcome(left)} if nothing read `{read}`", left
        return "", []

    def _smallest(self, names: list[str]) -> list[str]:
        """Names none of which can be left out, such that without them all scans."""
        if not names or not self._left_by(names):
            return []
        kept = list(names)
        for name in reversed(names):
            fewer = [n for n in kept if n != name]
            if fewer and self._left_by(fewer):
                kept = fewer
        return kept

    def _left_by(self, names: list[str]) -> Left | None:
        return self._scans(self.attempts.without(lambda edge: edge.reader in names))

    def _scans(self, left: Left) -> Left | None:
        """`left` if there is something, and all of it scans."""
        stays = [n for n in self.nodes if not _may_scan(n)]
        # A nonlinear function that still sees the state is not worth another try.
        if any(_holds(r, x, n) for r, x in left for n in stays):
            return None
        return left if all(_scans(r, x) for r, x in left) else None

    def _outcome(self, left: Left) -> str:
        names = [s for r, _ in left for s in r.states]
        whole = set(names) == set(self.states)
        subject = "this" if whole and len(left) == 1 else _list(names)
        if len(left) > 1:
            return f"{subject} would be scans"
        ((recurrence, normal),) = left
        structure = _structure(normal, recurrence.states)
        return f"{subject} would scan{structure}"


def _holds(recurrence: Recurrence, normal: Normal, node: ir.Node) -> bool:
    """Whether `node` still sees the state, in one of the recurrence's own equations."""
    exprs = (
        normal.model.equation[m].expr
        for m in recurrence.members
        if m in normal.model.equation
    )
    return normal.active(node) and any(n is node for e in exprs for n in subtree(e))


def _structure(normal: Normal, states: tuple[str, ...]) -> str:
    if not _affine(normal, states):
        return ""
    shapes = {s: normal.model.equation[s].expr.type.dims for s in states}
    found = structure_of(normal, shapes, {s: normal.linear(s) for s in states})
    return f" ({found.structure.replace('_', ' ')})" if found.structure else ""


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


def _held(attempts: Attempts, normal: Normal, states: tuple[str, ...]) -> str:
    """Gradients in the step that could be taken at weights held for a chunk."""
    exprs = (normal.model.equation[s].expr for s in states)
    nodes = [n for e in exprs for n in _gradients(normal, e)]
    if not nodes or normal.axis != TIME or not _affine(attempts.frozen(nodes), states):
        return ""
    own = [s for s in states if any(f"{s}[t-1]" in text_of(n) for n in nodes)]
    if not own:
        return ""
    hold = f"{own[0]}0 = where(t % C == 0, {own[0]}[t-1], {own[0]}0[t-1])"
    shown = _list(list(dict.fromkeys(map(text_of, nodes))))
    return (
        f"taken at weights held for a chunk (`{hold}`), {shown} would leave a scan per "
        "chunk"
    )


def _gradients(normal: Normal, node: ir.Node) -> Iterator[ir.Node]:
    """The outermost parts that a `grad` was written for and that read the state."""
    if not normal.active(node):
        return
    if node.span.text.startswith("grad("):
        yield node
        return
    for child in children(node):
        yield from _gradients(normal, child)


def _expressions(attempts: Attempts, normal: Normal, states: tuple[str, ...]) -> str:
    """Parts of the updates themselves that would have to leave the state alone."""
    nodes = culprits(normal, states)
    usual = ir.Map | ir.Reduce | ir.Along | ir.Contract
    if not nodes or not all(isinstance(n, usual) for n in nodes):
        return ""
    frozen = attempts.frozen(nodes)
    if not _affine(frozen, states):
        return ""
    structure = _structure(frozen, states)
    shown = _list(list(dict.fromkeys(map(text_of, nodes)))[:4])
    if not structure:
        return ""
    return f"this would scan{structure} if {shown} did not read {_reads(normal, nodes)}"


def _affine(normal: Normal, states: tuple[str, ...]) -> bool:
    return not any(normal.bad(normal.value(s)) for s in states)


def _reads(normal: Normal, nodes: Iterable[ir.Node]) -> str:
    found = [text for n in nodes for text in reads_in(normal, n)]
    return _list(list(dict.fromkeys(found))) or "the state"


def _list(names: list[str]) -> str:
    quoted = [f"`{n}`" for n in names]
    if len(quoted) < 2:
        return "".join(quoted)
    return f"{', '.join(quoted[:-1])} and {quoted[-1]}"
