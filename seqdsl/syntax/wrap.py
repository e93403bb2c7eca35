"""Expressions that do not fit on a line, broken at brackets and operators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from seqdsl.syntax import ast
from seqdsl.syntax.format_expressions import (
    STEP,
    WIDTH,
    Part,
    brackets,
    format_expr,
    format_part,
    level_of,
    sides,
)


@dataclass(frozen=True)
class Place:
    """Where a text starts: the indentation of its line, its column, what follows it.

    `inside` says whether brackets are open, so that a line may end anywhere.
    """

    indent: int
    column: int
    tail: int = 0
    inside: bool = False

    def fits(self, text: str) -> bool:
        """Whether a one-line text stays within the width."""
        return self.column + len(text) + self.tail <= WIDTH

    def after(self, text: str) -> Place:
        """The place behind a text on the same line."""
        return replace(self, column=self.column + len(text))


_CHAINS = (ast.Binary, ast.Compare, ast.Conditional)


def wrap(expr: ast.Expr, place: Place, level: int = 0) -> str:
    """An expression, over several lines if one is too short."""
    flat = format_expr(expr, level)
    if place.fits(flat):
        return flat
    open_ended = isinstance(expr, (*_CHAINS, ast.Unary)) and not place.inside
    if level_of(expr) < level or open_ended:
        deeper = place.indent + STEP
        inner = wrap(expr, Place(deeper, deeper, inside=True))
        return f"({_line(deeper)}{inner}{_line(place.indent)})"
    match expr:
        case ast.Unary(op=op, operand=operand):
            sign = "not " if op == "not" else op
            return sign + wrap(operand, place.after(sign), level_of(expr))
        case ast.Binary() | ast.Compare() | ast.Conditional():
            return _chain(_links(expr), place)
        case _:
            head, opening, parts, closing = brackets(expr)
            comma = not isinstance(expr, ast.Redim)
            return head + bracketed(opening, parts, closing, place.indent, comma)


def bracketed(
    opening: str, parts: Sequence[Part], closing: str, indent: int, comma: bool = True
) -> str:
    """A list between brackets, broken after the opening and before the closing one."""
    if not parts:
        return opening + closing
    deeper = Place(indent + STEP, indent + STEP, inside=True)
    texts = list(map(format_part, parts))
    if deeper.fits(", ".join(texts)):
        body = ", ".join(texts)
    else:
        texts = [_part(part, replace(deeper, tail=1)) for part in parts]
        body = ("," + _line(deeper.indent)).join(texts) + ("," if comma else "")
    return opening + _line(deeper.indent) + body + _line(indent) + closing


def _part(part: Part, place: Place) -> str:
    match part:
        case ast.Keyword(name=name, value=value):
            head = f"{name} = "
            return head + wrap(value, replace(place.after(head), inside=False))
        case ast.Item() | ast.DimItem() | ast.DimMap():
            return format_part(part)
        case _:
            return wrap(part, place)


def _links(
    expr: ast.Binary | ast.Compare | ast.Conditional,
) -> list[tuple[str, ast.Expr, int]]:
    """The operands of a chain, each with the sign before it and the level it needs."""
    match expr:
        case ast.Compare(ops=ops, operands=operands):
            signs = ["", *(f"{op} " for op in ops)]
            level = level_of(expr) + 1
            return [(s, o, level) for s, o in zip(signs, operands, strict=True)]
        case ast.Conditional(then=then, condition=condition, otherwise=otherwise):
            return [("", then, 1), ("if ", condition, 1), ("else ", otherwise, 0)]
        case ast.Binary(op=op, left=left, right=right):
            first, second = sides(expr)
            last = (f"{op} ", right, second)
            same = isinstance(left, ast.Binary) and level_of(left) == first
            if same and isinstance(left, ast.Binary):
                return [*_links(left), last]
            return [("", left, first), last]


def _chain(links: list[tuple[str, ast.Expr, int]], place: Place) -> str:
    here = Place(place.indent, place.indent, inside=True)
    texts: list[str] = []
    for number, (sign, operand, level) in enumerate(links):
        start = here if number else replace(place, tail=0)
        if isinstance(operand, _CHAINS):
            # A product in a sum is set deeper than the terms of the sum.
            start = replace(start, indent=place.indent + STEP)
        texts.append(sign + wrap(operand, start.after(sign), level))
    return _line(place.indent).join(texts)


def _line(indent: int) -> str:
    return "\n" + " " * indent
