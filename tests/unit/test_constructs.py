"""The table of constructs: every one has a spec, every spec of a construct has its row."""

from __future__ import annotations

import re
from pathlib import Path

LANGUAGE = Path(__file__).parents[1] / "language"
GROUPS = {
    "axes",
    "state",
    "transitions",
    "gradients",
    "reads",
    "attention",
    "routers",
    "input",
    "sharing",
    "training",
    "extern",
}


def rows() -> list[tuple[str, list[str]]]:
    """Groups and the specs that say a construct of theirs."""
    text = (LANGUAGE / "README.md").read_text("utf-8")
    table = text.split("| group | construct | specs |")[1]
    cells = [line.split("|")[1:-1] for line in table.splitlines() if "|" in line]
    return [(g.strip(), re.split(r",\s*", s.strip())) for g, _, s in cells[1:]]


def test_every_group_has_its_rows() -> None:
    assert {group for group, _ in rows()} == GROUPS


def test_every_construct_has_its_spec() -> None:
    named = {name for _, names in rows() for name in names}
    there = {path.stem for path in (LANGUAGE / "ok").glob("*.seq")}
    assert named <= there
    rest = {n for n in there if not n.startswith(("canonical_", "language_"))}
    assert rest <= named | {"beside"}, "a spec without a row in the table"
