"""Mistakes in the types of inputs, states, parameters and arguments."""

from __future__ import annotations

from seqdsl.diagnostics import Diagnostic
from seqdsl.syntax.mistakes.failure import CLOSERS, Failure

_DTYPES = ("float", "int", "bool", "complex")


def missing_type(failure: Failure) -> Diagnostic | None:
    """`state h = 0`, `input x [D]`, `def f(x [D]):`, `param W: = 0`."""
    if failure.wants_type and failure.token.type in CLOSERS | {"EQUAL", "TILDE"}:
        return failure.error(
            "E0022",
            "there is no type after `:`",
            "write a shape such as `[H, K]`, with `[]` for a scalar, or `int`",
            span=failure.before.span if failure.before else None,
        )
    declares = failure.first in ("INPUT", "STATE", "PARAM") and failure.index == 2
    argument = len(failure.open) == 1 and failure.first in ("DEF", "MONOID", "EXTERN")
    if "COLON" not in failure.accepts or failure.before is None:
        return None
    if not declares and not (argument and failure.token.type in ("LSQB", *_KINDS)):
        return None
    name = failure.before.text
    if failure.token.type in ("LSQB", *_KINDS):
        return failure.error(
            "E0022",
            f"there is no `:` between `{name}` and its type",
            f"write `{name}: {failure.token.text}…`",
        )
    return failure.error(
        "E0022",
        f"`{name}` has no type",
        f"write `{failure.tokens[0].text} {name}: [H]`, with `[]` for a scalar",
        span=failure.before.span,
    )


_KINDS = tuple(dtype.upper() for dtype in _DTYPES)


def not_a_type(failure: Failure) -> Diagnostic | None:
    """`param W: H, D`, `x: float32`, `x: (H, D)`."""
    if not failure.wants_type:
        return None
    text = failure.token.text
    near = next((dtype for dtype in _DTYPES if text.startswith(dtype)), None)
    if near:
        advice = f"write `{near}`: the precision is chosen when the layer is made"
    elif failure.token.type in ("NAME", "NUMBER"):
        advice = f"write `[{text}]`, or one of `float`, `int`, `bool`, `complex`"
    else:
        advice = "put the dims between `[` and `]`"
    return failure.error(
        "E0023", f"expected a shape such as `[H, K]` {failure.after}", advice
    )


def missing_per(failure: Failure) -> Diagnostic | None:
    """`input c: [D] batch`."""
    if "PER" not in failure.accepts or failure.token.type != "NAME":
        return None
    return failure.error(
        "E0024",
        f"`{failure.token.text}` cannot follow the type of an input",
        "write `per batch` or `per call`; without it there is one value a step",
    )
