"""Python expressions as data, and how they are laid out on lines of 88 columns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

WIDTH = 88


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

_LEVELS = {
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
_TIGHT = 20


def _level(expr: Expr) -> int:
    match expr:
        case Binary(op=op):
            return _LEVELS[op]
        case Unary(op=op):
            return _LEVELS["neg" if op == "-" else op]
        case Atom(text=text):
            return _LEVELS["neg"] if text.startswith("-") else _TIGHT
        case Invoke() | Attribute() | Item() | Sequence_() | Each():
            return _TIGHT


def one_line(expr: Expr, least: int = 0) -> str:
    """`expr` on one line, in parentheses where it binds less than `least`."""
    text = _bare(expr)
    return f"({text})" if _level(expr) < least else text


def _bare(expr: Expr) -> str:
    match expr:
        case Atom(text=text):
            return text
        case Invoke(function=function):
            inside = _joined(_arguments(expr))
            return f"{one_line(function, _TIGHT)}({inside})"
        case Attribute(value=value, name=name):
            return f"{one_line(value, _TIGHT)}.{name}"
        case Item(value=value, index=index):
            return f"{one_line(value, _TIGHT)}[{index}]"
        case Unary(op=op, value=value):
            space = " " if op == "not" else ""
            return f"{op}{space}{one_line(value, _level(expr))}"
        case Binary(op=op, left=left, right=right):
            level = _LEVELS[op]
            # comparisons chain in Python and `**` groups to the right
            a = level + 1 if op == "**" or level == _LEVELS["<"] else level
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


def _arguments(call: Invoke) -> list[tuple[str, Expr]]:
    """Arguments, each with the `name=` in front of it."""
    named = ((f"{name}=", value) for name, value in call.keywords)
    return [*(("", arg) for arg in call.args), *named]


def _joined(arguments: Sequence[tuple[str, Expr]]) -> str:
    return ", ".join(f"{lead}{one_line(value)}" for lead, value in arguments)


def layout(
    head: str, expr: Expr, tail: str = "", indent: int = 0, bracketed: bool = False
) -> list[str]:
    """`head expr tail` as lines that fit the width where they can."""
    pad = " " * indent
    line = f"{pad}{head}{one_line(expr)}{tail}"
    if len(line) <= WIDTH:
        return [line]
    match expr:
        case Invoke(function=Attribute(value=Invoke() as value, name=name)) if (
            len(one_line(expr)) - len(one_line(value)) < 40
        ):
            inside = _joined(_arguments(expr))
            return layout(head, value, f".{name}({inside}){tail}", indent, bracketed)
        case Invoke(function=Attribute(value=Binary() | Unary() as value, name=name)):
            inside = _joined(_arguments(expr))
            return _parenthesized(head, value, f".{name}({inside}){tail}", indent)
        case Invoke(function=function):
            opened = f"{pad}{head}{one_line(function, _TIGHT)}("
            return _spread(opened, _arguments(expr), f"){tail}", indent)
        case Sequence_(items=items, square=square):
            brackets = "[]" if square else "()"
            listed = [("", item) for item in items]
            opened = f"{pad}{head}{brackets[0]}"
            return _spread(opened, listed, f"{brackets[1]}{tail}", indent)
        case Item(value=value, index=index):
            return _suffixed(head, value, f"[{index}]{tail}", indent, bracketed)
        case Attribute(value=value, name=name):
            return _suffixed(head, value, f".{name}{tail}", indent, bracketed)
        case Binary() if bracketed:
            return _operands(head, expr, tail, indent)
        case Unary(op=op, value=value) if bracketed:
            space = " " if op == "not" else ""
            lead = f"{head}{op}{space}"
            if _level(value) < _level(expr):
                return _parenthesized(lead, value, tail, indent)
            return layout(lead, value, tail, indent, bracketed)
        case Binary() | Unary():
            return _parenthesized(head, expr, tail, indent)
        case Each(value=value, loop=loop):
            inner = layout("", value, "", indent + 4, bracketed=True)
            return [f"{pad}{head}[", *inner, f"{pad}    {loop}", f"{pad}]{tail}"]
        case Atom():
            return [line]
    assert_never(expr)


def _suffixed(
    head: str, value: Expr, tail: str, indent: int, bracketed: bool
) -> list[str]:
    """What is indexed, then the index."""
    if isinstance(value, Binary | Unary):
        return _parenthesized(head, value, tail, indent)
    return layout(head, value, tail, indent, bracketed)


def _parenthesized(head: str, expr: Expr, tail: str, indent: int) -> list[str]:
    """`expr` on lines of its own between parentheses."""
    pad = " " * indent
    inner = layout("", expr, "", indent + 4, bracketed=True)
    return [f"{pad}{head}(", *inner, f"{pad}){tail}"]


def _spread(
    opened: str, items: Sequence[tuple[str, Expr]], closed: str, indent: int
) -> list[str]:
    """Items on the next line, or on lines of their own."""
    pad = " " * indent
    together = f"{pad}    {_joined(items)}"
    if len(together) <= WIDTH:
        return [opened, together, f"{pad}{closed}"]
    inside: list[str] = []
    for lead, item in items:
        alone = len(items) == 1 and isinstance(item, Binary)
        comma = "" if alone else ","
        keyword = isinstance(item, Binary | Unary) and bool(lead)
        inside += layout(lead, item, comma, indent + 4, bracketed=not keyword)
    return [opened, *inside, f"{pad}{closed}"]


def _operands(head: str, expr: Binary, tail: str, indent: int) -> list[str]:
    """A chain of operators of one level, a line for each operand."""
    level = _LEVELS[expr.op]
    links: list[tuple[str, Expr]] = []
    first: Expr = expr
    while isinstance(first, Binary) and _LEVELS[first.op] == level:
        links.append((f"{first.op} ", first.right))
        first = first.left
    chain = [(head, first), *reversed(links)]
    lines: list[str] = []
    for number, (lead, operand) in enumerate(chain):
        end = tail if number + 1 == len(chain) else ""
        least = level if number == 0 else level + 1
        if _level(operand) < least:
            text = f"{' ' * indent}{lead}({one_line(operand)}){end}"
            if len(text) <= WIDTH:
                lines.append(text)
            else:
                inner = layout("", operand, "", indent + 4, bracketed=True)
                pad = " " * indent
                lines += [f"{pad}{lead}(", *inner, f"{pad}){end}"]
        else:
            lines += layout(lead, operand, end, indent, bracketed=True)
    return lines


# ---- Short forms


def name(text: str) -> Atom:
    """A name or dotted path."""
    return Atom(text)


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
