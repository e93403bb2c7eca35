"""Every spec under tests/language/bad gives exactly the findings that it lists."""

from __future__ import annotations

from pathlib import Path

import pytest
from findings import expected, findings

from seqdsl.codes import CODES
from seqdsl.report import plain

BAD = Path(__file__).parents[1] / "language" / "bad"
SPECS = sorted(p for p in BAD.rglob("*.seq") if "#!" in p.read_text("utf-8"))


@pytest.mark.parametrize("path", SPECS, ids=lambda p: p.stem)
def test_findings(path: Path) -> None:
    wanted, options = expected(path.read_text("utf-8"))
    found = findings(path, options)
    places = [
        (d.code, d.span.line if d.span else 0, d.span.column if d.span else 0)
        for d in found
    ]
    assert sorted(places) == wanted, "\n".join(plain(d) for d in found)


def test_every_code_has_a_bad_spec() -> None:
    listed = {
        code for path in SPECS for code, _, _ in expected(path.read_text("utf-8"))[0]
    }
    assert listed == CODES.keys()
