"""What runs take: memory at the highest, and time as sequences grow."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import seqdsl

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")


def _status(name: str) -> float:
    """An entry of the process's status, in MB."""
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    return 0.0


def peak(run: Callable[[], object]) -> float | None:
    """MB by which memory rises above what is there before; None where unknown."""
    try:
        _RESET.write_text("5")
    except OSError:
        return None
    before = _status("VmRSS")
    kept = run()
    highest = _status("VmHWM")
    del kept
    return highest - before


def growth(lengths: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)) -> Any:
    """A gated scan of one sequence: nanoseconds a step, and MB beside in- and output."""
    module = seqdsl.std.mingru.MinGRU(D=16, target="mlir")
    rows: list[dict[str, Any]] = []
    for length in lengths:
        x = torch.randn(1, length, 16)

        def run(x: torch.Tensor = x) -> object:
            with torch.no_grad():
                return module(x)

        run()
        start = time.process_time()
        run()
        spent = time.process_time() - start
        most = peak(run)
        # the input's two projections and the output have the size of x each
        beside = None if most is None else most - 3 * x.numel() * 4 / 2**20
        rows.append(
            {"T": length, "ns_per_step": 1e9 * spent / length, "mb_beside": beside}
        )
    return rows
