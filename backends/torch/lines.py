"""How expressions are laid out on lines of 88 columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from seqdsl.backends.torch.python import (
    LEVELS,
    TIGHT,
    Atom,
    Attribute,
    Binary,
    Each,
    Expr,
    Invoke,
    Item,
    Sequence_,
    Unary,
    arguments,
    joined,
    level_of,
    one_line,
)

WIDTH = 88


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
            inside = joined(arguments(expr))
            return layout(head, value, f".{name}({inside}){tail}", indent, bracketed)
        case Invoke(function=function):
            opened = f"{pad}{head}{one_line(function, TIGHT)}("
            if len(opened) > WIDTH:
                return _narrowed(head, expr, tail, indent, bracketed)
            return _spread(opened, arguments(expr), f"){tail}", indent)
        case Sequence_(items=items, square=square):
            brackets = "[]" if square else "()"
            listed = [("", item) for item in items]
            opened = f"{pad}{head}{brackets[0]}"
            single = len(items) == 1 and not square
            return _spread(opened, listed, f"{brackets[1]}{tail}", indent, single)
        case Item(value=value, index=index):
            return _suffixed(head, value, f"[{index}]{tail}", indent, bracketed)
        case Attribute(value=value, name=name):
            return _suffixed(head, value, f".{name}{tail}", indent, bracketed)
        case Binary() if bracketed:
            return _operands(head, expr, tail, indent)
        case Unary(op=op, value=value) if bracketed:
            space = " " if op == "not" else ""
            lead = f"{head}{op}{space}"
            if level_of(value) < level_of(expr):
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


def _narrowed(
    head: str, expr: Invoke, tail: str, indent: int, bracketed: bool
) -> list[str]:
    """A call whose function alone does not fit behind `head`."""
    match expr.function:
        case Attribute(value=Binary() | Unary() as value, name=name):
            inside = joined(arguments(expr))
            return _parenthesized(head, value, f".{name}({inside}){tail}", indent)
        case _ if head and not bracketed:
            return _parenthesized(head, expr, tail, indent)
        case function:
            opened = f"{' ' * indent}{head}{one_line(function, TIGHT)}("
            return _spread(opened, arguments(expr), f"){tail}", indent)


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
    opened: str,
    items: Sequence[tuple[str, Expr]],
    closed: str,
    indent: int,
    single: bool = False,
) -> list[str]:
    """Items on the next line, or on lines of their own; `single`: a tuple of one."""
    pad = " " * indent
    together = f"{pad}    {joined(items)}{',' if single else ''}"
    if len(together) <= WIDTH:
        return [opened, together, f"{pad}{closed}"]
    inside: list[str] = []
    for lead, item in items:
        alone = len(items) == 1 and isinstance(item, Binary) and not single
        comma = "" if alone else ","
        keyword = isinstance(item, Binary | Unary) and bool(lead)
        inside += layout(lead, item, comma, indent + 4, bracketed=not keyword)
    return [opened, *inside, f"{pad}{closed}"]


def _operands(head: str, expr: Binary, tail: str, indent: int) -> list[str]:
    """A chain of operators of one level, a line for each operand."""
    level = LEVELS[expr.op]
    links: list[tuple[str, Expr]] = []
    first: Expr = expr
    # comparisons chain in Python and `**` groups to the right: one link at a time
    alone = level in (LEVELS["<"], LEVELS["**"])
    while isinstance(first, Binary) and LEVELS[first.op] == level:
        if alone and links:
            break
        links.append((f"{first.op} ", first.right))
        first = first.left
    chain = [(head, first), *reversed(links)]
    lines: list[str] = []
    for number, (lead, operand) in enumerate(chain):
        end = tail if number + 1 == len(chain) else ""
        if expr.op == "**":
            least = level + 1 if number == 0 else level
        else:
            least = level if number == 0 and not alone else level + 1
        if level_of(operand) < least:
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
