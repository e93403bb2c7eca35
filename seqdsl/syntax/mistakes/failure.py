"""Where a line stopped making sense: what every explanation of a mistake looks at."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from seqdsl.diagnostics import Diagnostic, Label
from seqdsl.source import Span
from seqdsl.syntax.lex import Line, Token

OPERATORS = frozenset({"SIGN", "TERM", "POWER", "COMPARISON", "AND", "OR", "NOT"})
OPERANDS = frozenset(
    {"NAME", "NUMBER", "STRING", "TRUE", "FALSE", "PARAM"}
    | {"FLOAT", "INT", "BOOL", "COMPLEX"}
)
CLOSERS = frozenset({"RPAR", "RSQB", "COMMA", "NEWLINE"})


@dataclass(frozen=True)
class Failure:
    """A line, the index of the token that cannot stand there, and what could."""

    line: Line
    index: int
    accepts: frozenset[str]

    @property
    def tokens(self) -> tuple[Token, ...]:
        """The tokens of the line."""
        return self.line.tokens

    @property
    def first(self) -> str:
        """The type of the line's first token."""
        return self.tokens[0].type

    @cached_property
    def token(self) -> Token:
        """The offending token; a NEWLINE where the line ends too early."""
        if self.index < len(self.tokens):
            return self.tokens[self.index]
        end = self.tokens[-1].span
        return Token("NEWLINE", "", Span(end.source, end.end, end.end))

    @property
    def before(self) -> Token | None:
        """The token in front of the offending one."""
        return self.tokens[self.index - 1] if self.index else None

    @cached_property
    def open(self) -> tuple[Token, ...]:
        """The brackets open at the offending token, outermost first."""
        stack: list[Token] = []
        for token in self.tokens[: self.index]:
            if token.type in ("LPAR", "LSQB"):
                stack.append(token)
            elif token.type in ("RPAR", "RSQB"):
                stack.pop()
        return tuple(stack)

    @property
    def in_square(self) -> bool:
        """Whether the innermost open bracket is `[`."""
        return bool(self.open) and self.open[-1].type == "LSQB"

    @property
    def wants_value(self) -> bool:
        """Whether an expression could start here."""
        return "NUMBER" in self.accepts

    @property
    def wants_type(self) -> bool:
        """Whether a type, and nothing else, could start here."""
        return "BOOL" in self.accepts and not self.wants_value

    @property
    def after_value(self) -> bool:
        """Whether an expression could go on here."""
        return "SIGN" in self.accepts and not self.wants_value

    @property
    def touches(self) -> bool:
        """Whether no blank stands before the offending token."""
        before = self.before
        return before is not None and before.span.end == self.token.span.start

    @property
    def place(self) -> Span:
        """The offending token, or the last one where the line ends too early."""
        return self.token.span if self.token.text else self.tokens[-1].span

    @property
    def shown(self) -> str:
        """The offending token for a message."""
        return f"`{self.token.text}`" if self.token.text else "the end of the line"

    @property
    def after(self) -> str:
        """Where the offending token stands, for a message: "after `=`"."""
        return f"after `{self.before.text}`" if self.before else "here"

    def error(
        self,
        code: str,
        message: str,
        *help: str,
        span: Span | None = None,
        labels: tuple[Label, ...] = (),
    ) -> Diagnostic:
        """A diagnostic at the offending token unless a span is given."""
        return Diagnostic(code, message, span or self.place, labels, help)
