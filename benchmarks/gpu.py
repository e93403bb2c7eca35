"""Kernels on a GPU, beside their peers: `python -m benchmarks.gpu [-o DIR]`.

First each operation is checked against its meaning, step by step in float64, forward and
backward; then medians of `do_bench` are taken of our kernels, of flash-linear-attention
and mamba-ssm where they are installed, of the torch backend's chunks under torch.compile,
and of a copy of as many bytes as the operation must move. Writes a table, JSON and a plot.
Our kernels run with the tiles that are fastest on this GPU, found at the first call and kept
for later (`--untuned`: with those that suit any). Without a GPU it runs the same, in Triton's
interpreter at toy sizes: its times mean nothing then, and are marked so.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # Triton reads it when it is imported

import triton

from benchmarks.gpu_cases import OPERATIONS, Operation, Shape
from seqdsl.backends.triton.interpreting import interpreting, repair
from seqdsl.backends.triton.launch.tiles import TUNED

SHAPES = (
    Shape(1, 4096, 8, device="cuda"),
    Shape(8, 4096, 8, device="cuda"),
    Shape(1, 16384, 16, 64, 64, device="cuda"),
    Shape(1, 32768, 4, 256, 256, device="cuda"),
)
TOY = (Shape(1, 20, 1, 16, 16),)
BOUNDS = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 4e-2}
PASSES = ("forward", "with backward")


# ---- Correctness


def errors(operation: Operation, shape: Shape) -> dict[str, float]:
    """The largest error of outputs and gradients, relative to the largest of each."""
    inputs = operation.inputs(shape)
    exact = [x.detach().double().requires_grad_() for x in inputs]
    results: list[list[Tensor]] = []
    upstream: Tensor | None = None
    for run, given in ((operation.ours, inputs), (operation.loop, exact)):
        out = run(*given)
        if upstream is None:
            upstream = torch.randn_like(out.double())
        grads = torch.autograd.grad((out.double() * upstream).sum(), given)
        results.append([out.detach(), *grads])
    ours, loop = results
    found = [
        float((a.detach() - b).abs().max() / b.detach().abs().max().clamp(min=1e-9))
        for a, b in zip(ours, loop, strict=True)
    ]
    return {"output": found[0], "gradients": max(found[1:])}


def checked(name: str, shape: Shape) -> dict[str, Any]:
    """An operation against its meaning, at a length that a loop can run."""
    short = replace(shape, time=min(shape.time, 512), batch=1)
    found = errors(OPERATIONS[name], short)
    dtype = torch.float32 if name == "hgrn" else shape.dtype
    fine = max(found.values()) <= BOUNDS[dtype]
    return {"time": short.time, **found, "bound": BOUNDS[dtype], "fine": fine}


# ---- Times


def milliseconds(
    run: Callable[[], object], device: str, replayed: bool = False
) -> float:
    """The median of many runs on a GPU, one run on a CPU.

    A run is called from Python, or `replayed` from a CUDA graph: without the time in which
    Python starts kernels, which is longer than small kernels take.
    """
    if device == "cuda":
        from triton.testing import do_bench, do_bench_cudagraph

        found: Any = (do_bench_cudagraph if replayed else do_bench)(
            run, return_mode="median"
        )
        return float(found)
    start = time.perf_counter()
    run()
    return 1e3 * (time.perf_counter() - start)


def runs(operation: Operation, shape: Shape) -> dict[str, Callable[..., Tensor]]:
    """Who is timed: ours, torch.compile, and what is installed of the others."""
    found = {"seqdsl": operation.ours}
    if operation.chunks is not None:
        backend = "inductor" if shape.device == "cuda" else "eager"
        found["torch.compile"] = torch.compile(operation.chunks, backend=backend)
    if shape.device == "cuda":
        found |= operation.peers()
    return found


def both_passes(run: Callable[..., Tensor], inputs: Sequence[Tensor]) -> Any:
    """A forward pass, and one with the gradients of all inputs."""
    with torch.no_grad():
        upstream = torch.randn_like(run(*inputs))

    def forward() -> object:
        with torch.no_grad():
            return run(*inputs)

    def whole() -> object:
        return torch.autograd.grad(run(*inputs), inputs, upstream)

    return forward, whole


def warm(name: str, shape: Shape) -> None:
    """One run of both passes: tiles are tuned at the first shape that they serve."""
    for call in both_passes(OPERATIONS[name].ours, OPERATIONS[name].inputs(shape)):
        call()


def timed(
    name: str, shape: Shape, without: Sequence[str], replayed: bool = False
) -> dict[str, dict[str, float]]:
    """Milliseconds of each pass, by who; one that fails is left out, with a word."""
    operation = OPERATIONS[name]
    inputs = operation.inputs(shape)
    found: dict[str, dict[str, float]] = {p: {} for p in PASSES}
    for who, run in runs(operation, shape).items():
        if who in without:
            continue
        try:
            passes = zip(PASSES, both_passes(run, inputs), strict=True)
            for label, call in passes:
                found[label][who] = milliseconds(call, shape.device, replayed)
        except (RuntimeError, ValueError, triton.TritonError) as error:
            if who == "seqdsl":
                raise
            print(f"{name}: {who}: {type(error).__name__}: {str(error)[:200]}")
    for label, moved in zip(PASSES, least(name, inputs), strict=True):
        found[label]["bandwidth limit"] = copied(moved, shape.device)
    return found


def least(name: str, inputs: Sequence[Tensor]) -> tuple[int, int]:
    """Bytes that a forward pass must move, and one with a backward pass."""
    out = OPERATIONS[name].ours(*inputs).nbytes
    given = sum(x.nbytes for x in inputs)
    return given + out, (given + out) + (2 * given + out)


def copied(count: int, device: str) -> float:
    """Milliseconds in which as many bytes are read and written."""
    x = torch.empty(max(1, count // 2), dtype=torch.uint8, device=device)
    y = torch.empty_like(x)
    return milliseconds(lambda: y.copy_(x), device)


# ---- What comes out


def rows(
    names: Sequence[str], shapes: Sequence[Shape], without: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """A row for each operation and shape."""
    for shape in shapes:
        for name in names:
            torch.manual_seed(0)
            shown = {**asdict(shape), "dtype": str(shape.dtype)}
            warm(name, shape)
            right = checked(name, shape)
            yield {
                "operation": name,
                "shape": shown,
                "checked": right,
                "ms": timed(name, shape, without),
                "replayed": timed(name, shape, without, replayed=True)
                if shape.device == "cuda"
                else {},
            }


def table(result: dict[str, Any]) -> str:
    """Markdown: errors, milliseconds as called and as replayed, and what others take."""
    lines = [
        "| operation | B, T, heads, K, V | pass | error | ms called | replayed |",
        "|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        s, right = row["shape"], row["checked"]
        shape = ", ".join(str(s[n]) for n in ("batch", "time", "heads", "K", "V"))
        for label, error in zip(PASSES, ("output", "gradients"), strict=True):
            times = " | ".join(
                ", ".join(f"{who} {t:.3f}" for who, t in row[c].get(label, {}).items())
                for c in ("ms", "replayed")
            )
            lines.append(
                f"| {row['operation']} | {shape} | {label} | {right[error]:.0e} "
                f"| {times} |"
            )
    note = (
        ""
        if result["gpu"]
        else "\nTriton's interpreter on a CPU: times mean nothing.\n"
    )
    return "\n".join(lines) + "\n" + note


def plot(result: dict[str, Any], path: Path) -> None:
    """How many times longer the others take, as bars."""
    from matplotlib.figure import Figure

    bars = [
        (f"{row['operation']} T {row['shape']['time']} {label}: {who}", t)
        for row in result["rows"]
        for label, times in row["ms"].items()
        for who, t in (
            (w, ms / times["seqdsl"]) for w, ms in times.items() if w != "seqdsl"
        )
    ]
    figure = Figure((9, 0.3 * len(bars) + 1))
    axes = figure.subplots()
    axes.barh([b[0] for b in bars], [b[1] for b in bars])
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xlabel("times longer than seqdsl")
    axes.invert_yaxis()
    figure.tight_layout()
    figure.savefig(path)


def shape_of(text: str) -> Shape:
    """The shape that `1,4096,8,128,128` means; raises `ValueError` for other text."""
    batch, time_, heads, K, V = map(int, text.split(","))
    return Shape(batch, time_, heads, K, V)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run everything and write what came out; 1 where an operation is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(OPERATIONS))
    parser.add_argument("-o", "--out", type=Path, default=Path("benchmark-out"))
    parser.add_argument("--untuned", action="store_true", help="tiles for any GPU")
    parser.add_argument(
        "--shape", action="append", type=shape_of, help="B,T,heads,K,V; repeatable"
    )
    parser.add_argument(
        "--without", action="append", default=[], help="whom not to time; repeatable"
    )
    given = parser.parse_args(arguments)
    os.environ.setdefault("SEQDSL_AUTOTUNE", "0" if given.untuned else "1")
    gpu = torch.cuda.is_available() and not interpreting()
    if not gpu:
        repair()
    result: dict[str, Any] = {
        "gpu": torch.cuda.get_device_name() if gpu else None,
        "torch": torch.__version__,
        "triton": triton.__version__,
        "python": platform.python_version(),
        "rows": [],
    }
    given.out.mkdir(parents=True, exist_ok=True)
    device = "cuda" if gpu else "cpu"
    shapes = [replace(s, device=device) for s in given.shape or ()]
    for row in rows(given.names, shapes or (SHAPES if gpu else TOY), given.without):
        result["rows"].append(row)
        result["tiles"] = {", ".join(map(str, k)): asdict(t) for k, t in TUNED.items()}
        print(row["operation"], row["checked"], row["ms"], flush=True)
        (given.out / "gpu.json").write_text(json.dumps(result, indent=2) + "\n")
    (given.out / "gpu.md").write_text(table(result))
    plot(result, given.out / "gpu.svg")
    print(table(result))
    wrong = [r["operation"] for r in result["rows"] if not r["checked"]["fine"]]
    if wrong:
        print(f"wrong: {', '.join(wrong)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
