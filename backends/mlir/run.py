"""Calls compiled kernels on tensors, on as many cores as torch is told to use."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from math import prod
from threading import Lock

import torch
from torch import Tensor

from seqdsl.backends.mlir.compiled import compiled
from seqdsl.backends.mlir.engine import Code
from seqdsl.backends.mlir.kernel import Buffer, Kernel
from seqdsl.backends.mlir.machine import machine
from seqdsl.backends.mlir.nests import products_of
from seqdsl.backends.mlir.pages import fresh
from seqdsl.ir.types import DType
from seqdsl.schedule.region import Region

STORAGE = {
    torch.float32: (32, "f32"),
    torch.float64: (64, "f64"),
    torch.bfloat16: (32, "bf16"),
}
"""Bits of arithmetic and the MLIR type in memory."""

_ALONE = 1 << 15
"""Entries of state times steps below which one thread does the work."""

_SHARED = 1 << 16
"""Entries of matrices from which on threads may share the work of one step."""


def dtype_of(dtype: DType, floats: torch.dtype) -> torch.dtype:
    """The torch dtype of a value."""
    return {"bool": torch.bool, "int": torch.int64}.get(dtype, floats)


class Native:
    """The kernels of one region, compiled when they are first needed."""

    def __init__(self, region: Region) -> None:
        self.region = region
        self._products, self._weights = products_of(region)
        self._made: dict[object, tuple[Kernel, Code]] = {}
        model = region.model
        self._dims = {i.name: i.type.dims for i in model.inputs}
        self._dims |= {f"{s.name}.last": s.type.dims for s in model.states}
        for output in model.outputs:
            self._dims[f"{output.name}.out"] = output.expr.type.dims

    def kernel(self, floats: torch.dtype, batch: int) -> tuple[Kernel, Code]:
        """The kernel for floats of that dtype and as many sequences, and its code."""
        threads = torch.get_num_threads()
        together = batch >= threads
        team = not together and self._weights >= _SHARED
        rows = self._rows(1 if team else threads, batch)
        key = (floats, rows, together, team)
        if key not in self._made:
            host = machine(*STORAGE[floats])
            self._made[key] = compiled(self.region, host, rows, together, team)
        return self._made[key]

    def _rows(self, threads: int, batch: int) -> int:
        """How many sequences share what is read of a matrix: as registers have room."""
        if not self._products:
            return 1
        share = batch // threads
        most = 8 if self._products <= 3 else 4
        return next(n for n in (8, 4, 2, 1) if n <= min(most, max(share, 1)))

    def __call__(
        self, inputs: Sequence[Tensor], batch: int, time: int, floats: torch.dtype
    ) -> list[Tensor]:
        """Outputs of every step, then the states after the last."""
        kernel, code = self.kernel(floats, batch)
        names = (i.name for i in self.region.model.inputs)
        tensors = dict(zip(names, inputs, strict=True))
        results: list[Tensor] = []
        arguments: list[Tensor] = []
        for buffer in kernel.arguments:
            dims = self._dims[buffer.name]
            dtype = dtype_of(buffer.dtype, floats)
            if buffer.role == "input":
                arguments.append(_ready(tensors[buffer.name], buffer, dims, dtype))
                continue
            lead = (batch, time)[: len(buffer.axes)]
            shape = [*lead, *(kernel.extents[d] for d in buffer.dims)]
            arguments.append(fresh(shape, dtype))
            results.append(_declared(arguments[-1], buffer, dims))
        launch(kernel, code, arguments, batch, time)
        return results


def _ready(
    tensor: Tensor, buffer: Buffer, dims: tuple[str, ...], dtype: torch.dtype
) -> Tensor:
    """`tensor` as a kernel reads it: its dims in memory order and dense."""
    tensor = tensor.detach().to(dtype)
    count = len(buffer.axes)
    if buffer.dims != dims:
        inner = [count + dims.index(d) for d in buffer.dims]
        tensor = tensor.permute([*range(count), *inner])
    if buffer.block:
        return _blocked(tensor, buffer.block)
    stride = 1
    for size, have in zip(
        reversed(tensor.shape[count:]), reversed(tensor.stride()[count:]), strict=True
    ):
        if size != 1 and have != stride:
            return _dense(tensor, count)
        stride *= size
    return tensor


def _blocked(matrix: Tensor, block: int) -> Tensor:
    """The last dim of a matrix cut into vectors, which come first, in one copy.

    It is made anew for each call: weights may change without a trace (`p.data.copy_`), and
    to compare them with those of the call before takes as long.
    """
    *rows, last = matrix.shape
    whole, rest = divmod(last, block)
    packed = matrix.new_empty((whole + (rest > 0), *rows, block))
    full = matrix[..., : whole * block].reshape(*rows, whole, block)
    packed[:whole].copy_(full.movedim(-2, 0))
    if rest:
        packed[whole].zero_()[..., :rest].copy_(matrix[..., whole * block :])
    return packed


def _dense(tensor: Tensor, count: int) -> Tensor:
    """A copy whose inner dims are dense; what is the same along batch or time stays one."""
    lead = [slice(None) if s else slice(1) for s in tensor.stride()[:count]]
    shape = tensor.shape
    return tensor[tuple(lead)].contiguous().expand(shape)


def _declared(tensor: Tensor, buffer: Buffer, dims: tuple[str, ...]) -> Tensor:
    """An output with its dims in declared order."""
    if buffer.dims == dims:
        return tensor
    count = len(buffer.axes)
    inner = [count + buffer.dims.index(d) for d in dims]
    return tensor.permute([*range(count), *inner])


# ---- Threads


@cache
def _pool(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, "seqdsl")


_team = Lock()
"""One team at a time: two that wait for each other's threads would wait for ever."""


