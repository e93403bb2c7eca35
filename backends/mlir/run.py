"""Calls compiled kernels on tensors, on as many cores as torch is told to use."""

from __future__ import annotations

import ctypes
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
from seqdsl.backends.mlir.nests import has_products
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


def dtype_of(dtype: DType, floats: torch.dtype) -> torch.dtype:
    """The torch dtype of a value."""
    return {"bool": torch.bool, "int": torch.int64}.get(dtype, floats)


class Native:
    """The kernels of one region, compiled when they are first needed."""

    def __init__(self, region: Region) -> None:
        self.region = region
        self._dense = has_products(region)
        self._made: dict[object, tuple[Kernel, Code]] = {}
        model = region.model
        self._dims = {i.name: i.type.dims for i in model.inputs}
        self._dims |= {f"{s.name}.last": s.type.dims for s in model.states}
        for output in model.outputs:
            self._dims[f"{output.name}.out"] = output.expr.type.dims

    def kernel(
        self, floats: torch.dtype, rows: int, together: bool
    ) -> tuple[Kernel, Code]:
        """The kernel for floats of that dtype, and its code."""
        key = (floats, rows, together)
        if key not in self._made:
            host = machine(*STORAGE[floats])
            self._made[key] = compiled(self.region, host, rows, together)
        return self._made[key]

    def _rows(self, batch: int) -> int:
        """How many sequences share what is read of a matrix."""
        if not self._dense:
            return 1
        share = batch // torch.get_num_threads()
        return 4 if share >= 4 else 2 if share >= 2 else 1

    def __call__(
        self, inputs: Sequence[Tensor], batch: int, time: int, floats: torch.dtype
    ) -> list[Tensor]:
        """Outputs of every step, then the states after the last."""
        together = batch >= torch.get_num_threads()
        kernel, code = self.kernel(floats, self._rows(batch), together)
        names = (i.name for i in self.region.model.inputs)
        tensors = dict(zip(names, inputs, strict=True))
        results: list[Tensor] = []
        arguments: list[Tensor] = []
        for buffer in kernel.arguments:
            dims = self._dims[buffer.name]
            dtype = dtype_of(buffer.dtype, floats)
            if buffer.role == "input":
                given = _ready(tensors[buffer.name], buffer, dims, dtype)
                arguments.append(_blocked(given, buffer.block))
                continue
            lead = (batch, time)[: len(buffer.axes)]
            shape = [*lead, *(kernel.extents[d] for d in buffer.dims)]
            arguments.append(torch.empty(shape, dtype=dtype))
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
    stride = 1
    for size, have in zip(
        reversed(tensor.shape[count:]), reversed(tensor.stride()[count:]), strict=True
    ):
        if size != 1 and have != stride:
            return _dense(tensor, count)
        stride *= size
    return tensor


def _blocked(matrix: Tensor, block: int) -> Tensor:
    """The last dim of a matrix cut into vectors, which come first."""
    if not block:
        return matrix
    short = -matrix.shape[-1] % block
    rows = matrix.shape[:-1]
    padded = torch.nn.functional.pad(matrix, (0, short))
    parts = padded.reshape(*rows, -1, block)
    return parts.movedim(-2, 0).contiguous()


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


@dataclass(frozen=True)
class Launch:
    """A kernel with all its arguments; tasks are called by number."""

    code: Code
    numbers: tuple[int, int, int]
    descriptors: tuple[int, ...]

    def run(self, first: int, past: int) -> None:
        """The tasks from `first` up to `past`."""
        words = (first, past, *self.numbers, *self.descriptors)
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
    words: list[int] = []
    for tensor in tensors:
        at = tensor.data_ptr()
        words += (at, at, 0, *tensor.shape, *tensor.stride())
    _spread(Launch(code, (batch, time, grain), tuple(words)), rows * tiles, threads)


def _tiles(kernel: Kernel, rows: int, threads: int) -> tuple[int, int]:
    """Into how many tiles the tiled dim is cut, and how many entries one has."""
    if kernel.tiled is None:
        return 1, 1
    extent = kernel.extents[kernel.tiled]
    most = -(-extent // kernel.grain)
    wanted = 1 if rows % threads == 0 else -(-2 * threads // rows)
    grain = -(-most // min(most, wanted)) * kernel.grain
    return -(-extent // grain), grain


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
