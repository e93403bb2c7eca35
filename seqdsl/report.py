"""The one place that draws diagnostics: text for people, objects for programs.

The layout is computed once, as lines of styled pieces; `plain` joins them for pipes,
`show` colors them on a terminal.
"""

from __future__ import annotations

import json
import os
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from shutil import get_terminal_size
from typing import Literal, TextIO

from seqdsl.diagnostics import Diagnostic, Label
from seqdsl.source import BUILTIN, Source, Span
from seqdsl.terminal import cells, expand, visible, window

Piece = tuple[str, str]
"""Text and the name of its style in `STYLES`."""
Line = list[Piece]
Style = Literal["full", "short", "json"]

STYLES = {
    "": "",
    "error": "bold red",
    "warning": "bold yellow",
    "title": "bold",
    "place": "cyan",
    "margin": "blue",
    "caret": "bold red",
    "dash": "bold blue",
    "word": "bold green",
    "none": "dim",
    "fir": "cyan",
    "scannable": "green",
    "sequential": "yellow",
    "opaque": "magenta",
}
WIDTH = 80
LINE = 120
"""Words are wrapped here where they go to a pipe or a file."""


# ---- Layout


@dataclass(frozen=True)
class _Mark:
    span: Span
    text: str
    sign: Literal["^", "-"]


def layout(d: Diagnostic, width: int = WIDTH, text: int = LINE) -> list[Line]:
    """`d` as lines of styled pieces: at most `width` columns of source, `text` of words."""
    lines = [_header(d, width)]
    marks, others = _sort_labels(d)
    lines += _snippets(marks, width, text)
    for label in others:
        lines += _sentence("also", label.text + _where(label), text)
    for sentence in d.help:
        lines += _sentence("help", sentence, text)
    lines.append([("   more  ", "word"), (f"seqdsl explain {d.code}", "")])
    return lines


def _sentence(lead: str, sentence: str, width: int) -> Iterator[Line]:
    parts = textwrap.wrap(
        visible(sentence), width - 9, break_long_words=False, break_on_hyphens=False
    )
    for i, part in enumerate(parts or [""]):
        yield [(f"   {lead}  ", "word") if i == 0 else (" " * 9, ""), (part, "")]


def _header(d: Diagnostic, width: int) -> Line:
    message = visible(d.message)
    style = "error" if d.is_error else "warning"
    line: Line = [(d.code, style), ("  ", ""), (message, "title")]
    if d.span is not None and d.span.source is not BUILTIN:
        place = visible(f"{d.span.source.name}:{d.span.line}:{d.span.column}")
        gap = width - sum(cells(text) for text, _ in line) - cells(place)
        line += [(" " * max(2, gap), ""), (place, "place")]
    return line


def _sort_labels(d: Diagnostic) -> tuple[list[_Mark], list[Label]]:
    """What is drawn under the source's lines, and what is only said."""
    if d.span is None or d.span.source is BUILTIN:
        return [], list(d.labels)
    caret = [label for label in d.labels if label.span == d.span]
    drawn = [
        label
        for label in d.labels
        if label.span.source is d.span.source and label not in caret
    ]
    others = [label for label in d.labels if label not in drawn and label not in caret]
    text = "; ".join(label.text for label in caret)
    marks = [_Mark(d.span, text, "^")]
    marks += [_Mark(label.span, label.text, "-") for label in drawn]
    return marks, others


def _where(label: Label) -> str:
    source = label.span.source
    return "" if source is BUILTIN else f" ({source.name}:{label.span.line})"


def _snippets(marks: Sequence[_Mark], width: int, text: int) -> Iterator[Line]:
    by_line: dict[int, list[_Mark]] = {}
    for mark in marks:
        by_line.setdefault(mark.span.line, []).append(mark)
    margin = max(5, *(len(str(line)) + 1 for line in by_line)) if by_line else 5
    before: int | None = None
    for number in sorted(by_line):
        if before is not None and number > before + 1:
            yield [(" " * (margin - 3) + "...", "margin")]
        yield from _snippet(number, by_line[number], margin, (width, text))
        before = number


