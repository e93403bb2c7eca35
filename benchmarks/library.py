"""Every recurrence of the library: `python -m benchmarks.library [NAMES] [-o DIR]`.

Each layer that has a loop along time of its own, at its default sizes: native kernels
beside the forms of the torch backend, forward, with gradients, and a step. Rows of a
layer take turns, medians are reported. Writes a table and JSON, which
`seqdsl gallery --bench` takes; `--page docs/native.md` puts the table there.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.pages import put
from seqdsl.analysis import analyze
from seqdsl.bench.layer import Row, Setting, rows, workload
from seqdsl.commands.bench import facts_of
from seqdsl.diagnostics import CallError, SeqdslError
from seqdsl.elaborate import elaborate, load_std
from seqdsl.elaborate.program import std_names
from seqdsl.ir.types import TIME

PATIENCE = 20_000
"""Milliseconds of one forward and backward of the slowest form; longer ones are left out."""

HEAD = """\
| layer | forward | torch | torch loop | and backward | torch | torch loop | step | torch | first call |
|---|---|---|---|---|---|---|---|---|---|"""


def recurrences(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Files and layers whose own equations recur along time, further than a window."""
    for name in names:
        program = load_std(name)
        for layer in program.layers:
            model = elaborate(program, layer, {}).model
            over_time = [
                v for v in analyze(model).verdicts if v.recurrence.axis == TIME
            ]
            own = [v for v in over_time if set(v.recurrence.states) <= set(model.state)]
            if any(v.verdict != "fir" for v in own):
                yield name, layer


def measured(
    names: Sequence[str], setting: Setting
) -> Iterator[tuple[str, list[Row], list[Mapping[str, Any]]]]:
    """Name, rows and JSON of each layer that runs at its default sizes."""
    for name, layer in recurrences(names):
        try:
            small = workload(load_std(name), layer, {}, Setting(setting.batch, 8, 1))
            slowest = max(row.backward_ms or 0 for row in rows(small))
            if slowest / 8 * setting.time > PATIENCE:
                print(f"left out: std.{name}:{layer}: {slowest / 8:.0f} ms a step")
                continue
            work = workload(load_std(name), layer, {}, setting)
            found = rows(work)
        except (CallError, SeqdslError) as error:
            print(f"left out: std.{name}:{layer}: {error}", flush=True)
            continue
        yield work.name, found, facts_of(work, found)


def line(name: str, found: Sequence[Row]) -> str | None:
    """Milliseconds of kernels; how many times longer torch's best form and its loop take."""
    ways = {row.way: asdict(row) for row in found if row.refused is None}
    kernel = ways.pop("mlir", None)
    if kernel is None:
        return None
    torch = [row for way, row in ways.items() if way.startswith("torch ")]
    cells = [name]
    for key in ("forward_ms", "backward_ms", "step_ms"):
        own = kernel[key]
        times = [row[key] for row in torch if row[key] is not None]
        if own is None or not times:
            cells += ["-"] * (2 if key == "step_ms" else 3)
            continue
        loop = ways.get("torch loop", {}).get(key)
        cells += [f"{own:.3g}", f"{min(times) / own:.1f}"]
        if key != "step_ms":
            cells.append("-" if loop is None else f"{loop / own:.1f}")
    cells.append(f"{kernel['first_ms']:.0f}")
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Measure, print as it goes, and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="files of the library, without `std.`")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--time", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--page", type=Path, help="a page to put the table into")
    parser.add_argument("-o", "--out", type=Path, default=Path("benchmark-out"))
    given = parser.parse_args()
    unknown = set(given.names) - set(std_names())
    if unknown:
        parser.error(f"not in the library: {', '.join(sorted(unknown))}")
    setting = Setting(given.batch, given.time, given.rounds)
    lines, facts = [HEAD], list[Mapping[str, Any]]()
    print(HEAD)
    for name, found, said in measured(given.names or std_names(), setting):
        shown = line(name, found)
        facts += said
        if shown is not None:
            lines.append(shown)
            print(shown, flush=True)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "library.json").write_text(json.dumps(facts, indent=2) + "\n")
    (given.out / "library.md").write_text("\n".join(lines) + "\n")
    if given.page is not None:
        about = f"Batch {given.batch}, {given.time} steps; milliseconds."
        put(given.page, "benchmarks.library", "\n".join([about, "", *lines]))


if __name__ == "__main__":
    main()
