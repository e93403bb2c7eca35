"""What `explain` says, as a page of Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from seqdsl.analysis import Analyzed, one_line
from seqdsl.analysis.costs import costs
from seqdsl.analysis.derivation import derivation
from seqdsl.analysis.note import Note
from seqdsl.analysis.safety import safety
from seqdsl.analysis.verdict import Verdict
from seqdsl.commands.explanation import Known, step_lines, streaming, ways_of
from seqdsl.ir import nodes as ir
from seqdsl.report import Line, plain
from seqdsl.terminal import visible


def page(written: ir.Model, analyzed: Analyzed, sizes: dict[str, Known]) -> str:
    """A page about a layer: its lines, and a section for every recurrence."""
    return "\n".join(_page(written, analyzed, sizes)) + "\n"


def _page(
    written: ir.Model, analyzed: Analyzed, sizes: dict[str, Known]
) -> Iterator[str]:
    yield f"# {written.name}"
    yield ""
    if written.doc:
        yield visible(written.doc)
        yield ""
    yield from _fenced("seq", [visible(line) for line in _source(written)])
    if not analyzed.verdicts:
        yield "No recurrence: every step is computed at once."
    for verdict in analyzed.verdicts:
        yield from _section(analyzed, verdict, sizes)


def _source(model: ir.Model) -> list[str]:
    """The layer as written: from its header to the next line at the margin."""
    lines = model.span.source.text[model.span.start :].splitlines()
    end = next(
        (i for i, line in enumerate(lines) if i and line and not line[0].isspace()),
        len(lines),
    )
    return "\n".join(lines[:end]).rstrip().splitlines()


def _fenced(language: str, lines: list[str]) -> Iterator[str]:
    yield f"```{language}"
    yield from lines
    yield "```"
    yield ""


def _section(
    analyzed: Analyzed, verdict: Verdict, sizes: dict[str, Known]
) -> Iterator[str]:
    known = sizes.get(verdict.recurrence.layer, {})
    recurrence = verdict.recurrence
    where = f" in {recurrence.layer}" if recurrence.layer else ""
    title = f"{', '.join(recurrence.states)} over {recurrence.axis}{where}"
    yield f"## {_marked(title)}"
    yield ""
    yield f"**{_marked(one_line(verdict))}**"
    model, verdict = analyzed.seen(verdict)
    found = costs(model, verdict)
    yield ""
    lines = [_text(x) for s in derivation(model, verdict) for x in step_lines(s)]
    yield from _fenced("text", [line.removeprefix("    ") for line in lines])
    yield f"This recurrence {streaming(model, verdict, found)}."
    yield ""
    if found.rows:
        yield "| strategy | depth | work (flops) | bytes (float32) | |"
        yield "| --- | --- | --- | --- | --- |"
        for row, way in zip(found.rows, ways_of(verdict, found), strict=True):
            cells = (row.strategy, row.depth, row.work, row.bytes)
            shown = " | ".join(f"`{cell}`" for cell in cells)
            yield f"| {shown} | {_marked(row.work.order())}: {way} |"
        yield ""
    notes = safety(model, verdict, found, known)
    if notes:
        yield "Numerical safety:"
        yield ""
        yield from map(_note, notes)
        yield ""
    for reason in verdict.reasons:
        yield from _fenced("text", plain(reason).splitlines())


def _note(note: Note) -> str:
    line = "" if note.span is None else f" (line {note.span.line})"
    sign = "**warning** " if note.warning else ""
    return f"- {sign}{_marked(note.text)}{line}"


def _text(line: Line) -> str:
    return "".join(text for text, _ in line).rstrip()


def _marked(text: str) -> str:
    """Text in which Markdown finds nothing to change but code."""
    pieces = visible(text).split("`")
    for i in range(0, len(pieces), 2):
        for char in "\\*_<>|[]":
            pieces[i] = pieces[i].replace(char, f"\\{char}")
    return "`".join(pieces)
