"""`h = a * h[t-1] + b`, entry by entry, beside the scans of others.

`python -m benchmarks.diagonal_scan --out DIR` times forward, and forward with backward, at
batch 8, 4096 steps, 512 channels, everything in turns in one run: a table,
`diagonal_scan.json` and `diagonal_scan.png`. Peers are torch's own
`torch._higher_order_ops.associative_scan` in eager mode, `mambapy.pscan` and
`assoc_scan`, each where it is installed or lies in a folder `--peers`.
`--page docs/strategies.md` writes the table there.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any, cast

import torch
from torch import Tensor

from benchmarks.pages import put
from seqdsl.backends.torch import compile_model
from seqdsl.backends.torch.load import load
from seqdsl.elaborate import elaborate_text

Scan = Callable[[Tensor, Tensor], Tensor]
SPEC = """
layer Row(D):
    input a: [D]
    input b: [D]
    state h: [D] = 0
    h = a * h[t-1] + b
    output h
"""
BATCH, STEPS, CHANNELS = 8, 4096, 512


def ours(strategy: str) -> Scan:
    """The generated module."""
    artifact = compile_model(elaborate_text(SPEC), strategy=strategy)
    make = cast(Callable[..., Any], load(artifact))
    return make(D=CHANNELS)


def _of_torch() -> Scan:
    found: Any = import_module("torch._higher_order_ops.associative_scan")

    def combine(x: tuple[Tensor, Tensor], y: tuple[Tensor, Tensor]) -> Any:
        return x[0] * y[0], y[0] * x[1] + y[1]

    def run(a: Tensor, b: Tensor) -> Tensor:
        given = combine, (a, b), 1
        return found.associative_scan(*given, combine_mode="generic")[1]

    return run


def _of_mambapy() -> Scan:
    pscan = cast(Any, import_module("mambapy.pscan")).pscan
    return lambda a, b: pscan(a.unsqueeze(-1), b.unsqueeze(-1)).squeeze(-1)


def _of_assoc_scan() -> Scan:
    scan = cast(Any, import_module("assoc_scan")).AssocScan()
    return lambda a, b: scan(a, b)


PEERS: Mapping[str, tuple[str, Callable[[], Scan]]] = {
    "torch": ("torch", _of_torch),
    "mambapy": ("mambapy", _of_mambapy),
    "assoc-scan": ("assoc_scan", _of_assoc_scan),
}


def inputs(steps: int) -> list[Tensor]:
    """Gates near 1, as trained ones are."""
    make = torch.Generator().manual_seed(0)
    a, b = (torch.randn(BATCH, steps, CHANNELS, generator=make) for _ in "ab")
    return [torch.sigmoid(a + 3), b]


def forward(scan: Scan, given: list[Tensor]) -> object:
    """Values alone."""
    with torch.no_grad():
        return scan(*given)


def with_backward(scan: Scan, given: list[Tensor]) -> object:
    """Values and the gradients of both inputs."""
    leaves = [x.detach().requires_grad_() for x in given]
    out = scan(*leaves)
    return torch.autograd.grad(out, leaves, given[1])


def timed(scans: Mapping[str, Scan], steps: int, rounds: int) -> list[dict[str, Any]]:
    """Medians in milliseconds, all taking turns; the first round is not counted."""
    given = inputs(steps)
    wanted = scans["loop"](*given)
    for scan in scans.values():
        torch.testing.assert_close(scan(*given), wanted, rtol=1e-4, atol=1e-4)
    # One thread's own time does not depend on what else runs on the machine.
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    rows: list[dict[str, Any]] = []
    for name, run in (("forward", forward), ("forward + backward", with_backward)):
        taken: dict[str, list[float]] = {n: [] for n in scans}
        for number in range(rounds + 1):
            for key, scan in scans.items():
                start = clock()
                run(scan, given)
                if number:
                    taken[key].append(1e3 * (clock() - start))
        rows.append({"pass": name, **{k: median(v) for k, v in taken.items()}})
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: milliseconds, and how many times longer than `scan` the others take."""
    names = [n for n in rows[0] if n != "pass"]
    lines = ["| pass | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for row in rows:
        cells = [f"{row[n]:.1f} ({row[n] / row['scan']:.1f} x)" for n in names]
        lines.append(f"| {row['pass']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Bars of milliseconds."""
    from matplotlib.figure import Figure

    names = [n for n in rows[0] if n != "pass"]
    figure = Figure((7, 3))
    axes = figure.subplots()
    for i, row in enumerate(rows):
        places = [k + 0.4 * i for k in range(len(names))]
        axes.bar(places, [row[n] for n in names], 0.4, label=row["pass"])
    axes.set_xticks([k + 0.2 for k in range(len(names))], names)
    axes.set_yscale("log")
    axes.set_ylabel("milliseconds")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Times, table, files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--peers", action="append", default=[], help="a folder of them")
    parser.add_argument("--out", type=Path, default=Path("benchmark-out"))
    parser.add_argument("--page", type=Path, help="the page to write the table into")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    sys.path.extend(given.peers)
    scans = {"scan": ours("scan"), "loop": ours("loop")}
    scans |= {n: make() for n, (package, make) in PEERS.items() if find_spec(package)}
    rows = timed(scans, given.steps, given.rounds)
    given.out.mkdir(parents=True, exist_ok=True)
    facts = {"threads": given.threads, "steps": given.steps, "rows": rows}
    (given.out / "diagonal_scan.json").write_text(json.dumps(facts, indent=2) + "\n")
    plot(rows, given.out / "diagonal_scan.png")
    if given.page:
        put(given.page, "diagonal scan", table(rows))
    print(table(rows))


if __name__ == "__main__":
    main()
