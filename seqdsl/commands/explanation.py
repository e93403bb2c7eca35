"""What `explain` says of one recurrence: derivation, costs, numerical safety."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

from seqdsl.analysis import Analyzed
from seqdsl.analysis.costs import Costs, costs, state_size
from seqdsl.analysis.derivation import derivation
from seqdsl.analysis.formula import Formula
from seqdsl.analysis.note import Note
from seqdsl.analysis.one_line import one_line
from seqdsl.analysis.safety import safety
from seqdsl.analysis.step import Step
from seqdsl.analysis.verdict import Verdict
from seqdsl.diagnostics import SpecError
from seqdsl.ir import nodes as ir
from seqdsl.ir.bind import bind_sizes
from seqdsl.ir.sizes import Lit, Scalar, SizeError, evaluate
from seqdsl.report import Line
from seqdsl.schedule.rows import copies_of, still_initial
from seqdsl.terminal import visible

Known = Mapping[str, Scalar]
WIDTH = 88
SHORT = 24
"""A state size of more characters is left out of the one line of `check`."""

WAYS: Mapping[str, str] = {
    "loop": "T steps one after another; what does not read the state stands outside",
    "scan": "about log2(T) rounds, each over all steps at once",
    "chunk": "T/C chunks one after another, matrix products within each",
    "convolve": "one convolution over all steps, T log2(T) by FFT",
    "newton": "a scan per iteration, repeated until the steps agree; on request",
    "per_chunk": "T/C chunks of the spec's own length one after another, a scan within each",
}
_FIR_WAYS: Mapping[str, str] = {
    "loop": "T steps one after another, the last few kept",
    "convolve": "all steps at once",
}


# ---- Sizes that are known


def known_sizes(analyzed: Analyzed, given: Known) -> dict[str, Known]:
    """Values of options and dims by the `layer` of verdicts, as far as they are known.

    Options that are no part of a dim count with their defaults; the others only where
    some are given.
    """
    found: dict[str, Known] = {}
    _sizes_below(analyzed.model, _own_sizes(analyzed.model, given), "", found)
    return found


def _own_sizes(model: ir.Model, given: Known) -> Known:
    known = {
        o.name: o.default.value
        for o in model.options
        if isinstance(o.default, Lit) and not o.integral
    }
    known.update(given)
    if given:
        with suppress(SpecError):
            bound = bind_sizes(model, given)
            known.update(bound.options)
            known.update(bound.dims)
    return known


def _sizes_below(
    model: ir.Model, known: Known, path: str, found: dict[str, Known]
) -> None:
    found[path] = known
    for instance in model.instances:
        inner: dict[str, Scalar] = {}
        for name, size in instance.options:
            with suppress(KeyError, SizeError):
                inner[name] = evaluate(size, known)
        own = dict(_own_sizes(instance.model, {}))
        own.update(inner)
        for dim, size in instance.model.dims.items():
            with suppress(KeyError, SizeError):
                own[dim] = evaluate(size, own)
        below = f"{path}.{instance.name}" if path else instance.name
        _sizes_below(instance.model, own, below, found)


# ---- As JSON


def full_json(analyzed: Analyzed, verdict: Verdict, known: Known) -> dict[str, object]:
    """State size, costs, derivation and numerical safety of one recurrence."""
    model, verdict = analyzed.seen(verdict)
    found = costs(model, verdict)
    notes = safety(model, verdict, found, known)
    return {
        "state_size": str(found.state),
        "grows": found.grows,
        "costs": [row.to_json() for row in found.rows],
        "derivation": [step.to_json() for step in derivation(model, verdict)],
        "safety": [note.to_json() for note in notes],
    }


# ---- As text


def check_line(analyzed: Analyzed, verdict: Verdict) -> str:
    """The one line of a verdict, with the size of its state where that is short."""
    line = one_line(verdict)
    size = str(state_size(*analyzed.seen(verdict)))
    if verdict.verdict == "none" or len(size) > SHORT:
        return line
    return f"{line}; state {size}"


def explain_verdict(
    analyzed: Analyzed, verdict: Verdict, known: Known, terminal: int | None = None
) -> Iterator[Line]:
    """All that is known of one recurrence but the reasons, as styled lines.

    `terminal` is how wide that is where it is one; tables then fit it.
    """
    width = terminal or WIDTH
    head = one_line(verdict)
    if terminal is None:
        yield [(visible(f"  {head}"), verdict.verdict)]
    else:
        yield from _wrapped([("  ", "")], head, width, verdict.verdict)
    model, verdict = analyzed.seen(verdict)
    found = costs(model, verdict)
    yield []
    for step in derivation(model, verdict):
        yield from step_lines(step, width)
    yield []
    yield from _wrapped([("    ", "")], streaming(model, verdict, found), width)
    if found.rows:
        yield []
        yield from _table(verdict, found, width, terminal is not None)
    notes = safety(model, verdict, found, known)
    if notes:
        yield []
        yield [("    numerical safety", "title")]
    for note in notes:
        yield from _note(note, width)


def step_lines(step: Step, width: int = WIDTH) -> Iterator[Line]:
    """A line of the derivation, wrapped."""
    line = "" if step.line is None else str(step.line)
    lead = [(f"    {step.lead:<8}", "word"), (f"{line:>4} | ", "margin")]
    yield from _wrapped(lead, step.text, width)


def _note(note: Note, width: int) -> Iterator[Line]:
    line = "" if note.span is None else str(note.span.line)
    sign = "warning" if note.warning else ""
    lead = [(f"    {sign:<8}", "warning"), (f"{line:>4} | ", "margin")]
    yield from _wrapped(lead, note.text, width)


def _wrapped(lead: Line, text: str, width: int, style: str = "") -> Iterator[Line]:
    """`text` in lines beside `lead`, below it only the bar that `lead` ends with."""
    taken = sum(len(piece) for piece, _ in lead)
    bar = "| " if lead[-1][0].endswith("| ") else ""
    rest: Line = [(" " * (taken - len(bar)) + bar, "margin")]
    room = max(30, width - taken)
    parts = textwrap.wrap(
        visible(text), room, break_long_words=False, break_on_hyphens=False
    )
    for i, part in enumerate(parts or [""]):
        yield [*(rest if i else lead), (part, style)]


def streaming(model: ir.Model, verdict: Verdict, found: Costs) -> str:
    """Whether it streams, and what it keeps."""
    axis = verdict.recurrence.axis
    if axis != "t":
        return f"runs along {axis} within a step; it keeps {found.state} numbers there"
    if not verdict.streams:
        return "does not stream: it reads later steps"
    for state in verdict.recurrence.states:
        for copy in copies_of(model, state) if state in model.state else ():
            if not still_initial(model, state, copy):
                return f"does not stream: `{state}` changes for later steps `{copy}`"
    if not found.state.terms:
        return "streams, with no state"
    if found.grows:
        text = f"{found.state} numbers per sequence after T steps"
        return f"streams, but the state grows, as its past is read again: {text}"
    return f"streams; state: {found.state} numbers per sequence"


def ways_of(verdict: Verdict, found: Costs) -> Iterator[str]:
    """What each strategy does, in the order of the costs."""
    ways = _FIR_WAYS if verdict.verdict == "fir" else WAYS
    for cost in found.rows:
        yield ways.get(cost.strategy, WAYS[cost.strategy])


LONGEST = 60
"""Of a longer formula only its order is printed; `--json` has the whole."""


def _short(formula: Formula) -> str:
    whole = str(formula)
    return whole if len(whole) <= LONGEST else formula.order()


_HEAD = ("strategy", "depth", "work (flops)", "bytes (float32)")


def _table(verdict: Verdict, found: Costs, width: int, fitted: bool) -> Iterator[Line]:
    """A row a strategy: exact formulas; and below what each does."""
    rows = [
        (r.strategy.replace("_", " "), str(r.depth), _short(r.work), _short(r.bytes))
        for r in found.rows
    ]
    widths = [max(len(r[i]) for r in (_HEAD, *rows)) for i in range(4)]
    if fitted and sum(widths) + 10 > width:
        yield from _stacked(verdict, found, rows, width)
        return
    for row in (_HEAD, *rows):
        cells = (f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True))
        text = f"    {'  '.join(cells)}".rstrip()
        yield [(visible(text), "title" if row is _HEAD else "")]
    for cost, row, way in zip(found.rows, rows, ways_of(verdict, found), strict=True):
        lead = [(f"    {row[0]:<{widths[0]}}  ", "word")]
        yield from _wrapped(lead, f"{cost.work.order()}: {way}", width)


def _stacked(
    verdict: Verdict, found: Costs, rows: Sequence[Sequence[str]], width: int
) -> Iterator[Line]:
    """The same below each other, where there is no room beside each other."""
    for row, way in zip(rows, ways_of(verdict, found), strict=True):
        yield from _wrapped([(f"    {row[0]:<10}", "word")], way, width)
        for title, cell in zip(_HEAD[1:], row[1:], strict=True):
            yield from _wrapped([(f"      {title:<17}", "title")], cell, width)
