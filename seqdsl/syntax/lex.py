"""Text to logical lines of tokens; the terminals come from the grammar."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from seqdsl.diagnostics import Diagnostic
from seqdsl.source import Source, Span
from seqdsl.syntax import characters
from seqdsl.syntax.ast import Comment


class Token(NamedTuple):
    """One token; `type` is the name of its terminal in the grammar."""

    type: str
    text: str
    span: Span


@dataclass(frozen=True)
class Line:
    """One logical line: its indentation and its tokens, brackets closed."""

    indent: str
    tokens: tuple[Token, ...]
    broken: bool = False

    @property
    def span(self) -> Span:
        """From its first to its last token."""
        return self.tokens[0].span.join(self.tokens[-1].span)


@dataclass(frozen=True)
class Vocabulary:
    """The grammar's terminals: one pattern for all, and the reserved words."""

    pattern: re.Pattern[str]
    words: dict[str, str]

    @staticmethod
    def of(terminals: Iterable[tuple[str, str, bool]]) -> Vocabulary:
        """Built from (name, regular expression, whether it is a plain string)."""
        words: dict[str, str] = {}
        rows: list[tuple[int, str, str]] = []
        for name, regexp, plain in terminals:
            if plain and regexp.isidentifier():
                words[regexp] = name
            elif not name.startswith("_"):
                # Plain strings of several characters go first and those of one last,
                # so that `->` is not read as `-` nor `==` as `=`.
                length = len(regexp.replace("\\", "")) if plain else 2
                rows.append((-9 if name == "NUMBER" else -length, name, regexp))
        rows.sort(key=lambda row: row[0])
        groups = [f"(?P<{name}>{regexp})" for _, name, regexp in rows]
        groups += [r"(?P<BREAK>\r?\n)", r"(?P<BLANK>[ \t]+)", r"(?P<UNKNOWN>.|\r)"]
        return Vocabulary(re.compile("|".join(groups)), words)


@dataclass
class Lexed:
    """What the lexer found; a line with a problem is marked as broken."""

    lines: list[Line] = field(default_factory=list[Line])
    comments: list[Comment] = field(default_factory=list[Comment])
    problems: list[Diagnostic] = field(default_factory=list[Diagnostic])


def lex(source: Source, vocabulary: Vocabulary, careful: bool = False) -> Lexed:
    """Split a source into logical lines.

    A bracket that is never closed would swallow the rest of the file. With `careful`,
    for a file known to be wrong, a line also ends where the next one looks like a new
    statement.
    """
    return _Scanner(source, vocabulary, careful).run()


_CLOSES = {")": "(", "]": "["}
_STATEMENT = re.compile(
    r"(layer|def|extern|import|input|output|state|dim|repeat)\b"
    r"|param[ \t]+\w+[ \t]*:"
)
_EQUATION = re.compile(r"\w+([ \t]*,[ \t]*\w+)*[ \t]*(=(?!=)|:)")


class _Scanner:
    """One pass over the text."""

    def __init__(self, source: Source, vocabulary: Vocabulary, careful: bool) -> None:
        self.source = source
        self.vocabulary = vocabulary
        self.careful = careful
        self.found = Lexed()
        self.tokens: list[Token] = []
        self.open: list[Token] = []
        self.broken = False

    def run(self) -> Lexed:
        source, text = self.source, self.source.text
        words, open_ = self.vocabulary.words, self.open
        begin = 1 if text.startswith("\ufeff") else 0
        for match in self.vocabulary.pattern.finditer(text, begin):
            kind = match.lastgroup or "UNKNOWN"
            if kind == "BLANK":
                continue
            if kind == "BREAK":
                if not open_ or (self.careful and self._statement_at(match.end())):
                    self._end_line()
                continue
            word = match.group()
            span = Span(source, match.start(), match.end())
            if kind == "COMMENT":
                self._comment(span)
                continue
            kind = words.get(word, kind)
            token = Token(kind, word, span)
            if kind == "UNKNOWN" or kind == "NUMBER" or kind == "NAME":
                if problem := characters.check(kind, span):
                    self._problem(problem)
            elif word in "([":
                open_.append(token)
            elif word in ")]":
                self._close(token)
            if kind != "UNKNOWN":
                self.tokens.append(token)
        self._end_line()
        return self.found

    def _problem(self, problem: Diagnostic) -> None:
        # The first problem of a line often brings about the others.
        if not self.broken:
            self.found.problems.append(problem)
        self.broken = True

    def _comment(self, span: Span) -> None:
        text = self.source.text
        before = text[text.rfind("\n", 0, span.start) + 1 : span.start]
        alone = not before.strip(" \t\ufeff")
        # The line break of a CRLF file is no part of the comment.
        end = span.start + len(span.text.rstrip())
        self.found.comments.append(Comment(Span(self.source, span.start, end), alone))

    def _close(self, token: Token) -> None:
        opener = _CLOSES[token.text]
        if self.open and self.open[-1].text == opener:
            self.open.pop()
            return
        if any(bracket.text == opener for bracket in self.open):
            self._problem(characters.never_closed(self.open[-1].span))
            while self.open.pop().text != opener:
                pass
            return
        self._problem(
            characters.closes_nothing(
                token.span, self.open[-1].span if self.open else None
            )
        )
        if self.open:
            self.open.pop()

    def _statement_at(self, offset: int) -> bool:
        """Whether the line at an offset cannot belong to the brackets now open."""
        rest = self.source.line(self.source.position(offset)[0])
        code = rest.lstrip()
        if not code or code[0] in "#)]":
            return False
        if not self.tokens or _STATEMENT.match(code):
            return True
        deeper = len(rest) - len(code) >= self.tokens[0].span.column
        return not deeper and _EQUATION.match(code) is not None

    def _end_line(self) -> None:
        if self.open:
            self._problem(characters.never_closed(self.open[-1].span))
            self.open.clear()
        if self.tokens:
            start = self.tokens[0].span.start
            begin = self.source.text.rfind("\n", 0, start) + 1
            indent = self.source.text[begin:start].lstrip("\ufeff")
            line = Line(indent, tuple(self.tokens), self.broken)
            self.found.lines.append(line)
            self.tokens.clear()
        self.broken = False
