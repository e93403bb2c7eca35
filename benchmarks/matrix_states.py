"""Matrix states: chunks against a loop, and against flash-linear-attention's references.

`python -m benchmarks.matrix_states --out DIR` times forward and backward of three
recurrences with their inputs given (batch 2, 4 heads, 64 by 64), everything in one run:
a table, `matrix_states.json` and `matrix_states.png`. The references are the pure-torch
chunked ones of `fla-core`, loaded by their path from `--peers FOLDER`, where `fla` lies.
Peak memory is that of a process of its own at `--long` steps with `chunk:64`, beyond
inputs, outputs and gradients, which any form has; what is freed goes back to the system
at once there, so that memory which nobody uses does not count. `least` is what the matrix
products alone take that chunks cannot do without. `--page docs/strategies.md` writes the
table there.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, cast

import torch
from torch import Tensor

from benchmarks.matrix_products import ROWS, least
from benchmarks.pages import put
from seqdsl.backends.torch import compile_model
from seqdsl.backends.torch.load import load
from seqdsl.elaborate import elaborate_text

BATCH, HEADS = 2, 4
STATE = "state S: [H, K, V] = 0"
SPECS = {
    "gated linear attention": (
        "a: [H, K]; k: [H, K]; v: [H, V]; q: [H, K]",
        "S = a * S[t-1] + k * v; output dot[K](q, S)",
    ),
    "gated delta rule": (
        "a: [H]; b: [H]; k: [H, K]; v: [H, V]; q: [H, K]",
        "e = v - dot[K](k, a * S[t-1]); S = a * S[t-1] + b * k * e; output dot[K](q, S)",
    ),
    "RWKV-7": (
        "a: [H, K]; b: [H, K]; kk: [H, K]; k: [H, K]; v: [H, V]; q: [H, K]",
        "S = a * S[t-1] - b * kk * dot[K](kk, S[t-1]) + k * v; output dot[K](q, S)",
    ),
    "KDA": (
        "a: [H, K]; b: [H]; k: [H, K]; v: [H, V]; q: [H, K]",
        "e = v - dot[K](k, a * S[t-1]); S = a * S[t-1] + b * k * e; output dot[K](q, S)",
    ),
}
REFERENCES = {
    "gated delta rule": ("gated_delta_rule", "naive_chunk_gated_delta_rule"),
    "KDA": ("kda", "naive_chunk_kda"),
}
SIZES = (16, 32, 64)
"""Steps of a chunk: the fastest counts."""
Run = Callable[[list[Tensor]], Tensor]


def spec(name: str) -> str:
    """The layer of one recurrence."""
    given, body = SPECS[name]
    lines = [*(f"input {x.strip()}" for x in given.split(";")), STATE]
    lines += [x.strip() for x in body.split(";")]
    return "layer L(H, K, V):\n" + "".join(f"    {line}\n" for line in lines)


def inputs(name: str, steps: int) -> list[Tensor]:
    """Gates near 1 and keys of length 1, as they are in trained models."""
    make = torch.Generator().manual_seed(0)
    found: list[Tensor] = []
    for declared in SPECS[name][0].split(";"):
        key, dims = (x.strip() for x in declared.split(":"))
        shape = [HEADS, *([ROWS] if "," in dims else [])]
        x = torch.randn(BATCH, steps, *shape, generator=make)
        if key in ("a", "b"):
            x = torch.sigmoid(x + (4 if key == "a" else 0))
        elif key in ("k", "kk"):
            x = torch.nn.functional.normalize(x, dim=-1)
        elif key == "q":
            x = x / math.sqrt(ROWS)
        found.append(x)
    return found


def ours(name: str, strategy: str) -> Run:
    """The generated module as a function of its inputs."""
    artifact = compile_model(elaborate_text(spec(name)), strategy=strategy)
    make = cast(Callable[..., Any], load(artifact))
    module = make(H=HEADS, K=ROWS, V=ROWS)
    return lambda xs: module(*xs)


def theirs(name: str, peers: str) -> Run:
    """The chunked reference of the same recurrence."""
    folder, function = REFERENCES[name]
    sys.path.append(peers)  # for what the file imports
    path = Path(peers) / "fla" / "ops" / folder / "naive.py"
    found = importlib.util.spec_from_file_location(folder, path)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    call: Any = getattr(module, function)

    def run(xs: list[Tensor]) -> Tensor:
        a, b, k, v, q = xs
        # It divides queries by the root of their number.
        q = q * math.sqrt(ROWS)
        return call(q=q, k=k, v=v, g=a.log(), beta=b)[0]

    return run


def once(run: Run, xs: list[Tensor], clock: Callable[[], float]) -> float:
    """Seconds of one forward and backward."""
    leaves = [x.clone().requires_grad_() for x in xs]
    ct = torch.cos(xs[-2])
    start = clock()
    torch.autograd.backward([run(leaves)], [ct])
    return clock() - start


def clock_of() -> Callable[[], float]:
    """One thread's own time does not depend on what else runs on the machine."""
    return time.thread_time if torch.get_num_threads() == 1 else time.perf_counter


