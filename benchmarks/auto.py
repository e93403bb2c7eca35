"""`auto` against measurement: `python -m benchmarks.auto --out DIR`.

Over a grid of recurrences and shapes every legal strategy is timed, forward with
backward, all in turns; the pick of `auto` is compared with the fastest. Prints a row a
cell, then how many cells have a pick within 1.25 of the best and how far off the others
are, and writes `auto.json`. The cost model was fitted to the grid; `--held-out` takes
shapes that it was not fitted to. `--page docs/strategies.md` writes the table there. Loops that cost too much to wait for are left out of a cell
where a shorter run shows it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, cast

import torch
from torch import Tensor

from benchmarks.auto_kinds import KINDS, Kind, held_out
from benchmarks.pages import put
from seqdsl.analysis import Verdict, analyze
from seqdsl.analysis.verdict import Strategy
from seqdsl.backends.torch import compile_model
from seqdsl.backends.torch.load import load
from seqdsl.elaborate import elaborate_text
from seqdsl.ir import nodes as ir
from seqdsl.ir.bind import with_defaults
from seqdsl.schedule.choose import chosen, form_of, wish_of

CLOSE = 1.25
"""A pick that takes this much longer than the best is as good as it."""

MOST = 2.0
"""Seconds that one run of a strategy may take; it is no candidate where it takes more."""


@dataclass(frozen=True)
class Cell:
    """One recurrence at one shape: milliseconds of every strategy, and the pick."""

    kind: str
    sizes: Mapping[str, int]
    batch: int
    time: int
    pick: str
    taken: Mapping[str, float]

    @property
    def best(self) -> str:
        """The fastest strategy."""
        return min(self.taken, key=lambda n: self.taken[n])

    @property
    def factor(self) -> float:
        """How many times as long as the best the pick takes."""
        return self.taken[self.pick] / self.taken[self.best]


def _inputs(kind: Kind, sizes: Mapping[str, int], batch: int, steps: int) -> Any:
    """Small enough that states stay finite: gates in (0, 1), matrices that contract."""
    make = torch.Generator().manual_seed(0)
    found: list[Tensor] = []
    model = elaborate_text(kind.text)
    for given in model.inputs:
        extents = [sizes[d] if d in sizes else int(d) for d in _named(given.type.dims)]
        x = torch.randn(batch, steps, *extents, generator=make)
        matrix = given.name == "a" and "J" in given.type.dims
        if matrix:
            x = 0.9 * x / x.norm(dim=(-2, -1), keepdim=True)
        elif given.name == "a":
            x = torch.sigmoid(x + 2)
        elif given.name in ("q", "k"):
            x = torch.nn.functional.normalize(x, dim=-1)
        found.append(x)
    return found


def _named(dims: tuple[str, ...]) -> Iterator[str]:
    for dim in dims:
        yield ("2" if "2" in dims else "D") if dim == "J" else dim


def _module(kind: Kind, strategy: str, sizes: Mapping[str, int]) -> Any:
    artifact = compile_model(elaborate_text(kind.text), strategy=strategy)
    return cast(Callable[..., Any], load(artifact))(**sizes)


def _once(module: Any, given: list[Tensor], clock: Callable[[], float]) -> float:
    leaves = [x.clone().requires_grad_() for x in given]
    start = clock()
    out = module(*leaves)
    torch.autograd.grad(out, leaves, torch.ones_like(out))
    return 1e3 * (clock() - start)


def _different(model: ir.Model, verdict: Verdict) -> Iterator[Strategy]:
    """Strategies that are run differently: of a diagonal, `chunk` is the scan too."""
    pick = chosen(model, verdict)
    known: list[object] = []
    for strategy in sorted(verdict.strategies, key=lambda s: s != pick):
        form = form_of(model, verdict, wish_of(strategy))
        if strategy != "newton" and form not in known:
            known.append(form)
            yield strategy


def measured(
    kind: Kind, sizes: Mapping[str, int], batch: int, steps: int, rounds: int
) -> Cell:
    """All strategies of a cell in turns, medians; the first round is not counted."""
    model = with_defaults(elaborate_text(kind.text), sizes)
    (verdict,) = (v for v in analyze(model).verdicts if v.recurrence.states)
    names = list(_different(model, verdict))
    modules = {s: _module(kind, s, sizes) for s in names}
    given = _inputs(kind, sizes, batch, steps)
    # One thread's own time does not depend on what else runs on the machine.
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    short = [x[:, : max(1, steps // 16)] for x in given]
    for module in modules.values():
        _once(module, short, clock)
    slow = {s for s, m in modules.items() if _once(m, short, clock) > 1e3 * MOST / 16}
    taken: dict[str, list[float]] = {n: [] for n in names if n not in slow}
    for number in range(rounds + 1):
        for name, found in taken.items():
            spent = _once(modules[name], given, clock)
            if number or rounds == 0:
                found.append(spent)
    pick = chosen(model, verdict)
    assert pick is not None
    times = {n: median(t) for n, t in taken.items()}
    times |= {n: 1e3 * MOST for n in slow}
    return Cell(kind.name, sizes, batch, steps, pick, times)


def summary(cells: list[Cell]) -> str:
    """How often `auto` is right, and by how much it is wrong elsewhere."""
    close = [c for c in cells if c.factor <= CLOSE]
    worst = sorted((c for c in cells if c.factor > CLOSE), key=lambda c: -c.factor)
    share = (
        f"{len(close)} of {len(cells)} cells ({100 * len(close) / len(cells):.0f} %)"
    )
    lines = [f"{share} within {CLOSE} of the best"]
    for c in worst:
        lines.append(
            f"  {c.kind} {dict(c.sizes)} B {c.batch} T {c.time}: {c.pick} takes "
            f"{c.factor:.2f} times as long as {c.best}"
        )
    return "\n".join(lines)


def table(cells: list[Cell]) -> str:
    """Markdown: a row for every kind, then all."""
    lines = [
        "| kind | sizes | cells | within 1.25 of the best | at worst |",
        "| --- | --- | --- | --- | --- |",
    ]
    groups = {n: [c for c in cells if c.kind == n] for n in {c.kind: 0 for c in cells}}
    for name, some in {**groups, "all": cells}.items():
        shapes = ["×".join(map(str, c.sizes.values())) for c in some]
        sizes = "" if name == "all" else ", ".join(dict.fromkeys(shapes))
        close = sum(c.factor <= CLOSE for c in some)
        worst = max(c.factor for c in some)
        lines.append(f"| {name} | {sizes} | {len(some)} | {close} | {worst:.2f} |")
    return "\n".join(lines)


def row(cell: Cell) -> str:
    """One line of the table."""
    shape = " ".join(f"{n} {v}" for n, v in cell.sizes.items())
    times = "  ".join(f"{n} {t:.2f}" for n, t in cell.taken.items())
    return (
        f"{cell.kind:18}{shape:16}B {cell.batch:<3}T {cell.time:<6}{cell.pick:9}"
        f"{cell.factor:5.2f}  {times}"
    )


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--held-out", action="store_true", help="the other grid")
    parser.add_argument("--steps", type=int, nargs="+")
    parser.add_argument("--batch", type=int, nargs="+")
    parser.add_argument("--kind", nargs="+", default=[k.name for k in KINDS])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=Path("benchmark-out"))
    parser.add_argument("--page", type=Path, help="the page to write the table into")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    other = given.held_out
    batches = given.batch or ([3] if other else [1, 8])
    lengths = given.steps or ([100, 700] if other else [32, 256, 2048])
    cells: list[Cell] = []
    for kind in (k for k in KINDS if k.name in given.kind):
        for sizes in held_out(kind) if other else kind.sizes:
            for batch, steps in itertools.product(batches, lengths):
                cells.append(measured(kind, sizes, batch, steps, given.rounds))
                print(row(cells[-1]), flush=True)
    given.out.mkdir(parents=True, exist_ok=True)
    facts = {"threads": given.threads, "cells": [asdict(c) for c in cells]}
    name = "auto held out" if other else "auto"
    file = given.out / f"{name.replace(' ', '_')}.json"
    file.write_text(json.dumps(facts, indent=2) + "\n")
    if given.page:
        put(given.page, name, table(cells))
    print(summary(cells))


if __name__ == "__main__":
    main()
