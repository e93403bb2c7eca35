"""Calls of compiled kernels, on as many cores as torch is told to use."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from math import prod
from threading import Lock

import torch
from torch import Tensor

from seqdsl.backends.mlir.engine import Code
from seqdsl.backends.mlir.kernel import Kernel
from seqdsl.backends.mlir.workers import workers

_ALONE = 1 << 15
"""Entries of state times steps below which one thread does the work."""


def launch(
    kernel: Kernel, code: Code, tensors: Sequence[Tensor], batch: int, time: int
) -> None:
    """All tasks of a kernel."""
    rows, _, _ = tasks_of(kernel, batch)
    if rows == 0:
        return
    size = max(
        prod(kernel.extents[d] for d in kernel.buffer(s).dims) for s in kernel.states
    )
    threads = torch.get_num_threads() if rows * time * size > _ALONE else 1
    tiles, grain = _tiles(kernel, rows, threads)
    call = Launch(code, (batch, time, grain), described(tensors))
    if kernel.members:
        _share(call, kernel, rows, threads)
    else:
        _spread(call, rows * tiles, threads, kernel.turns)


def tasks_of(kernel: Kernel, batch: int) -> tuple[int, int, int]:
    """How many tasks there are without tiles, how many with the most, a tile of all entries."""
    rows = -(-batch // kernel.rows) * prod(kernel.extents[d] for d in kernel.tasks)
    if kernel.tiled is None:
        return rows, rows, 1
    parts = -(-kernel.extents[kernel.tiled] // kernel.grain)
    return rows, rows * parts, parts * kernel.grain


def _tiles(kernel: Kernel, rows: int, threads: int) -> tuple[int, int]:
    """Into how many tiles the tiled dim is cut, and how many entries one has."""
    if kernel.tiled is None:
        return 1, 1
    extent = kernel.extents[kernel.tiled]
    most = -(-extent // kernel.grain)
    wanted = 1 if rows % threads == 0 else -(-2 * threads // rows)
    grain = -(-most // min(most, wanted)) * kernel.grain
    return -(-extent // grain), grain


@dataclass(frozen=True)
class Launch:
    """A kernel with all its arguments; tasks are called by number."""

    code: Code
    numbers: tuple[int, int, int]
    descriptors: tuple[int, ...]

    def run(self, first: int, past: int, shared: Sequence[int] = ()) -> None:
        """The tasks from `first` up to `past`; `shared` says who runs them with whom."""
        words = (first, past, *self.numbers, *shared, *self.descriptors)
        values = (ctypes.c_int64 * len(words))(*words)
        base = ctypes.addressof(values)
        places = range(base, base + 8 * len(words), 8)
        pointers = (ctypes.c_void_p * len(words))(*places)
        self.code.call(ctypes.addressof(pointers))


def described(tensors: Sequence[Tensor]) -> tuple[int, ...]:
    """Tensors as MLIR passes them."""
    return tuple(w for tensor in tensors for w in _descriptor(tensor))


def _descriptor(tensor: Tensor) -> tuple[int, ...]:
    """A tensor as MLIR passes it."""
    at = tensor.data_ptr()
    return (at, at, 0, *tensor.shape, *tensor.stride())


def _share(call: Launch, kernel: Kernel, count: int, threads: int) -> None:
    """All tasks by a team: every thread runs its part of each."""
    members = 1 if _busy() else min(threads, kernel.members, _processors())
    work = torch.zeros(kernel.work, dtype=torch.uint8)
    shared = _descriptor(work)
    if members == 1:
        call.run(0, count, (0, 1, *shared))
        return
    with _team:
        parts = [(m, members, *shared) for m in range(members)]
        rest = [partial(call.run, 0, count, p) for p in parts[1:]]
        waiting = workers(threads - 1).start(rest)
        call.run(0, count, parts[0])
        for future in waiting:
            future.result()


@cache
def _processors() -> int:
    """How many threads of this process run at the same time."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _busy() -> bool:
    """Whether others run as well: who waits for a thread that waits for a processor loses
    more than two threads gain. Results do not depend on it: the kernel is the same.
    """
    if not hasattr(os, "getloadavg"):
        return False
    return os.getloadavg()[0] > 1.5 * _processors()


def side_by_side(calls: Sequence[Callable[[], None]]) -> None:
    """Every call in a thread of its own; there are at most as many as torch's threads."""
    if not calls:
        return
    rest = calls[1:]
    waiting = workers(torch.get_num_threads() - 1).start(rest) if rest else []
    calls[0]()
    for future in waiting:
        future.result()


def _spread(call: Launch, count: int, threads: int, turns: int) -> None:
    """Tasks in portions, of `turns` where that leaves as many for all; whoever is done
    takes the next.
    """
    threads = min(threads, count)
    if threads == 1:
        call.run(0, count)
        return
    rounds = -(-count // (threads * turns))
    portion = -(-count // (threads * min(rounds, 4)))
    lock, place = Lock(), [0]

    def work() -> None:
        while True:
            with lock:
                first = place[0]
                place[0] = min(count, first + portion)
            if first >= count:
                return
            call.run(first, min(count, first + portion))

    waiting = workers(threads - 1).start([work] * (threads - 1))
    work()
    for future in waiting:
        future.result()


_team = Lock()
"""One team at a time: two that wait for each other's threads would wait for ever."""


def _after_fork() -> None:
    """A child does not have what threads of its parent hold."""
    global _team
    _team = Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
