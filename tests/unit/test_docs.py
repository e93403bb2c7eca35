"""Every block of the README and the pages in docs/ does what the page says.

On a page, `seq NAME` blocks become files, `python` blocks run one after another, and
the output of `console` blocks is compared; a line `...` there stands for any lines.
With UPDATE_DOCS=1 in the environment the outputs are written into the pages instead.
"""

from __future__ import annotations

import os
import re
import runpy
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from findings import findings, findings_of_text
from typer.testing import CliRunner

from seqdsl.analysis.codes import ANALYSIS_CODES
from seqdsl.cli import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
KINDS = {"seq", "python", "console", "toml", "json", "text", ""}


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    kind: str
    info: str
    text: str


def blocks(page: Path) -> Iterator[Block]:
    for match in BLOCK.finditer(page.read_text("utf-8")):
        yield Block(match[1], match[2].strip(), match[3])


def output(command: str) -> str:
    """What a `seqdsl` command prints, to either stream."""
    program, *arguments = command.split()
    assert program == "seqdsl"
    result = CliRunner().invoke(app, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output.rstrip() + "\n"


def matches(expected: str, found: str) -> bool:
    pattern = re.escape(expected).replace(re.escape("...\n"), r"(?:.*\n)*?")
    return re.fullmatch(pattern, found) is not None


def run_console(text: str) -> str:
    """The block with the output that its commands have now."""
    commands = [line[2:] for line in text.splitlines() if line.startswith("$ ")]
    return "".join(f"$ {command}\n{output(command)}" for command in commands)


def check_seq(block: Block, folder: Path) -> None:
    if not block.info.endswith(".seq"):
        found = findings_of_text(folder / block.text[:20].encode().hex(), block.text)
        # a sequential recurrence is an answer, not a mistake
        wrong = [d for d in found if d.is_error and d.code not in ANALYSIS_CODES]
        assert not wrong, wrong
        return
    path = Path(block.info)
    path.write_text(block.text, "utf-8")
    if path.stem != "mistake":
        assert {d.code for d in findings(path)} <= ANALYSIS_CODES.keys()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_page(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    names: dict[str, object] = {}
    loaded = set(sys.modules)
    for block in blocks(page):
        assert block.kind in KINDS, block
        match block.kind:
            case "seq":
                check_seq(block, tmp_path)
            case "python":
                Path("block.py").write_text(block.text, "utf-8")
                names = runpy.run_path("block.py", names, page.stem)
            case "console":
                compare(page, block)
            case _:
                pass
    for name in set(sys.modules) - loaded:
        if (tmp_path / f"{name}.py").exists():
            del sys.modules[name]


def compare(page: Path, block: Block) -> None:
    found = run_console(block.text)
    if os.environ.get("UPDATE_DOCS") and not matches(block.text, found):
        text = page.read_text("utf-8")
        page.write_text(text.replace(block.text, shortened(block.text, found)), "utf-8")
    else:
        assert matches(block.text, found), found


def shortened(old: str, new: str) -> str:
    """`new` without what `old` leaves out: the lines between two that both have."""
    head, dots, tail = old.partition("...\n")
    start = new.find(f"\n{tail.partition(chr(10))[0]}\n") + 1
    return head + dots + new[start:] if dots and start and new.startswith(head) else new


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        prose = re.sub(
            r"```.*?```|`[^`\n]*`", "", page.read_text("utf-8"), flags=re.DOTALL
        )
        for target in re.findall(r"\]\(([^)#]+)", prose):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"