def _snippet(
    number: int, marks: list[_Mark], margin: int, widths: tuple[int, int]
) -> Iterator[Line]:
    """A line of source and its marks; `widths` are those of source and of words."""
    source: Source = marks[0].span.source
    text, columns = expand(source.line(number))
    places = [_columns(mark, columns) for mark in marks]
    first, last = places[0] if len(places) == 1 else (min(places)[0], max(places)[1])
    part, offset = window(text, first, last, max(20, widths[0] - margin - 3))
    yield [(f"{number:>{margin}} | ", "margin"), (part, "")]
    order = sorted(
        zip(marks, places, strict=True), key=lambda p: (p[0].sign == "-", p[1])
    )
    for mark, (start, stop) in order:
        start, stop = max(0, start - offset), min(stop - offset, cells(part))
        style = "caret" if mark.sign == "^" else "dash"
        line: Line = [(f"{'':>{margin}} | ", "margin"), (" " * start, "")]
        line.append((mark.sign * max(1, stop - start), style))
        said, room = _said(mark), widths[1] - margin - 3
        if said and cells(said) + 1 <= room - max(stop, start + 1):
            line.append((f" {said}", style))
            said = ""
        yield line
        if said:  # below, as far to the right as it fits
            before = " " * max(0, min(start, room - cells(said)))
            yield [(f"{'':>{margin}} | ", "margin"), (before, ""), (said, style)]


def _columns(mark: _Mark, columns: list[int]) -> tuple[int, int]:
    """First and past-the-last terminal column of `mark` on its first line."""
    span = mark.span
    end = len(columns) if span.end_line > span.line else span.end_column
    start = min(span.column - 1, len(columns) - 1)
    return columns[start], columns[min(max(end - 1, start), len(columns) - 1)]


def _said(mark: _Mark) -> str:
    text = visible(mark.text)
    if mark.span.end_line == mark.span.line:
        return text
    return f"{text} (to line {mark.span.end_line})".strip()


# ---- Output


def plain(d: Diagnostic, width: int = WIDTH) -> str:
    """`d` drawn without color; no newline at the end."""
    rows = ("".join(text for text, _ in line).rstrip() for line in layout(d, width))
    return "\n".join(rows)


def place_json(span: Span | None) -> dict[str, str | int | None]:
    """File, line and columns of a span as JSON values; None where there is none."""
    if span is None or span.source is BUILTIN:
        keys = ("file", "line", "column", "end_line", "end_column")
        return dict.fromkeys(keys)
    return {
        "file": span.source.name,
        "line": span.line,
        "column": span.column,
        "end_line": span.end_line,
        "end_column": span.end_column,
    }


def to_json(d: Diagnostic) -> dict[str, object]:
    """`d` as JSON values."""
    return {
        "code": d.code,
        "severity": "error" if d.is_error else "warning",
        **place_json(d.span),
        "message": d.message,
        "labels": [{**place_json(x.span), "text": x.text} for x in d.labels],
        "help": "; ".join(d.help) or None,
    }


def colors(file: TextIO) -> bool:
    """Whether `file` is a terminal that wants color."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return file.isatty()


def say(line: Line, file: TextIO | None = None) -> None:
    """Write one styled line to `file` (standard output), in color on a terminal."""
    out = file or sys.stdout
    if not colors(out):
        print("".join(text for text, _ in line).rstrip(), file=out)
        return
    from rich.console import Console
    from rich.text import Text

    text = Text.assemble(*((piece, STYLES[style]) for piece, style in line))
    Console(file=out, highlight=False).print(text, soft_wrap=True)


def show(
    diagnostics: Iterable[Diagnostic], style: Style = "full", file: TextIO | None = None
) -> None:
    """Write diagnostics to `file` (standard error): drawn, one line each, or as JSON."""
    out = file or sys.stderr
    match style:
        case "json":
            print(json.dumps([to_json(d) for d in diagnostics], indent=2), file=out)
        case "short":
            for d in diagnostics:
                print(visible(d.short), file=out)
        case "full":
            for d in diagnostics:
                width = terminal_width(out)
                for line in layout(d, width or WIDTH, width or LINE):
                    say(line, out)
                print(file=out)


def terminal_width(file: TextIO) -> int | None:
    """How wide a terminal is, within reason; None for a file or a pipe."""
    if not colors(file):
        return None
    return max(40, min(get_terminal_size((WIDTH, 24)).columns, 120))


def show_page(page: str) -> None:
    """Write a page of Markdown to standard output, rendered on a terminal."""
    if not colors(sys.stdout):
        print(page, end="")
        return
    from rich.console import Console
    from rich.markdown import Markdown

    Console().print(Markdown(page))
