"""All syntax errors of a file that does not parse: each line is judged on its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import cast

from seqdsl.diagnostics import Diagnostic, SpecError
from seqdsl.source import Source, Span
from seqdsl.syntax.ast import Decl
from seqdsl.syntax.blocks import Blocks
from seqdsl.syntax.depth import too_deep
from seqdsl.syntax.layout import alone
from seqdsl.syntax.lex import Lexed, Line, Token
from seqdsl.syntax.mistakes import explain
from seqdsl.syntax.mistakes.failure import Failure

MOST = 100


class Rejected(Exception):
    """The parser cannot take a token."""


class Machine(ABC):
    """A parser that takes one token at a time."""

    @abstractmethod
    def __call__(self, token: Token) -> object:
        """Take a token, or raise `Rejected`."""

    @abstractmethod
    def accepts(self) -> frozenset[str]:
        """The types of token that could come next."""


def syntax_errors(
    source: Source, found: Lexed, start: Callable[[], Machine]
) -> list[Diagnostic]:
    """What is wrong with a file that was refused, in file order, at most `MOST`."""
    problems = found.problems[:MOST]
    blocks = Blocks()
    for line in found.lines:
        if len(problems) >= MOST:
            break
        # A line gets one diagnostic: its place first, then what stands on it.
        placed = blocks.place(line)
        problem = None if line.broken else placed or line_error(source, line, start)
        blocks.done(line, bool(problem) or line.broken)
        problems += [problem] if problem else []
        problems += blocks.empty
    else:
        problems += blocks.close()
    if not problems:
        # Cannot happen as long as `Blocks` and the grammar agree; never say nothing.
        whole = Span(source, 0, min(1, len(source.text)))
        problems = [Diagnostic("E0049", "this file cannot be read", whole)]
    problems.sort(key=lambda problem: problem.span.start if problem.span else 0)
    return problems


def line_error(
    source: Source, line: Line, start: Callable[[], Machine]
) -> Diagnostic | None:
    """What is wrong with one line, wherever it stands."""
    machine = start()
    tokens = alone(source, line)
    result: object = None
    for index, token in enumerate(tokens):
        try:
            result = machine(token)
        except Rejected:
            at = min(index - tokens.index(line.tokens[0]), len(line.tokens))
            return explain(Failure(line, at, _accepted(tokens[:index], start)))
        except SpecError as error:
            return error.diagnostics[0]
    return next(iter(too_deep(cast("tuple[Decl, ...]", result))), None)


def _accepted(tokens: list[Token], start: Callable[[], Machine]) -> frozenset[str]:
    # Asked of a fresh machine: before it refuses a token, an LALR parser makes
    # reductions that narrow what it would take.
    machine = start()
    for token in tokens:
        machine(token)
    return machine.accepts()