def agree(runs: dict[str, Run], xs: list[Tensor]) -> None:
    """Everyone computes the same."""
    xs = [x[:, :128] for x in xs]
    wanted = runs["loop"](xs)
    for run in runs.values():
        torch.testing.assert_close(run(xs), wanted, rtol=1e-3, atol=1e-4)


def timed(name: str, steps: int, rounds: int, peers: str | None) -> dict[str, float]:
    """Medians in milliseconds, all taking turns."""
    runs = {"loop": ours(name, "loop")}
    runs |= {f"chunk:{n}": ours(name, f"chunk:{n}") for n in SIZES}
    if peers is not None and name in REFERENCES:
        runs["fla-core"] = theirs(name, peers)
    xs = inputs(name, steps)
    agree(runs, xs)
    clock = clock_of()
    taken: dict[str, list[float]] = {n: [] for n in runs}
    for _ in range(rounds):
        for key, run in runs.items():
            taken[key].append(once(run, xs, clock) * 1e3)
    return {key: median(found) for key, found in taken.items()}


def peak(name: str, steps: int) -> float:
    """Extra bytes of forward and backward by chunks, as a part of those of all states."""
    code = (
        f"from benchmarks import matrix_states as m; m.report_peak({name!r}, {steps})"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        check=True,
        text=True,
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"},
    )
    every = BATCH * steps * HEADS * ROWS * ROWS * 4
    return float(found.stdout) / every


def report_peak(name: str, steps: int) -> None:
    """Prints the bytes that one forward and backward take at most beyond their results."""
    run = ours(name, "chunk:64")
    once(run, inputs(name, 256), time.perf_counter)
    leaves = [x.requires_grad_() for x in inputs(name, steps)]
    ct = torch.cos(leaves[-2].detach())
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = resident("VmRSS")
    out = run(leaves)
    torch.autograd.backward([out], [ct])
    made = sum(x.numel() * x.element_size() for x in (out, *leaves))
    print(resident("VmHWM") - before - made)


def resident(what: str) -> int:
    """Bytes in memory: now, or at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (x for x in lines if x.startswith(what))
    return int(line.split()[1]) * 1024


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: milliseconds, and how many times longer than chunks the others take."""
    head = "| recurrence | `loop` | `chunk` | fla-core, torch | products alone | peak |"
    lines = [head, "| --- " * 6 + "|"]
    for row in rows:
        fla, chunk = row.get("fla-core"), row["chunk"]
        lines.append(
            f"| {row['name']} | {row['loop']:.0f} ({row['loop'] / chunk:.1f} x) "
            f"| {chunk:.0f} (of {row['size']}) "
            f"| {f'{fla:.0f} ({fla / chunk:.1f} x)' if fla else '-'} "
            f"| {row['least']:.0f} | {row['peak']:.3f} |"
        )
    return "\n".join(lines)


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Times as bars."""
    import matplotlib.pyplot as plt  # pyright: ignore

    draw = cast(Any, plt)
    figure, axes = draw.subplots(figsize=(8, 4))
    for i, key in enumerate(("loop", "fla-core", "chunk")):
        places = [j + 0.27 * i for j in range(len(rows))]
        axes.bar(places, [r.get(key, 0) for r in rows], 0.25, label=key)
    axes.set_xticks([j + 0.27 for j in range(len(rows))], [r["name"] for r in rows])
    axes.set_ylabel("ms, forward and backward")
    axes.set_yscale("log")
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Times, memory, table, files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2048)
    parser.add_argument("--long", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--peers", help="the folder that `fla` lies in")
    parser.add_argument("--out", type=Path, default=Path("bench-out"))
    parser.add_argument("--page", type=Path, help="the page to write the table into")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    rows: list[dict[str, Any]] = []
    for name in SPECS:
        times = timed(name, given.steps, given.rounds, given.peers)
        best = min(SIZES, key=lambda n: times[f"chunk:{n}"])
        rows.append({"name": name, **times, "size": best})
        rows[-1]["chunk"] = times[f"chunk:{best}"]
        rows[-1]["least"] = least(
            name, BATCH * HEADS, given.steps, 4 * given.rounds, clock_of()
        )
        rows[-1]["peak"] = peak(name, given.long)
        print(table(rows[-1:]), flush=True)
    given.out.mkdir(parents=True, exist_ok=True)
    facts = {"threads": given.threads, "steps": given.steps, "rows": rows}
    (given.out / "matrix_states.json").write_text(json.dumps(facts, indent=2))
    plot(rows, given.out / "matrix_states.png")
    if given.page:
        put(given.page, "matrix states", table(rows))
    print(table(rows))


if __name__ == "__main__":
    main()
