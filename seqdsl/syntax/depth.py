"""The limit on nesting, which lets every later stage recurse over a spec."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from seqdsl.diagnostics import Diagnostic
from seqdsl.syntax import ast

LIMIT = 100


def too_deep(declarations: tuple[ast.Decl, ...]) -> list[Diagnostic]:
    """One diagnostic for each statement or header that nests deeper than `LIMIT`."""
    return [
        problem
        for declaration in declarations
        if (problem := _too_deep(declaration)) is not None
    ]


def _too_deep(declaration: ast.Decl) -> Diagnostic | None:
    pending: list[tuple[ast.Ast, int]] = [(declaration, 0)]
    while pending:
        node, depth = pending.pop()
        if depth > LIMIT:
            return _diagnostic(node)
        for child in _children(node):
            # A text cannot nest deeper than it has characters: most end here.
            if depth + child.span.end - child.span.start > LIMIT:
                pending.append((child, depth + 1))
    return None


def _children(node: ast.Ast) -> Iterator[ast.Ast]:
    for field in fields(node):
        value = getattr(node, field.name)
        if isinstance(value, ast.Ast):
            yield value
        elif isinstance(value, tuple):
            for entry in value:  # pyright: ignore
                if isinstance(entry, ast.Ast):
                    yield entry


def _diagnostic(node: ast.Ast) -> Diagnostic:
    return Diagnostic(
        "E0045",
        f"this is nested more than {LIMIT} deep",
        node.span,
        help=("give parts of it names in equations of their own",),
    )
