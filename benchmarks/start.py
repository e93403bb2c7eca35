"""How long a layer takes from its text to a callable: `python -m benchmarks.start`.

Every layer of the standard library (or those named), in processes of their own: first
with nothing kept, then (the median of three) with what that left. Kernels are compiled or
loaded when they are first called, so the time to the first result stands beside. Torch
and the compiler are loaded before. Milliseconds of a processor; a table, slowest first.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import pickle
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch

import seqdsl
from seqdsl.backends.mlir import engine
from seqdsl.diagnostics import SeqdslError
from seqdsl.elaborate import load_std
from seqdsl.elaborate.program import std_names
from seqdsl.native.choose import choose
from seqdsl.testing.layers import subjects
from seqdsl.testing.subject import Subject

Times = dict[str, float]


def start_times(names: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each layer: seconds of this process and of the clock."""
    rows: list[dict[str, Any]] = []
    for name in names:
        for layer in load_std(name).layers:
            taken = _pair(name, layer)
            if taken is not None:
                rows.append({"layer": f"std.{name}:{layer}", **taken})
    return rows


def _pair(name: str, layer: str) -> dict[str, Any] | None:
    """First and kept; None where a layer takes callables or runs nothing."""
    subject = next(iter(subjects(load_std(name), layer)), None)
    if subject is None or subject.externs:
        return None
    with TemporaryDirectory() as folder:
        os.environ["SEQDSL_CACHE"] = folder
        run = partial(_run, name, layer, subject)
        first, *again = (_apart(run) for _ in range(4))
    kept = [found for found in again if found is not None]
    if first is None or not kept:
        return None
    middle = {key: median(found[key] for found in kept) for key in first}
    return {"first": first, "kept": middle}


def _run(name: str, layer: str, subject: Subject) -> Times:
    """One layer made and called once."""
    given = {
        n: v.float() if v.is_floating_point() else v
        for n, v in _inputs(subject).items()
    }
    untold = subject.untold((1, 1))
    start = time.process_time()
    module = getattr(getattr(seqdsl.std, name), layer)(**subject.options)
    made = time.process_time()
    with torch.no_grad():
        module(**given, **untold)
    done = time.process_time()
    return {"callable_ms": 1e3 * (made - start), "result_ms": 1e3 * (done - start)}


def _inputs(subject: Subject) -> dict[str, torch.Tensor]:
    return dict(subject.least())


def _apart(run: Callable[[], Times]) -> Times | None:
    """What `run` gives in a copy of this process; None where it fails there."""
    read, write = os.pipe()
    gc.freeze()  # a new process has no more to look through than it made itself
    child = os.fork()
    if child == 0:
        result: Times | None = None
        try:
            result = run()
        except (SeqdslError, RuntimeError) as error:
            print(f"left out: {error}")
        finally:
            os.write(write, pickle.dumps(result))
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        data = pipe.read()
    os.waitpid(child, 0)
    return pickle.loads(data) if data else None


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown, the slowest first."""
    lines = [
        "| layer | callable, first | its result | callable, kept | its result |",
        "|---|---|---|---|---|",
    ]
    columns = [(k, c) for k in ("first", "kept") for c in ("callable_ms", "result_ms")]
    for row in sorted(rows, key=lambda r: -r["first"]["result_ms"]):
        shown = (row[k][c] for k, c in columns)
        lines.append(f"| {row['layer']} | {' | '.join(f'{n:.0f}' for n in shown)} |")
    return "\n".join(lines) + "\n"


def warm_up() -> None:
    """Loads what every layer needs, so that no row pays for imports."""
    torch.set_num_threads(1)
    engine.compile_text("module { func.func @none() { return } }", "none")
    os.environ["SEQDSL_CACHE"] = ""
    text = "layer Warm(D):\n    input x: [D]\n    state h: [D] = 0\n"
    text += "    h = 0.5 * h[t-1] + linear(x, D)\n    output h\n"
    with torch.no_grad():
        seqdsl.loads(text).Warm(D=2)(torch.ones(1, 1, 2))
    choose(seqdsl.std.ema.EMA.elaborate().model, "auto", "auto")


def main() -> None:
    """Time all layers, print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="files of the library, without `std.`")
    parser.add_argument("-o", "--out", type=Path, default=Path("benchmark-out"))
    given = parser.parse_args()
    warm_up()
    rows = start_times(given.names or std_names())
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "start.json").write_text(json.dumps(rows, indent=2) + "\n")
    (given.out / "start.md").write_text(table(rows))
    print(table(rows))


if __name__ == "__main__":
    main()
