"""The tables of operators in docs/language.md are those of the compiler.

With UPDATE_DOCS=1 in the environment they are written anew instead.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from seqdsl.elaborate.calls import BUILTINS
from seqdsl.elaborate.program import prelude
from seqdsl.ir.ops import ALONGS, MAPS, REDUCTIONS, AlongOp, MapOp, ReduceOp

PAGE = Path(__file__).parents[2] / "docs" / "language.md"


def table(head: str, rows: Iterable[str]) -> str:
    """A table of a page."""
    columns = head.count("|") + 1
    return "\n".join([f"| {head} |", "|" + " --- |" * columns, *rows])


def pointwise_row(row: MapOp) -> str:
    letters = ["a", "b", "c"][: row.arity]
    if row.symbol is None or row.name == "pow":
        written = f"{row.name}({', '.join(letters)})"
    elif row.arity == 1:
        written = f"{row.symbol} a" if row.symbol == "not" else f"{row.symbol}a"
    else:
        written = f"a {row.symbol} b"
    if row.name == "pow":
        written = f"a {row.symbol} b` · `{written}"
    ends = row.least if row.least == row.accepts else f"{row.least} … {row.accepts}"
    dtypes = {"promote": ends, "real": "its real part", "branches": "that of b and c"}
    result = dtypes.get(row.result, row.result)
    partials = [f"`{p}`" if p is not None else "0" for p in row.partials]
    shown = ", ".join(partials) if any(p is not None for p in row.partials) else "none"
    return f"| `{written}` | {row.accepts} | {result} | {shown} |"


def reduction_row(row: ReduceOp) -> str:
    ends = row.least if row.least == row.accepts else f"{row.least} … {row.accepts}"
    result = ends if row.result == "promote" else row.result
    nothing = "0" if row.name in ("sum", "mean") else f"{row.identity}".lower()
    if row.name.startswith("arg"):
        nothing = "0"
    return f"| `{row.name}` | {row.accepts} | {result} | {nothing} |"


def along_row(row: AlongOp) -> str:
    flags = ("several", row.several), ("masked", row.masked), ("running", row.running)
    words = ", ".join(word for word, flag in flags if flag)
    return f"| `{row.name}` | {row.accepts} | {words or 'one dim'} |"


TABLES = {
    "pointwise": table(
        "written | takes | result | derivative (`y` is the result)",
        map(pointwise_row, MAPS.values()),
    ),
    "reductions": table(
        "name | takes | result | of nothing", map(reduction_row, REDUCTIONS.values())
    ),
    "along": table("name | takes | runs", map(along_row, ALONGS.values())),
}


@pytest.mark.parametrize("name", TABLES)
def test_table_is_that_of_the_compiler(name: str) -> None:
    text = PAGE.read_text("utf-8")
    pattern = re.compile(rf"<!-- {name} -->\n+((?:\|.*\n)*)")
    if os.environ.get("UPDATE_DOCS"):
        new = f"<!-- {name} -->\n\n{TABLES[name]}\n"
        PAGE.write_text(pattern.sub(lambda _: new, text), "utf-8")
        return
    found = pattern.search(text)
    assert found is not None
    assert found[1].rstrip() == TABLES[name]


def test_every_operator_is_mentioned() -> None:
    text = PAGE.read_text("utf-8")
    missing = [b for b in BUILTINS if not re.search(rf"`[^`\n]*\b{b}\b[^`\n]*`", text)]
    assert not missing


def test_every_name_of_the_prelude_is_mentioned() -> None:
    text = PAGE.read_text("utf-8")
    assert [name for name in prelude().scope if f"`{name}`" not in text] == []
