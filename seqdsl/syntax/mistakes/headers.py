"""Mistakes in the headers of layers, defs, externs and repeats."""

from __future__ import annotations

from seqdsl.diagnostics import Diagnostic
from seqdsl.syntax.mistakes.failure import Failure

_BLOCKS = ("LAYER", "DEF", "MONOID", "REPEAT")


def missing_type_of_extern(failure: Failure) -> Diagnostic | None:
    """`extern f(x: [D])`."""
    if failure.first != "EXTERN" or failure.open or "ARROW" not in failure.accepts:
        return None
    return failure.error(
        "E0022",
        "this extern does not say what it returns",
        "add the type of its result: `extern f(x: [D]) -> [H]`",
    )


def missing_parentheses(failure: Failure) -> Diagnostic | None:
    """`layer A:`."""
    if failure.first not in ("LAYER", "DEF", "MONOID", "EXTERN") or failure.open:
        return None
    if "LPAR" not in failure.accepts or failure.wants_value or failure.wants_type:
        return None
    word = failure.tokens[0].text
    return failure.error(
        "E0021",
        f"the parentheses of this {word} are missing",
        f"write `{word} {failure.tokens[1].text}():`, with its "
        f"{'options' if word == 'layer' else 'arguments'} between them",
        span=failure.tokens[failure.index - 1].span,
    )


def result_type(failure: Failure) -> Diagnostic | None:
    """`def f(x: [D]) -> [H]:`."""
    if failure.token.type != "ARROW" or failure.first not in _BLOCKS or failure.open:
        return None
    return failure.error(
        "E0049",
        f"a {failure.tokens[0].text} does not declare what it returns",
        "remove `->` and what follows, up to the `:`; the compiler finds the type",
    )


def typed_option(failure: Failure) -> Diagnostic | None:
    """`layer A(D: int):`."""
    inside = len(failure.open) == 1 and failure.open[0].type == "LPAR"
    if failure.first != "LAYER" or not inside or failure.token.type != "COLON":
        return None
    return failure.error(
        "E0049",
        "an option of a layer has no type",
        "remove the `:` and the type; `D = 64` gives a default",
    )


def missing_colon(failure: Failure) -> Diagnostic | None:
    """`layer A(D)`, `repeat n in N`."""
    if failure.first not in _BLOCKS or failure.open or "COLON" not in failure.accepts:
        return None
    if failure.first == "REPEAT" and failure.token.type != "NEWLINE":
        return None
    return failure.error(
        "E0020",
        f"the `:` that ends the header of this {failure.tokens[0].text} is missing",
        "end the line with `:` and write the body indented on the lines below",
    )


def several_imports(failure: Failure) -> Diagnostic | None:
    """`import std.gla, std.gru`."""
    if failure.first != "IMPORT" or failure.token.type != "COMMA":
        return None
    return failure.error(
        "E0034", "an `import` line imports one file", "write one `import` line for each"
    )


def inline_block(failure: Failure) -> Diagnostic | None:
    """`layer A(D): output x`."""
    before = failure.before
    if failure.first not in _BLOCKS or before is None or before.type != "COLON":
        return None
    if failure.open or failure.accepts != frozenset({"NEWLINE"}):
        return None
    return failure.error(
        "E0016",
        "a block starts on the line below its header",
        "move this to the next line and indent it",
    )
