"""`check` and `explain`: what a spec is, without making anything of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib.resources import files

from seqdsl import driver, report
from seqdsl.analysis import Analyzed
from seqdsl.analysis.verdict import Strategy, Verdict, one_line
from seqdsl.commands.outcome import (
    OK,
    WRONG_CALL,
    WRONG_SPEC,
    Request,
    choose_layer,
    elaborate_request,
    print_json,
)
from seqdsl.diagnostics import CallError, Diagnostic, SpecError
from seqdsl.ir.text import node_text
from seqdsl.report import Style

# ---- check


def check(names: list[str], style: Style) -> int:
    """Every file's findings, and the verdicts of the layers without errors."""
    rows: list[dict[str, object]] = []
    codes = [OK]
    for name in names:
        try:
            checked = _check(name)
        except SpecError as error:
            checked = driver.Checked(error.diagnostics, {})
        except OSError as error:
            if style != "json":
                raise
            rows.append({"file": name, "error": error.strerror or str(error)})
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


def _check(name: str) -> driver.Checked:
    """The findings of a file; `FILE:Layer` leaves the other layers' verdicts out."""
    program, layer = driver.load(name)
    checked = driver.check(program)
    if layer is None:
        return checked
    choose_layer(program.layers, layer, name)
    shown = {k: a for k, a in checked.layers.items() if k == layer}
    return driver.Checked(checked.diagnostics, shown)


def _file_json(name: str, checked: driver.Checked) -> dict[str, object]:
    return {
        "file": name,
        "ok": not any(d.is_error for d in checked.diagnostics),
        "diagnostics": [report.to_json(d) for d in checked.diagnostics],
        "layers": [layer_json(k, a.verdicts) for k, a in checked.layers.items()],
    }


def layer_json(layer: str, verdicts: tuple[Verdict, ...]) -> dict[str, object]:
    """What `explain --json` prints for one layer."""
    return {"layer": layer, "recurrences": [_recurrence(v) for v in verdicts]}


def _recurrence(verdict: Verdict) -> dict[str, object]:
    # The torch backend reads finite lags of whole sequences at once; the rest is a loop.
    wanted = "convolve" if verdict.verdict == "fir" else "loop"
    chosen = wanted if wanted in verdict.strategies else None
    return {**verdict.to_json(), "chosen": chosen}


def _print_file(name: str, checked: driver.Checked, style: Style) -> None:
    for layer, analyzed in checked.layers.items():
        for line in _verdict_lines(analyzed):
            print(report.visible(f"{name}: {layer}: {line}"))
    report.show(checked.diagnostics, style)


def _verdict_lines(analyzed: Analyzed) -> Iterator[str]:
    if not analyzed.verdicts:
        yield "no recurrence: parallel"
    yield from map(one_line, analyzed.verdicts)


# ---- explain


def explain(request: Request, json: bool) -> int:
    """The page of a code, or the verdicts of a layer and their reasons."""
    if re.fullmatch(r"[EeWw]\d+", request.file):
        return _explain_code(request.file.upper(), json)
    elaborated = elaborate_request(request)
    analyzed = driver.analyze(elaborated.model)
    if json:
        print_json(layer_json(elaborated.model.name, analyzed.verdicts))
        return OK
    report.show(elaborated.warnings)
    print(report.visible(f"layer {elaborated.model.name}"))
    if not analyzed.verdicts:
        print("  no recurrence: every step is computed at once")
    for verdict in analyzed.verdicts:
        print()
        _print_verdict(verdict)
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


def _print_verdict(verdict: Verdict) -> None:
    print(report.visible(f"  {one_line(verdict)}"))
    for update in verdict.updates:
        for term in update.terms:
            factors = " * ".join(map(node_text, term.factors)) or "1"
            print(f"    {update.state} takes {term.kind} of {node_text(term.read)}:")
            print(f"      {factors}")
        if update.offset is not None:
            print(f"    {update.state} adds {node_text(update.offset)}")
    for strategy in verdict.strategies:
        print(f"    {strategy:<9} {WAYS[strategy]}")
    for reason in verdict.reasons:
        print()
        print(indent(reason))


WAYS: Mapping[Strategy, str] = {
    "loop": "T steps one after another; what does not read the state stands outside",
    "scan": "about log2(T) rounds, each over all steps at once",
    "chunk": "T/C chunks one after another, matrix products within each",
    "convolve": "one convolution over all steps, T log2(T) by FFT",
    "newton": "a scan per iteration, repeated until the steps agree; on request",
}


def indent(diagnostic: Diagnostic) -> str:
    """A reason drawn below its verdict."""
    return "\n".join(f"    {line}" for line in report.plain(diagnostic).splitlines())
