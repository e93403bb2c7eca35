"""Text to `ast.Spec`."""

from __future__ import annotations

import hashlib
import os
import sys
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from seqdsl.diagnostics import SpecError
from seqdsl.source import Source, Span
from seqdsl.syntax import ast
from seqdsl.syntax.build import Builder
from seqdsl.syntax.characters import not_text
from seqdsl.syntax.depth import too_deep
from seqdsl.syntax.layout import alone, layout
from seqdsl.syntax.lex import Line, Token, Vocabulary, lex
from seqdsl.syntax.recover import Machine, Rejected, line_error, syntax_errors

if TYPE_CHECKING:
    from lark import Lark


def parse(source: Source) -> ast.Spec:
    """The spec that a source spells; raises `SpecError` with all its syntax errors."""
    for char in "\0\ufffd":
        if char in source.text:
            at = source.text.index(char)
            raise SpecError([not_text(Span(source, at, at + 1))])
    found = lex(source, _vocabulary())
    tokens = None if found.problems else layout(source, found.lines)
    declarations = _declarations(tokens) if tokens else None
    if declarations is None:
        found = lex(source, _vocabulary(), careful=True)
        raise SpecError(syntax_errors(source, found, _Feed))
    if problems := too_deep(declarations):
        raise SpecError(problems)
    return ast.Spec(
        source=source,
        declarations=declarations,
        comments=tuple(found.comments),
        span=Span(source, 0, len(source.text)),
    )


def parse_expression(text: str) -> ast.Expr:
    """The expression that a text spells; its spans lie in a source of their own."""
    source = Source("<expression>", text)
    found = lex(source, _vocabulary())
    tokens = tuple(token for line in found.lines for token in line.tokens)
    line = Line("", tokens or (Token("NEWLINE", "", Span(source, 0, 0)),))
    problem = next(iter(found.problems), None) or line_error(source, line, _Feed)
    if problem is not None:
        raise SpecError([problem])
    match _declarations(alone(source, line)):
        case (ast.DefDecl(body=(ast.Result(value=value),)),):
            return value
        case _:
            raise ValueError(f"not an expression: {text}")


def _declarations(tokens: list[Token]) -> tuple[ast.Decl, ...] | None:
    feed = _Feed()
    result: Any = None
    try:
        for token in tokens:
            result = feed(token)
    except (Rejected, SpecError):
        return None
    return cast("tuple[ast.Decl, ...]", result)


class _Feed(Machine):
    """Lark's parser, taking one token at a time."""

    def __init__(self) -> None:
        self._machine: Any = cast(Any, _parser()).parse_interactive()

    def __call__(self, token: Token) -> object:
        """Take a token; the last one, `$END`, returns the declarations."""
        from lark import UnexpectedToken

        try:
            return self._machine.feed_token(token)
        except UnexpectedToken as error:
            raise Rejected from error

    def accepts(self) -> frozenset[str]:
        """The types of token that could come next."""
        return frozenset(self._machine.accepts())


@cache
def _parser() -> Lark:
    # Imported late: most of what a process loads is not needed before a file is parsed.
    from lark import Lark

    grammar = files("seqdsl.grammar").joinpath("seq.lark").read_text("utf-8")
    return Lark(
        grammar,
        parser="lalr",
        lexer="basic",
        transformer=cast(Any, Builder()),
        keep_all_tokens=True,
        maybe_placeholders=True,
        cache=_table_file(grammar),
    )


def _table_file(grammar: str) -> str | bool:
    """Where the parser's tables are kept between processes; False where they cannot be.

    They take 80 ms to build and 10 to read. The folder is the user's own and the name
    holds what the tables depend on; lark builds anew from a file that it cannot read,
    such as one that another process is still writing.
    """
    import lark

    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = Path(base) / "seqdsl"
    version = f"{lark.__version__} {sys.version} {grammar}"
    name = hashlib.sha256(version.encode()).hexdigest()[:16]
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return False
    usable = folder.stat().st_uid == os.getuid() and os.access(folder, os.W_OK)
    return str(folder / f"grammar-{name}.tables") if usable else False


@cache
def _vocabulary() -> Vocabulary:
    return Vocabulary.of(
        (terminal.name, terminal.pattern.to_regexp(), terminal.pattern.type == "str")
        for terminal in _parser().terminals
    )
