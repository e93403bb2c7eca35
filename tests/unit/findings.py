"""What the compiler finds in a text: codes and places, from every stage that looks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from seqdsl import driver
from seqdsl.commands.outcome import assignment
from seqdsl.diagnostics import Diagnostic, SpecError
from seqdsl.ir.sizes import Scalar

BESIDE = "def double(x: [K]):\n    2 * x\n"


def given(options: str) -> Mapping[str, Scalar]:
    """`D=4 heads=2` as options."""
    return dict(assignment(word) for word in options.split())


def findings(
    path: Path, options: Mapping[str, Scalar] | None = None
) -> tuple[Diagnostic, ...]:
    """Errors and warnings of a file; reasons of its verdicts where it has no errors."""
    try:
        program, _ = driver.load(str(path))
    except SpecError as error:
        return error.diagnostics
    checked = driver.check(program, options)
    if any(d.is_error for d in checked.diagnostics):
        return checked.diagnostics
    reasons = (
        r for a in checked.layers.values() for v in a.verdicts for r in v.reasons
    )
    return (*checked.diagnostics, *dict.fromkeys(reasons))


def findings_of_text(
    folder: Path, text: str, options: Mapping[str, Scalar] | None = None
) -> tuple[Diagnostic, ...]:
    """The same for a text, as `spec.seq` beside `beside.seq` and a link out of there."""
    inside = folder / "inside"
    inside.mkdir(parents=True)
    (folder / "elsewhere.seq").write_text(BESIDE)
    (inside / "outside.seq").symlink_to(folder / "elsewhere.seq")
    (inside / "beside.seq").write_text(BESIDE)
    spec = inside / "spec.seq"
    spec.write_text(text, "utf-8")
    return findings(spec, options)


def expected(text: str) -> tuple[list[tuple[str, int, int]], Mapping[str, Scalar]]:
    """What the `#!` comments of a bad spec say: findings in order, and options."""
    lines = re.findall(r"^#! ([EW]\d{4}) (\d+):(\d+)$", text, re.MULTILINE)
    options = re.findall(r"^#! set (.*)$", text, re.MULTILINE)
    wanted = sorted((code, int(line), int(column)) for code, line, column in lines)
    return wanted, given(" ".join(options))
