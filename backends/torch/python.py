"""Python expressions as data."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never


@dataclass(frozen=True, slots=True)
class Atom:
    """A name, literal or dotted path, written as it stands."""

    text: str


@dataclass(frozen=True, slots=True)
class Invoke:
    """`function(args, keywords)`."""

    function: Expr
    args: tuple[Expr, ...] = ()
    keywords: tuple[tuple[str, Expr], ...] = ()


@dataclass(frozen=True, slots=True)
class Attribute:
    """`value.name`."""

    value: Expr
    name: str


@dataclass(frozen=True, slots=True)
class Item:
    """`value[index]`, the index as text."""

    value: Expr
    index: str


@dataclass(frozen=True, slots=True)
class Binary:
    """`left op right`."""

    op: str
    left: Expr
    right: Expr


@dataclass(frozen=True, slots=True)
class Unary:
    """`-value`, `~value` or `not value`."""

    op: str
    value: Expr


@dataclass(frozen=True, slots=True)
class Sequence_:
    """`(a, b)` or `[a, b]`."""

    items: tuple[Expr, ...]
    square: bool = False


@dataclass(frozen=True, slots=True)
class Each:
    """`[value for … in …]`."""

    value: Expr
    loop: str


Expr = Each | Atom | Invoke | Attribute | Item | Binary | Unary | Sequence_


LEVELS = {
    op: level
    for level, ops in enumerate(
        (
            ("or",),
            ("and",),
            ("not",),
            ("<", "<=", ">", ">=", "==", "!=", "is", "is not"),
            ("|",),
            ("&",),
            ("+", "-"),
            ("*", "/", "//", "%", "@"),
            ("neg", "~"),
            ("**",),
        ),
        start=1,
    )
    for op in ops
}


TIGHT = 20


def level_of(expr: Expr) -> int:
    match expr:
        case Binary(op=op):
            return LEVELS[op]
        case Unary(op=op):
            return LEVELS["neg" if op == "-" else op]
        case Atom(text=text):
            return LEVELS["neg"] if text.startswith("-") else TIGHT
        case Invoke() | Attribute() | Item() | Sequence_() | Each():
            return TIGHT


def one_line(expr: Expr, least: int = 0) -> str:
    """`expr` on one line, in parentheses where it binds less than `least`."""
    text = _bare(expr)
    return f"({text})" if level_of(expr) < least else text


def _bare(expr: Expr) -> str:
    match expr:
        case Atom(text=text):
            return text
        case Invoke(function=function):
            inside = joined(arguments(expr))
            return f"{one_line(function, TIGHT)}({inside})"
        case Attribute(value=value, name=name):
            return f"{one_line(value, TIGHT)}.{name}"
        case Item(value=value, index=index):
            return f"{one_line(value, TIGHT)}[{index}]"
        case Unary(op=op, value=value):
            space = " " if op == "not" else ""
            return f"{op}{space}{one_line(value, level_of(expr))}"
        case Binary(op=op, left=left, right=right):
            level = LEVELS[op]
            # comparisons chain in Python and `**` groups to the right
            a = level + 1 if op == "**" or level == LEVELS["<"] else level
            b = level if op == "**" else level + 1
            return f"{one_line(left, a)} {op} {one_line(right, b)}"
        case Sequence_(items=items, square=square):
            inside = ", ".join(map(one_line, items))
            if square:
                return f"[{inside}]"
            return f"({inside},)" if len(items) == 1 else f"({inside})"
        case Each(value=value, loop=loop):
            return f"[{one_line(value)} {loop}]"
    assert_never(expr)


def arguments(call: Invoke) -> list[tuple[str, Expr]]:
    """Arguments, each with the `name=` in front of it."""
    named = ((f"{name}=", value) for name, value in call.keywords)
    return [*(("", arg) for arg in call.args), *named]


def joined(arguments: Sequence[tuple[str, Expr]]) -> str:
    return ", ".join(f"{lead}{one_line(value)}" for lead, value in arguments)


def name(text: str) -> Atom:
    """A name or dotted path."""
    return Atom(text)


def quoted(text: str) -> str:
    """A string literal that holds `text`, whatever is in it."""
    return json.dumps(text, ensure_ascii=False)


def number(value: float | bool) -> Expr:
    """A literal; infinities by way of `math`."""
    if math.isnan(value):
        return Atom("math.nan")
    if math.isinf(value):
        return Atom("math.inf") if value > 0 else Unary("-", Atom("math.inf"))
    return Atom(repr(value))


def call(
    function: str, *args: Expr | str | int, **keywords: Expr | str | int
) -> Invoke:
    """`function(args)`; texts and ints stand for themselves."""
    named = tuple((key, _expr(value)) for key, value in keywords.items())
    return Invoke(Atom(function), tuple(map(_expr, args)), named)


def method(
    value: Expr, name: str, *args: Expr | str | int, **keywords: Expr | str | int
) -> Invoke:
    """`value.name(args)`."""
    named = tuple((key, _expr(v)) for key, v in keywords.items())
    return Invoke(Attribute(value, name), tuple(map(_expr, args)), named)


def _expr(value: Expr | str | int) -> Expr:
    return Atom(str(value)) if isinstance(value, str | int) else value


def tuple_of(items: Sequence[Expr | str | int]) -> Sequence_:
    """`(a, b)`."""
    return Sequence_(tuple(map(_expr, items)))


def list_of(items: Sequence[Expr | str | int]) -> Sequence_:
    """`[a, b]`."""
    return Sequence_(tuple(map(_expr, items)), square=True)


def uses(expr: Expr, text: str) -> bool:
    """Whether the printed form mentions `text`."""
    return text in one_line(expr)
