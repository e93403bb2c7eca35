"""Logical lines to the token stream that the grammar describes."""

from __future__ import annotations

from collections.abc import Sequence

from seqdsl.source import Source, Span
from seqdsl.syntax.lex import Line, Token


def layout(source: Source, lines: Sequence[Line]) -> list[Token] | None:
    """The tokens of all lines with NEWLINE, INDENT, DEDENT and the closing `$END`.

    None where a line's indentation matches no block.
    """
    tokens: list[Token] = []
    indents = [""]
    end = Span(source, 0, 0)
    for line in lines:
        if line.indent != indents[-1]:
            if line.indent.startswith(indents[-1]):
                indents.append(line.indent)
                tokens.append(Token("INDENT", "", end))
            elif line.indent in indents:
                while indents[-1] != line.indent:
                    indents.pop()
                    tokens.append(Token("DEDENT", "", end))
            else:
                return None
        tokens.extend(line.tokens)
        last = line.tokens[-1].span.end
        end = Span(source, last, last)
        tokens.append(Token("NEWLINE", "", end))
    tokens.extend(Token("DEDENT", "", end) for _ in indents[1:])
    tokens.append(Token("$END", "", end))
    return tokens


def alone(source: Source, line: Line) -> list[Token]:
    """The tokens of one line with the least around it that makes it a file."""
    here = Span(source, line.span.end, line.span.end)

    def made(*types: str) -> list[Token]:
        return [Token(type_, "", here) for type_ in types]

    block = made("NEWLINE", "INDENT", "NAME", "NEWLINE", "DEDENT")
    match line.tokens[0].type:
        case "LAYER" | "DEF" | "MONOID":
            return [*line.tokens, *block, *made("$END")]
        case "IMPORT" | "EXTERN":
            return [*line.tokens, *made("NEWLINE", "$END")]
        case first:
            rest = block if first == "REPEAT" else made("NEWLINE")
            header = ("DEF", "NAME", "LPAR", "RPAR", "COLON", "NEWLINE", "INDENT")
            before = made(*header)
            return [*before, *line.tokens, *rest, *made("DEDENT", "$END")]
