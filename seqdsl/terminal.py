"""Characters on a terminal: how they look, and how many columns they take."""

from __future__ import annotations

import unicodedata

TAB = 4


def visible(text: str) -> str:
    """`text` on one line, with control characters made visible and tabs kept."""
    return "".join(map(_visible_char, text))


def _visible_char(char: str) -> str:
    code = ord(char)
    if char == "\t" or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Zl", "Zp"):
        return char
    if code < 32:
        return chr(0x2400 + code)
    return "␡" if code == 127 else f"<U+{code:04X}>"


def cells(text: str) -> int:
    """Columns of a terminal that `text` (without tabs) takes."""
    return sum(
        0
        if unicodedata.combining(char)
        else 2
        if unicodedata.east_asian_width(char) in "WF"
        else 1
        for char in text
    )


def expand(text: str) -> tuple[str, list[int]]:
    """Printable form of a source line, and the column at which each character begins."""
    shown: list[str] = []
    columns: list[int] = []
    at = 0
    for char in text:
        columns.append(at)
        new = " " * (TAB - at % TAB) if char == "\t" else _visible_char(char)
        shown.append(new)
        at += cells(new)
    columns.append(at)
    return "".join(shown), columns


def window(text: str, first: int, last: int, width: int) -> tuple[str, int]:
    """The part of a long `text` that holds columns first … last, and its offset."""
    if cells(text) <= width:
        return text, 0
    room = width - 2
    # the marked part in view, with as much of what stands before it as fits
    start = max(0, min(first - room // 4, max(first, last) - room + room // 4))
    if start <= 1:
        return _cut(text, 0, width - 1) + "…", 0
    part = _cut(text, start, start + room)
    more = "…" if cells(text) > start + room else ""
    return f"…{part}{more}", start - 1


def _cut(text: str, start: int, stop: int) -> str:
    """Columns start … stop of `text`; a wide character cut in half becomes spaces."""
    out: list[str] = []
    at = 0
    for char in text:
        wide = cells(char)
        inside = max(0, min(at + wide, stop) - max(at, start))
        if wide == 0:
            out.append(char if start <= at <= stop else "")
        else:
            out.append(char if inside == wide else " " * inside)
        at += wide
    return "".join(out)
