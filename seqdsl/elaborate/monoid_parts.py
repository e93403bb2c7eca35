"""The declaration of a monoid, taken apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from seqdsl.elaborate.context import Context
from seqdsl.source import Span
from seqdsl.syntax import ast

PAIR = ("first", "second")
"""What two elements in a row are called."""


@dataclass(frozen=True)
class Parts:
    """A declaration taken apart: states it acts on, fields of an element, results."""

    states: tuple[ast.ArgDecl, ...]
    fields: tuple[ast.ArgDecl, ...]
    results: tuple[ast.Expr, ...]
    equations: Mapping[str, ast.Equation]

    @property
    def free(self) -> bool:
        """Whether the states are an element themselves."""
        return not self.states

    @property
    def before(self) -> tuple[ast.ArgDecl, ...]:
        """What a call gives first."""
        return self.states or self.fields


def parts_of(ctx: Context, decl: ast.MonoidDecl) -> Parts:
    """E0122 where the declaration lacks something or holds what it cannot hold."""

    def wrong(why: str, span: Span, *help_: str) -> Exception:
        return ctx.fail("E0122", f"the monoid `{decl.name}` {why}", span, *help_)

    for arg in decl.args:
        if arg.type is None or arg.name in PAIR:
            why = "takes no argument of this name" if arg.type else "needs a type here"
            raise wrong(why, arg.span, "write `m: [] = -inf`")
    states = tuple(a for a in decl.args if a.default is None)
    fields = tuple(a for a in decl.args if a.default is not None)
    if not fields:
        raise wrong(
            "has no fields",
            decl.header,
            "give an element's fields with the value that changes nothing: `w: [V] = 0`",
        )
    equations: dict[str, ast.Equation] = {}
    results: list[ast.Expr] = []
    for statement in decl.body:
        match statement:
            case ast.Equation(targets=(target,)) if target.id in equations:
                raise wrong(f"defines `{target.id}` twice", statement.span)
            case ast.Equation(targets=(target,)):
                equations[target.id] = statement
            case ast.DimStmt():
                pass
            case ast.Result(value=value):
                results.append(value)
            case _:
                raise wrong("holds dims, equations and results only", statement.span)
    for arg in fields:
        if arg.name not in equations:
            why = f"does not say what `{arg.name}` of two elements in a row is"
            help_ = f"add `{arg.name} = …` of `first.{arg.name}`, `second.{arg.name}`"
            raise wrong(why, arg.span, help_)
    if len(results) != len(states):
        count = len(states)
        why = f"acts on {count} states and has {len(results)} results"
        help_ = (
            "end it with one line for each argument that has no default: its new value"
        )
        raise wrong(why, decl.header, help_)
    return Parts(states, fields, tuple(results), equations)
