"""`check` and `explain`: what a spec is, without making anything of it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path

from seqdsl import driver, report
from seqdsl.analysis import Analyzed
from seqdsl.analysis.verdict import Kind, Verdict
from seqdsl.commands.explanation import (
    Known,
    check_line,
    explain_verdict,
    full_json,
    known_sizes,
)
from seqdsl.commands.outcome import (
    OK,
    WRONG_CALL,
    WRONG_SPEC,
    Request,
    choose_layer,
    elaborate_request,
    print_json,
    write_atomically,
)
from seqdsl.commands.page import page
from seqdsl.diagnostics import CallError, SpecError
from seqdsl.report import Style
from seqdsl.terminal import visible

# ---- check


def check(names: list[str], style: Style) -> int:
    """Every file's findings, and the verdicts of the layers without errors."""
    rows: list[dict[str, object]] = []
    codes = [OK]
    for name in names:
        try:
            checked = _check(name)
        except (OSError, CallError) as error:
            why = str(getattr(error, "strerror", None) or error)
            _say_wrong_call(name, why, style)
            rows.append({"file": name, "error": why})
            codes.append(WRONG_CALL)
            continue
        wrong = any(d.is_error for d in checked.diagnostics)
        codes.append(WRONG_SPEC if wrong else OK)
        if style == "json":
            rows.append(_file_json(name, checked))
        else:
            _print_file(name, checked, style)
    if style == "json":
        print_json({"files": rows})
    return max(codes)


def _say_wrong_call(name: str, why: str, style: Style) -> None:
    if style != "json":
        print(f"seqdsl: {visible(f'{name}: {why}')}", file=sys.stderr)


def _check(name: str) -> driver.Checked:
    """The findings of a file; `FILE:Layer` leaves the other layers' verdicts out."""
    try:
        program, layer = driver.load(name)
    except SpecError as error:
        return driver.Checked(error.diagnostics, {})
    checked = driver.check(program)
    if layer is None:
        return checked
    choose_layer(program.layers, layer, name.removesuffix(f":{layer}"))
    shown = {k: a for k, a in checked.layers.items() if k == layer}
    return driver.Checked(checked.diagnostics, shown)


def _file_json(name: str, checked: driver.Checked) -> dict[str, object]:
    return {
        "file": name,
        "ok": not any(d.is_error for d in checked.diagnostics),
        "diagnostics": [report.to_json(d) for d in checked.diagnostics],
        "layers": [layer_json(k, a) for k, a in checked.layers.items()],
    }


def full_layer_json(
    layer: str, analyzed: Analyzed, known: Mapping[str, Known]
) -> dict[str, object]:
    """What `explain --json` prints for one layer."""
    rows: list[dict[str, object]] = []
    for verdict in analyzed.verdicts:
        sizes = known.get(verdict.recurrence.layer, {})
        rows.append(
            {**_recurrence(analyzed, verdict), **full_json(analyzed, verdict, sizes)}
        )
    return {"layer": layer, "recurrences": rows}


def layer_json(layer: str, analyzed: Analyzed) -> dict[str, object]:
    """The verdicts of one layer, as `check --json` prints them."""
    rows = [_recurrence(analyzed, v) for v in analyzed.verdicts]
    return {"layer": layer, "recurrences": rows}


def _recurrence(analyzed: Analyzed, verdict: Verdict) -> dict[str, object]:
    from seqdsl.schedule.choose import chosen  # `check` does without

    taken = chosen(analyzed.model_of(verdict), verdict)
    return {**verdict.to_json(), "chosen": taken}


def _print_file(name: str, checked: driver.Checked, style: Style) -> None:
    for layer, analyzed in checked.layers.items():
        for text, kind in _verdict_lines(analyzed):
            place = visible(f"{name}: {layer}: ")
            report.say([(place, "place"), (visible(text), kind)])
    if not checked.layers and not checked.diagnostics:
        report.say([(visible(f"{name}: "), "place"), ("no layer", "")])
    report.show(checked.diagnostics, style)


def _verdict_lines(analyzed: Analyzed) -> Iterator[tuple[str, Kind]]:
    if not analyzed.verdicts:
        yield "no recurrence: parallel", "none"
    for verdict in analyzed.verdicts:
        yield check_line(analyzed, verdict), verdict.verdict


# ---- explain


def explain(request: Request, json: bool, out: Path | None = None) -> int:
    """The page of a code, or the verdicts of a layer and their reasons.

    With `out` they are written there as a page of Markdown.
    """
    if re.fullmatch(r"[EeWw]\d+", request.file):
        return _explain_code(request.file.upper(), json)
    elaborated = elaborate_request(request)
    analyzed = driver.analyze(elaborated.model)
    known = known_sizes(analyzed, request.given)
    if json:
        print_json(full_layer_json(elaborated.model.name, analyzed, known))
        return OK
    report.show(elaborated.warnings)
    if out is not None:
        write_atomically(out, page(elaborated.model, analyzed, known))
        print(f"wrote {out}")
        return OK
    print(visible(f"layer {elaborated.model.name}"))
    if not analyzed.verdicts:
        print("  no recurrence: every step is computed at once")
    for verdict in analyzed.verdicts:
        print()
        sizes = known.get(verdict.recurrence.layer, {})
        width = report.terminal_width(sys.stdout)
        for line in explain_verdict(analyzed, verdict, sizes, width):
            report.say(line)
        if verdict.reasons:
            print()
            report.show(verdict.reasons, file=sys.stdout)
    return OK


def _explain_code(code: str, json: bool) -> int:
    from seqdsl.codes import CODES

    if code not in CODES:
        raise CallError(f"there is no diagnostic {code}; codes run from E0001 to W0105")
    resource = files("seqdsl").joinpath("docs", "errors", f"{code}.md")
    page = resource.read_text("utf-8")
    if json:
        print_json({"code": code, "title": CODES[code], "page": page})
    else:
        report.show_page(page)
    return OK
