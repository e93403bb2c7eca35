"""Whether each line stands where its indentation puts it."""

from __future__ import annotations

from seqdsl.diagnostics import Diagnostic
from seqdsl.source import Span
from seqdsl.syntax.lex import Line
from seqdsl.syntax.mistakes.habits import foreign_comment, statement_habit

_DECLARATIONS = ("IMPORT", "LAYER", "DEF", "MONOID", "EXTERN")
_OPENERS = ("LAYER", "DEF", "MONOID", "REPEAT")


class Blocks:
    """The blocks open while the lines of a file go by.

    After a mistake the indentation found is taken as meant, so that one wrong line
    does not accuse those below it.
    """

    def __init__(self) -> None:
        self.indents = [""]
        self.top = {""}
        self.opener: Line | None = None
        self.opener_broken = False
        self.stray = False
        self.odd: set[str] = set()
        self.empty: list[Diagnostic] = []

    def place(self, line: Line) -> Diagnostic | None:
        """What is wrong with the place of a line."""
        self.empty = []
        indents, indent = self.indents, line.indent
        if not indents[-1].startswith(indent) and not indent.startswith(indents[-1]):
            # Where a line of tabs belongs among lines of spaces nobody can tell.
            seen = indent in self.odd
            self.odd.add(indent)
            return None if seen else _mixed(line)
        if indent != indents[-1] and indent.startswith(indents[-1]):
            indents.append(indent)
            if self.opener:
                return self._declared(line)
            if indents[-2] in self.top:
                self.top.add(indent)
            return _unexpected(line)
        self.empty = self.close()
        if indent in indents:
            while indents[-1] != indent:
                self.top.discard(indents.pop())
            return self._top(line) if indent in self.top else self._declared(line)
        seen = indent in self.odd
        self.odd.add(indent)
        return None if seen else _unmatched(line)

    def done(self, line: Line, broken: bool) -> None:
        """Note what the line just judged is to the next one."""
        first, last = line.tokens[0].type, line.tokens[-1].type
        self.opener = line if first in _OPENERS or last == "COLON" else None
        self.opener_broken = broken

    def close(self) -> list[Diagnostic]:
        """The error of a header that no block followed."""
        if self.opener is None or self.opener_broken:
            return []
        return [
            Diagnostic(
                "E0013",
                f"nothing stands in the block of this {self.opener.tokens[0].text}",
                self.opener.span,
                help=("write its statements below, indented by four spaces",),
            )
        ]

    def _declared(self, line: Line) -> Diagnostic | None:
        first = line.tokens[0]
        named = [t.type for t in line.tokens[1:2]] in (["EQUAL"], ["COMMA"], ["COLON"])
        if first.type not in _DECLARATIONS or named:
            return None
        word = first.text
        return Diagnostic(
            "E0015",
            f"{'an' if word[0] in 'ie' else 'a'} {word} cannot stand inside a block",
            first.span,
            help=("move it to the left margin",),
        )

    def _top(self, line: Line) -> Diagnostic | None:
        first = line.tokens[0]
        stray, self.stray = self.stray, first.type not in _DECLARATIONS
        if not self.stray:
            return None
        habit = foreign_comment(line.span) or statement_habit(first.text, line.span)
        if habit or line.broken:
            return habit
        if stray and line.tokens[-1].type != "COLON":
            # One is enough for a run of them: they have one cause.
            return None
        return _outside(line)


def _outside(line: Line) -> Diagnostic:
    first = line.tokens[0]
    if line.tokens[-1].type == "COLON":
        advice = "start a block with `layer name(…):` or `def name(…):`"
    else:
        advice = "indent it under a `layer` or a `def`"
    return Diagnostic(
        "E0014",
        f"`{first.text}` stands outside of any layer or def",
        first.span,
        help=(advice,),
    )


def _start(line: Line) -> Span:
    return line.tokens[0].span


def _unexpected(line: Line) -> Diagnostic:
    return Diagnostic(
        "E0011",
        "this line is indented, but nothing above it opens a block",
        _start(line),
        help=(
            "align it with the statement above",
            "to continue that statement, put its expression in parentheses",
        ),
    )


def _mixed(line: Line) -> Diagnostic:
    return Diagnostic(
        "E0010",
        "the indentation mixes tabs and spaces differently from the lines above",
        _start(line),
        help=("indent by four spaces a level, without tabs",),
    )


def _unmatched(line: Line) -> Diagnostic:
    return Diagnostic(
        "E0012",
        "this indentation matches no block above",
        _start(line),
        help=("align it with the statements of the block it belongs to",),
    )
