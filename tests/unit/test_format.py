"""The formatter: what it prints, that it loses nothing, that it settles at once."""

from __future__ import annotations

from textwrap import dedent

import pytest
from hypothesis import HealthCheck, given, settings

from seqdsl.source import Source
from seqdsl.syntax import ast
from seqdsl.syntax.format import format_expr, format_spec
from seqdsl.syntax.parse import parse, parse_expression
from seqdsl.testing.asts import expressions, specs

random_trees = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def formatted(text: str) -> str:
    """The canonical text, after the laws every formatting must obey."""
    spec = parse(Source("a.seq", text))
    once = format_spec(spec)
    again = parse(Source("a.seq", once))
    assert again == spec
    assert [c.span.text for c in again.comments] == [c.span.text for c in spec.comments]
    assert format_spec(again) == once
    return once


@random_trees
@given(specs)
def test_any_spec_survives_the_round_trip(spec: ast.Spec) -> None:
    text = format_spec(spec)
    again = parse(Source("a.seq", text))
    assert again == spec
    assert format_spec(again) == text


@random_trees
@given(expressions)
def test_any_expression_survives_the_round_trip(expr: ast.Expr) -> None:
    assert parse_expression(format_expr(expr)) == expr
