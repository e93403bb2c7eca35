"""Every diagnostic has a page, and the page is true: its blocks are compiled."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from findings import findings_of_text, given

from seqdsl.analysis.codes import ANALYSIS_CODES
from seqdsl.codes import CODES
from seqdsl.diagnostics import Diagnostic
from seqdsl.report import plain

PAGES = Path(__file__).parents[2] / "docs" / "errors"
BLOCK = re.compile(
    r"^```seq( wrong)?(?: set ([^\n]*))?\n(.*?)^```$", re.MULTILINE | re.DOTALL
)


def test_every_code_has_a_page_and_every_page_a_code() -> None:
    assert {p.stem for p in PAGES.glob("*.md")} == CODES.keys()
    assert len(CODES) >= 50


@pytest.mark.parametrize("code", CODES)
def test_page(code: str, tmp_path: Path) -> None:
    page = (PAGES / f"{code}.md").read_text("utf-8")
    assert page.startswith(f"# {code}: {CODES[code]}\n")
    blocks = BLOCK.findall(page)
    kinds = [wrong for wrong, _, _ in blocks]
    assert len(kinds) == page.count("```") // 2
    assert " wrong" in kinds and "" in kinds
    for i, (wrong, options, text) in enumerate(blocks):
        found = findings_of_text(tmp_path / str(i), text, given(options))
        codes = {d.code for d in found}
        if wrong:
            assert code in codes, shown(found)
        else:
            # that a recurrence is sequential is an answer, not a mistake
            assert code not in codes and codes <= ANALYSIS_CODES.keys(), shown(found)


def shown(found: tuple[Diagnostic, ...]) -> str:
    return "\n".join(plain(d) for d in found)
