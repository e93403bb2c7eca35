"""Times and memory of calls that take turns, so that a busy machine is fair to all of them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, cast

import torch
from torch import Tensor

Run = Callable[[], object]

CLOCKS: Mapping[str, Callable[[], float]] = {
    "wall": time.perf_counter,
    "cpu": time.process_time,
}
"""Seconds that pass, and those that processors spend on this process."""


_REST = 0.04
"""Seconds between runs: onnxruntime's threads wait for 0.022 before they sleep."""

_SHORT = 0.05
"""Seconds below which a run is a short one."""


def median_times(
    runs: Mapping[str, Run], rounds: int, clock: Callable[[], float]
) -> dict[str, float]:
    """Milliseconds of each run: the median of `rounds`, after one that is not counted.

    Threads that waited for more work of the run before, as those of many libraries do for
    some milliseconds, are given time to leave their processors; a short run then goes once
    uncounted, to find its own threads and what it reads where they are in a stream of calls.
    """
    found: dict[str, list[float]] = {name: [] for name in runs}
    first = {name: _seconds(run, clock) for name, run in runs.items()}
    for _ in range(rounds):
        for name, run in runs.items():
            time.sleep(_REST)
            if first[name] < _SHORT:
                run()
            found[name].append(1e3 * _seconds(run, clock))
    return {name: median(times) for name, times in found.items()}


def _seconds(run: Run, clock: Callable[[], float]) -> float:
    start = clock()
    run()
    return clock() - start


def forward(call: Callable[..., object], inputs: Sequence[Tensor]) -> Run:
    """The forward pass alone."""

    def run() -> object:
        with torch.no_grad():
            return call(*inputs)

    return run


def with_backward(
    call: Callable[..., object], inputs: Sequence[Tensor], params: Sequence[Tensor]
) -> Run | None:
    """Forward, and gradients of the outputs at inputs and parameters; None where none are."""
    taken = [x.clone().requires_grad_() if _is_smooth(x) else x for x in inputs]
    leaves = [x for x in (*taken, *params) if x.requires_grad]
    outputs = _differentiable(call(*taken))
    if not leaves or not outputs:
        return None
    upstream = [torch.ones_like(y) for y in outputs]

    def run() -> object:
        outputs = _differentiable(call(*taken))
        return torch.autograd.grad(outputs, leaves, upstream, allow_unused=True)

    return run


def outputs_of(returned: object) -> tuple[object, ...]:
    """What a call gave, as a tuple where it is one value."""
    if isinstance(returned, tuple):
        return cast("tuple[object, ...]", returned)
    return (returned,)


def _is_smooth(x: Tensor) -> bool:
    return x.is_floating_point() or x.is_complex()


def _differentiable(outputs: object) -> list[Tensor]:
    values = outputs_of(outputs)
    return [y for y in values if isinstance(y, Tensor) and y.requires_grad]


@dataclass
class _Level:
    """Bytes held at a time, and the most of them so far."""

    now: int = 0
    most: int = 0

    def add(self, count: int) -> None:
        self.now += count
        self.most = max(self.most, self.now)


def peak_bytes(run: Run) -> int:
    """The most bytes of tensors that a run holds at once, beyond what was there before.

    As torch's allocator on CPU counts them; what libraries take elsewhere is not seen.
    """
    # read when the profiler starts for the first time: it has nothing to tell a user
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    from torch.profiler import ProfilerActivity, profile

    # some versions of torch warn where events of several cycles are not kept
    kept: dict[str, Any] = {"profile_memory": True, "acc_events": True}
    with profile(activities=[ProfilerActivity.CPU], **kept) as profiler:
        run()
    level = _Level()
    inner = cast(Any, profiler).profiler.kineto_results
    events = [e for e in inner.events() if e.name() == "[memory]"]
    for event in sorted(events, key=_when):
        level.add(event.nbytes())
    return level.most


def _when(event: Any) -> int:
    return event.start_ns()
