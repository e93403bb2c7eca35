"""Mistakes inside expressions."""

from __future__ import annotations

from seqdsl.diagnostics import Diagnostic
from seqdsl.syntax.mistakes.failure import CLOSERS, OPERANDS, OPERATORS, Failure


def redim(failure: Failure) -> Diagnostic | None:
    """`x.(H)`, `x.(H, D -> K)`, `x.(H = J)`."""
    if "ARROW" not in failure.accepts or not failure.open:
        return None
    if failure.token.type in OPERANDS:
        return None
    return failure.error(
        "E0044",
        "a `.( )` says which dim becomes which",
        "write `x.(H -> J)`, `x.(D -> [heads, K])` or `x.([heads, K] -> D)`",
    )


def slice_(failure: Failure) -> Diagnostic | None:
    """`x[0:4]`; that of `x[K = 0:4]` is found when it is built."""
    if failure.token.type != "COLON" or not failure.in_square:
        return None
    return failure.error(
        "E0042",
        "a slice names the dim it cuts and the dim it makes",
        "write `x[K = 0:4 as J]`",
    )


def equals(failure: Failure) -> Diagnostic | None:
    """`while q = 0`, `a if b = c else d`, `x = y = z`."""
    if failure.token.type != "EQUAL" or not failure.after_value:
        return None
    chained = not failure.open and not any(
        token.type in ("IF", "WHILE") for token in failure.tokens[: failure.index]
    )
    return failure.error(
        "E0031",
        "a second `=` in one equation" if chained else "`=` does not compare",
        "write `==` to compare"
        + ("; write two equations to define two names" if chained else ""),
    )


def several(failure: Failure) -> Diagnostic | None:
    """`output a, b`, `x = a, b`, `(a, b)`."""
    if failure.token.type != "COMMA" or not failure.after_value:
        return None
    if failure.in_square:
        return None
    if failure.first == "OUTPUT" and not failure.open:
        return failure.error(
            "E0034",
            "an `output` line gives one output",
            "write one `output` line for each",
        )
    return failure.error(
        "E0034",
        "there are no tuples: an expression has one value",
        "write one equation for each value",
    )


def missing_else(failure: Failure) -> Diagnostic | None:
    """`a if b`."""
    if "ELSE" not in failure.accepts or failure.token.type in OPERANDS:
        return None
    asks = [token for token in failure.tokens[: failure.index] if token.type == "IF"]
    return failure.error(
        "E0041",
        "this `if` has no `else`",
        "write `a if condition else b`: a value is needed in both cases",
        span=asks[-1].span,
    )


def missing_value(failure: Failure) -> Diagnostic | None:
    """`h =`, `a +`, `f(a,, b)`, `* b`, `x[]`."""
    if not failure.wants_value or failure.token.type == "ELLIPSIS":
        return None
    before, token = failure.before, failure.token
    if before is None or (
        before.type in ("LPAR", "LSQB", "COMMA", "EQUAL") and token.type in OPERATORS
    ):
        text = f"`{token.text}` has nothing on its left"
        return failure.error("E0030", text, "write a value before it, or remove it")
    if before.type in OPERATORS:
        return failure.error(
            "E0030",
            f"`{before.text}` has nothing on its right",
            "write a value after it, or remove it",
            span=before.span,
        )
    if before.type in ("LPAR", "LSQB", "COMMA") and token.type in CLOSERS:
        return failure.error(
            "E0030",
            f"there is nothing between `{before.text}` and {failure.shown}",
            "write a value there",
            span=before.span.join(failure.place),
        )
    return failure.error(
        "E0030",
        f"there is no value {failure.after}",
        "write an expression there",
        span=before.span,
    )


def nothing_between(failure: Failure) -> Diagnostic | None:
    """`2 x`, `a b`, `f(a b)`, `[H K]`."""
    before, token = failure.before, failure.token
    if before is None or token.type not in OPERANDS or not failure.after_value:
        return None
    if before.type == "NUMBER" and failure.touches:
        advice = f"write `{before.text} * {token.text}` for a product"
    elif "COMMA" in failure.accepts and failure.open:
        advice = "write a comma or an operator between them"
    else:
        advice = "write an operator between them; a product needs its `*`"
    return failure.error(
        "E0040",
        f"there is nothing between `{before.text}` and `{token.text}`",
        advice,
    )
