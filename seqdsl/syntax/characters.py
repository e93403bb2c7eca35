"""Diagnostics about single characters, words and brackets."""

from __future__ import annotations

import unicodedata

from seqdsl.diagnostics import Diagnostic, Label
from seqdsl.source import Span

_OPERATORS = {
    "^": ("`^` is not a power", "write `a ** b` for a power"),
    "@": (
        "`@` is not an operator here",
        "write `dot[K](a, b)` to contract the dim K of two values",
    ),
    "&": ("`&` is not an operator here", "write `a and b`"),
    "|": ("`|` is not an operator here", "write `a or b`"),
    "!": ("`!` is not an operator here", "write `not a`, or `a != b`"),
    "?": ("`?` is not an operator here", "write `a if condition else b`"),
    ";": (
        "`;` does not separate statements",
        "write one statement a line, without `;`",
    ),
    "{": ("braces do not stand for blocks", "end the header with `:` and indent"),
    "}": ("braces do not stand for blocks", "end the header with `:` and indent"),
    "\\": (
        "`\\` does not continue a line",
        "put the expression in parentheses: inside them it may take several lines",
    ),
}
_LOOKALIKES = {
    "−": "-",
    "–": "-",
    "—": "-",
    "×": "*",
    "·": "*",
    "⋅": "*",
    "∗": "*",
    "⊙": "*",
    "⊗": "*",
    "∘": "*",
    "÷": "/",
    "≤": "<=",
    "≥": ">=",
    "≠": "!=",
    "←": "=",
    "→": "->",
    "∼": "~",
    "∞": "inf",
    "∧": "and",
    "∨": "or",
    "¬": "not",
    "²": "** 2",
    "³": "** 3",
    "…": "...",
    "（": "(",
    "）": ")",
    "，": ",",
    "：": ":",
    "\u00a0": "an ordinary space",
}
_CONTROLS = {"\r": "carriage return", "\v": "vertical tab", "\f": "form feed"}
_QUOTES = "\"'`“”‘’„«»"


def check(kind: str, span: Span) -> Diagnostic | None:
    """What is wrong with an unknown character, a name or a number, if anything."""
    text = span.text
    match kind:
        case "NAME" if not text.isidentifier():
            # `\w` in the grammar also takes signs such as `²`.
            bad = next(i for i in range(len(text)) if not text[: i + 1].isidentifier())
            start = span.start + bad
            return _unknown(Span(span.source, start, start + 1))
        case "NUMBER" if len(text) > 300 or float(text) == float("inf"):
            return Diagnostic(
                "E0005",
                "this number is too large",
                span,
                help=("write `inf` for infinity",),
            )
        case "UNKNOWN":
            return _unknown(span)
        case _:
            return None


def _unknown(span: Span) -> Diagnostic:
    char = span.text
    if char in _OPERATORS:
        message, advice = _OPERATORS[char]
        return Diagnostic("E0007", message, span, help=(advice,))
    if char in _QUOTES:
        return _quote(span)
    name = unicodedata.name(char, "").lower() or _CONTROLS.get(char, ascii(char))
    shown = f"`{char}` ({name})" if char.isprintable() else f"a {name}"
    if char in _LOOKALIKES:
        meant = _LOOKALIKES[char]
        advice = f"write {meant if ' s' in meant else f'`{meant}`'} instead"
    else:
        advice = "names are made of letters, digits and `_`; remove it"
    return Diagnostic(
        "E0001", f"{shown} has no meaning in a spec", span, help=(advice,)
    )


def _quote(span: Span) -> Diagnostic:
    if span.text == '"':
        end = span.start + len(span.source.text[span.start :].splitlines()[0])
        return Diagnostic(
            "E0002",
            'this text has no closing `"` on its line',
            Span(span.source, span.start, end),
            help=('end it with `"`; a comment starts with `#`',),
        )
    return Diagnostic(
        "E0002",
        f"`{span.text}` does not quote text",
        span,
        help=('use double quotes: `"circular"`',),
    )


def never_closed(opener: Span) -> Diagnostic:
    """A bracket that is open where its statement ends."""
    closer = ")" if opener.text == "(" else "]"
    return Diagnostic(
        "E0003",
        f"this `{opener.text}` is never closed",
        opener,
        help=(f"add the missing `{closer}`",),
    )


def closes_nothing(closer: Span, opener: Span | None) -> Diagnostic:
    """A closing bracket without an opening one, or after one of the other kind."""
    if opener is None:
        return Diagnostic(
            "E0004",
            f"this `{closer.text}` closes nothing",
            closer,
            help=("remove it, or add the bracket that it closes",),
        )
    return Diagnostic(
        "E0004",
        f"`{closer.text}` cannot close `{opener.text}`",
        closer,
        labels=(Label(opener, "opened here"),),
        help=(f"write `{')' if opener.text == '(' else ']'}` here",),
    )


def not_text(span: Span) -> Diagnostic:
    """A byte that is not UTF-8, or a NUL."""
    return Diagnostic(
        "E0006",
        "the file is not UTF-8 text: it has a byte here that is no character",
        span,
        help=("save the file as UTF-8",),
    )
