"""Native CPU kernels beside their peers: `python -m benchmarks.cpu [--quick] [-o DIR]`.

Every row runs the same inputs through the kernels, the loop of the torch backend, and
what else is installed: JAX (`lax.scan`, jitted), `torch.nn` and onnxruntime's
`LinearAttention`. Runs of a row are interleaved and medians reported. Writes a table, JSON
and a plot.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import seqdsl
from benchmarks.cases import SLSTM, Case, cases
from benchmarks.cpu_memory import growth, peak
from benchmarks.cpu_table import plot, table, write_docs
from benchmarks.peers import jax_runs, onnx_run
from benchmarks.scans import transition
from seqdsl.backends.mlir.machine import host_vectors
from seqdsl.bench import measure
from seqdsl.bench.measure import CLOCKS, Run
from seqdsl.bench.measure import forward as without_gradients

_STREAM = 50
_LENGTHS = (1_000, 10_000, 100_000, 1_000_000)

_clock = [CLOCKS["wall"]]


def median_times(runs: dict[str, Run], rounds: int) -> dict[str, float]:
    """Milliseconds of each run, by the clock asked for."""
    return measure.median_times(runs, rounds, _clock[0])


def with_backward(module: Any, inputs: list[Tensor]) -> Run:
    """Forward and the gradients of all inputs."""
    run = measure.with_backward(module, inputs, [])
    assert run is not None
    return run


def machine_rates(rounds: int) -> dict[str, float]:
    """Measured GEMM rate (GF/s) and bandwidths (GB/s).

    Of a stream, two reads and a write, and of reading again as many weights as four
    gated layers have.
    """
    a = torch.randn(1024, 1024)
    x, y = torch.randn(8, 1 << 20), torch.randn(8, 1 << 20)
    out, read = torch.empty_like(x), torch.randn(1 << 20)
    runs: dict[str, Run] = {
        "gemm": lambda: a @ a,
        "add": lambda: torch.add(x, y, out=out),
        "read": lambda: read.sum(),
    }
    times = median_times(runs, rounds)
    return {
        "gemm_gflops": 2 * 1024**3 / times["gemm"] / 1e6,
        "stream_gbytes": 12 * x.numel() / times["add"] / 1e6,
        "read_gbytes": 4 * read.numel() / times["read"] / 1e6,
    }


def recurrence_row(case: Case, rounds: int, loop: bool) -> dict[str, Any]:
    """One recurrence, forward and with gradients."""
    start = time.perf_counter()
    layer, options = seqdsl.loads(case.text).Row, dict[str, Any](case.options)
    kernel = layer(target="mlir", **options)
    inputs = case.tensors()
    if "A" in dict(kernel.named_parameters()):
        with torch.no_grad():
            kernel.A.copy_(transition(case.options["N"]))
    without_gradients(kernel, [x[:, :1] for x in inputs])()
    compile_ms = 1e3 * (time.perf_counter() - start)
    forward: dict[str, Run] = {"kernel": without_gradients(kernel, inputs)}
    backward: dict[str, Run] = {"kernel": with_backward(kernel, inputs)}
    if loop:
        plain = layer(target="torch", strategy="loop", **options)
        plain.load_state_dict(kernel.state_dict())
        forward["torch loop"] = without_gradients(plain, inputs)
    for name, (ahead, back) in jax_runs(case, inputs).items():
        forward[name], backward[name] = ahead, back
    onnx = onnx_run(case, inputs)
    if onnx is not None:
        forward["onnxruntime"] = onnx
    states = 4 * case.batch * case.time * sum(_entries(c) for c in case.carry)
    return {
        "name": case.name,
        "shape": f"B {case.batch}, T {case.time}",
        "compile_ms": compile_ms,
        "peak_mb": peak(backward["kernel"]),
        "all_states_mb": states / 2**20,
        "forward_ms": median_times(forward, rounds),
        "with_backward_ms": median_times(backward, rounds),
        "gflops": case.flops * case.batch * case.time / 1e9,
        "gbytes": 4 * case.numbers / 1e9,
    }


def _entries(shape: tuple[int, ...]) -> int:
    return prod(shape)


_CELLS = (
    ("GRU", seqdsl.std.gru.GRU, torch.nn.GRU),
    ("RNN", seqdsl.std.elman.Elman, torch.nn.RNN),
    ("LSTM", seqdsl.std.lstm.LSTM, torch.nn.LSTM),
    ("sLSTM, beside the LSTM", seqdsl.loads(SLSTM).Row, torch.nn.LSTM),
)


def cell_rows(scale: int, rounds: int) -> list[dict[str, Any]]:
    """Dense cells beside `torch.nn`'s, their input projections included."""
    rows: list[dict[str, Any]] = []
    for batch, steps, width, hidden in ((8, 1024, 256, 256), (1, 2048, 256, 512)):
        x = torch.randn(batch, steps // scale, width)
        for name, layer, peer in _CELLS:
            ours = layer(D=width, H=hidden, target="mlir")
            theirs: Any = peer(width, hidden, batch_first=True)

            def theirs_alone(x: Tensor, theirs: Any = theirs) -> Tensor:
                return theirs(x)[0]

            pairs = {"kernel": ours, "torch.nn": theirs_alone}
            forward = {n: without_gradients(m, [x]) for n, m in pairs.items()}
            backward = {n: with_backward(m, [x]) for n, m in pairs.items()}
            rows.append(
                {
                    "name": name,
                    "shape": f"B {batch}, T {steps // scale}, {width} to {hidden}",
                    "forward_ms": median_times(forward, rounds),
                    "with_backward_ms": median_times(backward, rounds),
                }
            )
    return rows


def step_row(rounds: int) -> dict[str, Any]:
    """One token through four gated layers."""
    text = "import std.gla: GLA\nlayer Row(D):\n    input x: [D]\n"
    text += "".join(f"    y{i} = GLA(y{i - 1}, heads = 4)\n" for i in range(1, 5))
    text = text.replace("y0", "x") + "    output y4\n"
    runs: dict[str, Run] = {}
    weights = 0
    for target in ("mlir", "torch"):
        module = seqdsl.loads(text).Row(D=256, target=target, strategy="loop")
        state, x = module.initial_state(1), torch.randn(1, 256)
        weights = sum(4 * p.numel() for p in module.parameters())

        def run(module: Any = module, state: Any = state, x: Tensor = x) -> object:
            # a stream: each step takes the state of the one before
            with torch.no_grad():
                for _ in range(_STREAM):
                    _, state = module.step(x, state)
            return state

        runs["kernel" if target == "mlir" else "torch"] = run
    return {
        "name": "step of four GLA layers",
        "shape": "B 1, D 256",
        "weights_mb": weights / 1e6,
        "forward_ms": {n: t / _STREAM for n, t in median_times(runs, rounds).items()},
    }


def _processor() -> str:
    """The processor's own name, where Linux tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.exists() else []
    named = (x.partition(":")[2].strip() for x in lines if x.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def main() -> None:
    """Run all rows and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="an eighth of the lengths")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("-o", "--out", type=Path, default=Path("benchmark-out"))
    parser.add_argument(
        "--docs", type=Path, help="a page whose table is to be replaced, docs/native.md"
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--clock",
        choices=CLOCKS,
        default="wall",
        help="cpu: what the process used, for machines that others share; one thread",
    )
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    _clock[0] = CLOCKS[given.clock]
    if given.threads == 1:
        flags = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        os.environ.setdefault("XLA_FLAGS", flags)
    scale, rounds = (8, 3) if given.quick else (1, given.rounds)
    bits, _ = host_vectors()
    result: dict[str, Any] = {
        "threads": torch.get_num_threads(),
        "clock": given.clock,
        "rounds": rounds,
        "vector_bits": bits,
        "host": f"{_processor()}, vectors of {bits} bits",
        "machine": machine_rates(rounds),
        "rows": [],
    }
    for case in cases(scale):
        result["rows"].append(recurrence_row(case, rounds, given.quick))
        print(
            case.name,
            result["rows"][-1]["forward_ms"],
            result["rows"][-1]["with_backward_ms"],
            flush=True,
        )
    result["rows"] += cell_rows(scale, rounds)
    result["rows"].append(step_row(rounds))
    result["growth"] = growth((1_000, 10_000) if given.quick else _LENGTHS)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "cpu.json").write_text(json.dumps(result, indent=2) + "\n")
    (given.out / "cpu.md").write_text(table(result))
    plot(result, given.out / "cpu.svg")
    if given.docs is not None:
        write_docs(result, given.docs)
    print(table(result))


if __name__ == "__main__":
    main()
