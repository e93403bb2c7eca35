"""Why a line is wrong, in the writer's terms: a table of rules, first match wins."""

from __future__ import annotations

from collections.abc import Callable

from seqdsl.diagnostics import Diagnostic
from seqdsl.syntax.mistakes import expressions, habits, headers, statements, types
from seqdsl.syntax.mistakes.failure import Failure

RULES: tuple[Callable[[Failure], Diagnostic | None], ...] = (
    habits.comment,
    habits.statement,
    habits.word,
    expressions.redim,
    statements.reserved_target,
    statements.augmented,
    headers.missing_type_of_extern,
    headers.missing_parentheses,
    headers.result_type,
    headers.typed_option,
    headers.missing_colon,
    headers.inline_block,
    headers.several_imports,
    types.missing_type,
    types.not_a_type,
    types.missing_per,
    expressions.slice_,
    statements.target,
    expressions.equals,
    expressions.missing_else,
    expressions.several,
    statements.several_results,
    statements.reserved_name,
    statements.missing_name,
    expressions.missing_value,
    expressions.nothing_between,
)


def explain(failure: Failure) -> Diagnostic:
    """The diagnostic of a line that the grammar refuses."""
    for rule in RULES:
        if (found := rule(failure)) is not None:
            return found
    return _misplaced(failure)


_SPELLED = {
    "NAME": "a name",
    "NEWLINE": "the end of the line",
    "LPAR": "`(`",
    "RPAR": "`)`",
    "LSQB": "`[`",
    "RSQB": "`]`",
    "COLON": "`:`",
    "COMMA": "`,`",
    "DOT": "`.`",
    "EQUAL": "`=`",
    "TILDE": "`~`",
    "ARROW": "`->`",
    "AS": "`as`",
    "IN": "`in`",
    "ELSE": "`else`",
}


def _misplaced(failure: Failure) -> Diagnostic:
    spelled = sorted(
        _SPELLED.get(kind, f"`{kind.lower()}`") for kind in failure.accepts
    )
    if 0 < len(spelled) <= 4:
        listed = " or ".join((", ".join(spelled[:-1]), spelled[-1]))
        advice = f"{listed.removeprefix(' or ')} is expected here"
    elif "NEWLINE" in failure.accepts:
        advice = "remove it, or end the statement before it"
    else:
        advice = "remove it, or complete what stands before it"
    return failure.error("E0049", f"{failure.shown} cannot stand here", advice)
