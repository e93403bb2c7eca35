"""Mistakes in what a statement defines: its names and the left of its `=`."""

from __future__ import annotations

from seqdsl.diagnostics import Diagnostic
from seqdsl.source import Span
from seqdsl.syntax.mistakes.failure import OPERATORS, Failure

# Words that take part in expressions; where they are wrong, a value is missing.
_INNER = OPERATORS | {"IF", "ELSE"}


def _reserved(failure: Failure, word: str, span: Span) -> Diagnostic:
    return failure.error(
        "E0025",
        f"`{word}` is a word of the language and cannot be a name",
        f"use another name, such as `{word}_`",
        span=span,
    )


def reserved_target(failure: Failure) -> Diagnostic | None:
    """`state = 0`, `input, h = f(x)`, `state + x`."""
    first = failure.tokens[0]
    if failure.index != 1 or first.type == "NAME" or not first.text.isidentifier():
        return None
    if failure.token.type not in OPERATORS | {"EQUAL", "COMMA", "DOT"}:
        return None
    return _reserved(failure, first.text, first.span)


def reserved_name(failure: Failure) -> Diagnostic | None:
    """`state input: [H]`, `linear(x, state)`."""
    token = failure.token
    reserved = token.text.isidentifier() and token.type not in _INNER | {"NAME"}
    if not reserved or "NAME" not in failure.accepts:
        return None
    return _reserved(failure, token.text, token.span)


def missing_name(failure: Failure) -> Diagnostic | None:
    """`layer (D):`, `import std.gla as`, `dim = 3`."""
    # `param` alone is an expression, so after it more than a name is accepted.
    unnamed = failure.index == 1 and failure.first == "PARAM"
    unnamed = unnamed and failure.token.type == "COLON"
    named = "NAME" not in failure.accepts or failure.wants_value
    if named and not unnamed:
        return None
    advice = "write the name first"
    if failure.token.type == "NUMBER" and not failure.open:
        advice = "start the name with a letter: a name cannot start with a digit"
    elif failure.before is not None and failure.before.type == "DOT":
        advice = "write a name after the `.`; a number needs a digit there: `3.0`"
    elif failure.token.type == "STRING":
        advice = "write the name without quotes"
    return failure.error("E0026", f"there is no name {failure.after}", advice)


def augmented(failure: Failure) -> Diagnostic | None:
    """`h += x`, `h := x`."""
    before = failure.before
    if failure.token.type != "EQUAL" or before is None or not failure.touches:
        return None
    if before.type not in ("SIGN", "TERM", "POWER", "COLON") or failure.open:
        return None
    sign = before.text + "="
    name = failure.tokens[0].text
    meant = (
        f"`{name} = …`" if sign == ":=" else f"`{name} = {name}[t-1] {before.text} …`"
    )
    return failure.error(
        "E0033",
        f"`{sign}` does not define a name",
        f"write {meant}: a name is defined once, by one equation",
        span=before.span.join(failure.token.span),
    )


def target(failure: Failure) -> Diagnostic | None:
    """`h[t] = x`, `f(x) = x`, `2 * h = x`."""
    earlier = {token.type for token in failure.tokens[: failure.index]}
    if failure.token.type != "EQUAL" or failure.open:
        return None
    if earlier & {"EQUAL", "TILDE", "IF", "WHILE"} or failure.first == "REPEAT":
        return None
    start = failure.tokens[1 if failure.first == "OUTPUT" else 0]
    left = start.span.join(failure.tokens[failure.index - 1].span)
    advice = "write a single name on the left: `h = …`"
    if failure.index > 1 and failure.tokens[1].type == "LSQB":
        advice = (
            f"write `{start.text} = …`: the bare name is the value at this step, "
            f"`{start.text}[t-1]` the one a step earlier"
        )
    return failure.error("E0032", "the left of `=` is not a name", advice, span=left)


def several_results(failure: Failure) -> Diagnostic | None:
    """`a, b` as the result of a def."""
    names = {token.type for token in failure.tokens[: failure.index]}
    if failure.token.type != "NEWLINE" or not names <= {"NAME", "COMMA"}:
        return None
    if failure.index < 2 or "COMMA" not in names:
        return None
    return failure.error(
        "E0034",
        "a def has one result",
        "declare one def for each value, or a layer with several outputs",
        span=failure.line.span,
    )
