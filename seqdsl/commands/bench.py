"""`bench`: what layers cost in every form and on every backend, beside peers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from seqdsl import driver
from seqdsl.bench.layer import Row, Setting, Workload, rows, workload
from seqdsl.bench.measure import CLOCKS
from seqdsl.commands.outcome import (
    OK,
    Request,
    choose_layer,
    print_json,
    write_atomically,
)
from seqdsl.diagnostics import CallError

_COLUMNS = (
    ("forward_ms", "forward, ms"),
    ("backward_ms", "and backward, ms"),
    ("step_ms", "step, ms"),
    ("peak_mb", "peak, MB"),
    ("first_ms", "first call, ms"),
)


def bench(
    files: Sequence[str],
    layer: str | None,
    sets: tuple[str, ...],
    setting: Setting,
    out: Path | None,
    json: bool,
) -> int:
    """Measure the layer of each file; write a table, JSON and a plot where `out` says."""
    _check(setting)
    found: list[tuple[Workload, list[Row]]] = []
    for file in files:
        request = Request(file, layer, sets)
        program, named = driver.load(file)
        chosen = choose_layer(program.layers, layer or named, file)
        work = workload(program, chosen, request.given, setting)
        found.append((work, _with_bar(work, quiet=json)))
        if not json:
            print(_title(work), _table(found[-1][1]), sep="\n\n", flush=True)
    facts = [fact for work, measured in found for fact in facts_of(work, measured)]
    if json:
        print_json(facts)
    if out is not None:
        _write(found, facts, out, quiet=json)
    return OK


def _check(setting: Setting) -> None:
    for name in ("batch", "time", "rounds"):
        if getattr(setting, name) < 1:
            raise CallError(f"--{name} is 1 or more, not {getattr(setting, name)}")
    if setting.clock not in CLOCKS:
        raise CallError(f"--clock is wall or cpu, not {setting.clock}")


def _with_bar(work: Workload, quiet: bool) -> list[Row]:
    from rich.console import Console

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        return rows(work)
    with console.status(f"measuring {work.name}"):
        return rows(work)


def _title(work: Workload) -> str:
    options = "".join(f", {n} {v}" for n, v in work.options.items())
    setting = work.setting
    return f"{work.name}: batch {setting.batch}, {setting.time} steps{options}"


def _table(found: Sequence[Row]) -> str:
    """Milliseconds in columns, as Markdown that reads well as plain text too."""
    heads = ["", *(head for _, head in _COLUMNS)]
    cells = [
        [row.way, *(_number(getattr(row, key)) for key, _ in _COLUMNS)]
        for row in found
        if row.refused is None
    ]
    widths = [max(len(r[i]) for r in [heads, *cells]) for i in range(len(heads))]
    lines = [_line(heads, widths), _line(["-" * w for w in widths], widths)]
    lines += [_line(row, widths) for row in cells]
    lines += ["", *(f"{r.way}: {r.refused}" for r in found if r.refused is not None)]
    return "\n".join(lines)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = zip(cells, widths, strict=True)
    shown = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)]
    return f"| {' | '.join(shown)} |"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.3g}" if value < 100 else f"{value:,.0f}"


def facts_of(work: Workload, found: Sequence[Row]) -> list[Mapping[str, Any]]:
    """One flat object a row, as the gallery takes them."""
    setting = work.setting
    sizes = {"batch": setting.batch, "time": setting.time, "clock": setting.clock}
    at = {"layer": work.name, "options": dict(work.options), **sizes}
    return [{**at, **asdict(row)} for row in found]


def _write(
    found: Sequence[tuple[Workload, list[Row]]],
    facts: Sequence[Mapping[str, Any]],
    out: Path,
    quiet: bool,
) -> None:
    from json import dumps

    out.mkdir(parents=True, exist_ok=True)
    text = "\n".join(f"{_title(work)}\n\n{_table(rows)}\n" for work, rows in found)
    write_atomically(out / "bench.md", text)
    write_atomically(out / "bench.json", dumps(facts, indent=2) + "\n")
    written = ["bench.md", "bench.json"]
    if _plot(found, out / "bench.png"):
        written.append("bench.png")
    if not quiet:
        print("wrote", ", ".join(str(out / name) for name in written))


def _plot(found: Sequence[tuple[Workload, list[Row]]], path: Path) -> bool:
    """Bars of times; False where matplotlib is not installed."""
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        return False
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(8, 1 + 2.2 * len(found)), layout="constrained")
    for i, (work, measured) in enumerate(found):
        axes = figure.add_subplot(len(found), 1, i + 1)
        shown = [row for row in measured if row.refused is None]
        for j, (key, label) in enumerate(_COLUMNS[:2]):
            places = [k + 0.4 * j for k in range(len(shown))]
            axes.barh(places, [getattr(r, key) or 0 for r in shown], 0.4, label=label)
        axes.set_yticks([k + 0.2 for k in range(len(shown))], [r.way for r in shown])
        axes.invert_yaxis()
        axes.set_title(_title(work), fontsize="small")
    axes = figure.axes[0]
    axes.legend(fontsize="small")
    figure.axes[-1].set_xlabel("milliseconds")
    figure.savefig(path, dpi=120)
    return True
