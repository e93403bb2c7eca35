"""Fitting arguments to declared shapes: which of the caller's dims each declared dim is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from seqdsl.syntax import ast


@dataclass(frozen=True)
class Fitted:
    """`pairs` maps each declared item to a dim of the argument; `rest` are the others."""

    pairs: tuple[tuple[ast.DimItem, str], ...]
    rest: tuple[str, ...]


def fit(
    items: Sequence[ast.DimItem],
    actual: Sequence[str],
    bound: Mapping[str, str],
    extra: bool,
    fail: Callable[[str], Exception],
) -> Fitted:
    """Match declared dims with the dims of an argument.

    First dims that are already bound, then dims of the same name, then what is left,
    in order from the right. `extra` allows dims that nothing declares; a `...` in `items` does too.
    `fail` makes the exception to raise from a text.
    """
    declared = [item for item in items if item.expr is not None]
    extra = extra or len(declared) < len(items)
    free = list(actual)
    found: dict[int, str] = {}
    for i, item in enumerate(declared):
        known = bound.get(item_name(item))
        if known is not None:
            if known not in free:
                raise fail(f"its dim `{item_name(item)}` is `{known}` here")
            found[i] = known
            free.remove(known)
    for i, item in enumerate(declared):
        if i not in found and item_name(item) in free:
            found[i] = item_name(item)
            free.remove(item_name(item))
    left = [i for i in range(len(declared)) if i not in found]
    if len(left) > len(free) or (len(left) < len(free) and not extra):
        raise fail("")
    taken = free[len(free) - len(left) :]
    found.update(zip(left, taken, strict=True))
    rest = tuple(d for d in actual if d not in found.values())
    return Fitted(tuple((declared[i], found[i]) for i in sorted(found)), rest)


def item_name(item: ast.DimItem) -> str:
    """What a declared dim is called: `K`, `4`, or the name after `as`."""
    if item.rename is not None:
        return item.rename
    match item.expr:
        case ast.Name(id=name):
            return name
        case ast.Number(text=text):
            return text
        case _:
            return ""


def shape_text(items: Sequence[ast.DimItem]) -> str:
    """`[heads, K]` as declared."""
    return f"[{', '.join(item_name(i) if i.expr else '...' for i in items)}]"
