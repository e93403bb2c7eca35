"""Statements, words and comments of other languages."""

from __future__ import annotations

from seqdsl.diagnostics import Diagnostic
from seqdsl.source import Span
from seqdsl.syntax.mistakes.failure import Failure

_LAYER = "declare a `layer` (with parameters and state) or a `def` (a pure function)"
_CHOICE = "write `a if condition else b` as a value"
_BINDING = "write `name = value`"
_FUNCTION = "declare a pure function: `def name(x):`"
_RESULT = "end a `def` with the bare expression; in a `layer`, write `output x`"
_LOOP = "write `repeat n in N:` for a recurrence, or let a named dim do the loop"
_STATEMENTS = {
    "return": _RESULT,
    "yield": _RESULT,
    "class": _LAYER,
    "model": _LAYER,
    "module": _LAYER,
    "struct": _LAYER,
    "fn": _FUNCTION,
    "func": _FUNCTION,
    "function": _FUNCTION,
    "async": _FUNCTION,
    "from": "write `import std.gla: GLA`",
    "for": _LOOP,
    "while": "write `repeat n in N while condition:`",
    "if": _CHOICE,
    "elif": _CHOICE,
    "else": _CHOICE,
    "with": "write the equations without a surrounding block",
    "try": "write the equations without a surrounding block",
    "let": _BINDING,
    "var": _BINDING,
    "val": _BINDING,
    "const": _BINDING,
    "global": _BINDING,
    "nonlocal": _BINDING,
    "del": "leave it out: a name is defined once and stays",
    "assert": "leave it out: shapes are checked when the spec is compiled",
    "raise": "leave it out: a spec only defines values",
}
_WORDS = {
    "lambda": "declare a `def` and call it by its name",
    "for": "let a named dim do the loop: `sum[K](x)`",
    "is": "compare with `==`",
    "elif": _CHOICE,
    "await": "leave it out",
    "yield": _RESULT,
}


def statement(failure: Failure) -> Diagnostic | None:
    """`return x`, `for i in range(n):`, `class A:` and the like."""
    first = failure.tokens[0]
    # `var = 3` and `model(x)` are ordinary names, whatever is wrong further on.
    plain = failure.index == 1 and failure.token.type in ("EQUAL", "COLON", "LPAR")
    if plain and first.text not in ("else", "try"):
        return None
    if failure.index > 1 and first.type == "NAME":
        return None
    return statement_habit(first.text, failure.line.span)


def statement_habit(word: str, span: Span) -> Diagnostic | None:
    """The diagnostic of a statement that starts with a word of another language."""
    if word not in _STATEMENTS:
        return None
    return Diagnostic(
        "E0035",
        f"a spec has no `{word}` statement",
        Span(span.source, span.start, span.start + len(word)),
        help=(_STATEMENTS[word],),
    )


def word(failure: Failure) -> Diagnostic | None:
    """`lambda x: x`, `x for i in y`, `a is b` inside an expression."""
    for token in (failure.before, failure.token):
        if token is not None and token.type == "NAME" and token.text in _WORDS:
            return failure.error(
                "E0035",
                f"a spec has no `{token.text}`",
                _WORDS[token.text],
                span=token.span,
            )
    return None


def comment(failure: Failure) -> Diagnostic | None:
    """`// note`, `/* note`, `-- note` and strings in the place of comments."""
    line = failure.line.span
    marks = [t for t in failure.tokens[: failure.index + 1] if t.text == "//"]
    if marks and failure.token.text.isidentifier():
        return foreign_comment(Span(line.source, marks[0].span.start, line.end))
    return foreign_comment(line)


def foreign_comment(span: Span) -> Diagnostic | None:
    """The diagnostic of a line, or its end, that starts like a comment elsewhere."""
    if not span.text.startswith(("//", "/*", "--", '"')):
        return None
    return Diagnostic(
        "E0036", "this is not a comment", span, help=("start a comment with `#`",)
    )