def _after_fork() -> None:
    """A child has neither the threads of its parent nor what they hold."""
    global _team
    _team = Lock()
    _pool.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


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


def launch(
    kernel: Kernel, code: Code, tensors: Sequence[Tensor], batch: int, time: int
) -> None:
    """All tasks of a kernel."""
    rows = -(-batch // kernel.rows) * prod(kernel.extents[d] for d in kernel.tasks)
    if rows == 0:
        return
    size = max(
        prod(kernel.extents[d] for d in kernel.buffer(s).dims) for s in kernel.states
    )
    threads = torch.get_num_threads() if rows * time * size > _ALONE else 1
    tiles, grain = _tiles(kernel, rows, threads)
    words = [w for tensor in tensors for w in _descriptor(tensor)]
    call = Launch(code, (batch, time, grain), tuple(words))
    if kernel.members:
        _share(call, kernel, rows, threads)
    else:
        _spread(call, rows * tiles, threads)


def _descriptor(tensor: Tensor) -> tuple[int, ...]:
    """A tensor as MLIR passes it."""
    at = tensor.data_ptr()
    return (at, at, 0, *tensor.shape, *tensor.stride())


def _tiles(kernel: Kernel, rows: int, threads: int) -> tuple[int, int]:
    """Into how many tiles the tiled dim is cut, and how many entries one has."""
    if kernel.tiled is None:
        return 1, 1
    extent = kernel.extents[kernel.tiled]
    most = -(-extent // kernel.grain)
    wanted = 1 if rows % threads == 0 else -(-2 * threads // rows)
    grain = -(-most // min(most, wanted)) * kernel.grain
    return -(-extent // grain), grain


def _share(call: Launch, kernel: Kernel, count: int, threads: int) -> None:
    """All tasks by a team: every thread runs its part of each."""
    members = min(threads, kernel.members, _processors())
    work = torch.zeros(kernel.work, dtype=torch.uint8)
    shared = _descriptor(work)
    if members == 1:
        call.run(0, count, (0, 1, *shared))
        return
    with _team:
        pool = _pool(threads - 1)
        parts = [(m, members, *shared) for m in range(members)]
        waiting = [pool.submit(call.run, 0, count, p) for p in parts[1:]]
        call.run(0, count, parts[0])
        for future in waiting:
            future.result()


@cache
def _processors() -> int:
    """How many threads of this process run at the same time."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _spread(call: Launch, count: int, threads: int) -> None:
    """Tasks in portions; whoever is done takes the next."""
    threads = min(threads, count)
    if threads == 1:
        call.run(0, count)
        return
    portion = max(1, count // (threads * 4))
    lock, place = Lock(), [0]

    def work() -> None:
        while True:
            with lock:
                first = place[0]
                place[0] = min(count, first + portion)
            if first >= count:
                return
            call.run(first, min(count, first + portion))

    waiting = [_pool(threads - 1).submit(work) for _ in range(threads - 1)]
    work()
    for future in waiting:
        future.result()
