"""Calls compiled kernels on tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from seqdsl.backends.mlir.compiled import compiled
from seqdsl.backends.mlir.engine import Code
from seqdsl.backends.mlir.kernel import Buffer, How, Kernel
from seqdsl.backends.mlir.machine import machine
from seqdsl.backends.mlir.nests import products_of
from seqdsl.backends.mlir.threads import launch
from seqdsl.ir.types import DType
from seqdsl.runtime.pages import _unwritten  # pyright: ignore[reportPrivateUsage]
from seqdsl.schedule.region import Region

STORAGE = {
    torch.float32: (32, "f32"),
    torch.float64: (64, "f64"),
    torch.bfloat16: (32, "bf16"),
}
"""Bits of arithmetic and the MLIR type in memory."""

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
        self.dims = {i.name: i.type.dims for i in model.inputs}
        self.dims |= {f"{s.name}.last": s.type.dims for s in model.states}
        for output in model.outputs:
            self.dims[f"{output.name}.out"] = output.expr.type.dims

    def kernel(
        self, floats: torch.dtype, batch: int, ranges: bool = False
    ) -> tuple[Kernel, Code]:
        """The kernel for floats of that dtype and as many sequences, and its code.

        With `ranges` it runs a part of the steps.
        """
        threads = torch.get_num_threads()
        together = batch >= threads
        team = not together and self._weights >= _SHARED
        how: How = "ranges" if ranges else "team" if team else "tasks"
        rows = self._rows(1 if team else threads, batch)
        members = threads if how == "team" else 1
        key = (floats, rows, together, how, members)
        if key not in self._made:
            host = machine(*STORAGE[floats])
            self._made[key] = compiled(self.region, host, rows, together, how, members)
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
        arguments, results = self.arguments(kernel, inputs, batch, time, floats)
        launch(kernel, code, arguments, batch, time)
        return results

    def arguments(
        self,
        kernel: Kernel,
        inputs: Sequence[Tensor],
        batch: int,
        time: int,
        floats: torch.dtype,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """What a kernel is called with, and those of it that are results."""
        names = (i.name for i in self.region.model.inputs)
        tensors = dict(zip(names, inputs, strict=True))
        results: list[Tensor] = []
        arguments: list[Tensor] = []
        for buffer in kernel.arguments:
            dims = self.dims[buffer.name]
            dtype = dtype_of(buffer.dtype, floats)
            if buffer.role == "input":
                arguments.append(ready(tensors[buffer.name], buffer, dims, dtype))
                continue
            lead = (batch, time)[: len(buffer.axes)]
            shape = [*lead, *(kernel.extents[d] for d in buffer.dims)]
            arguments.append(_unwritten(shape, dtype))
            results.append(declared(arguments[-1], buffer, dims))
        return arguments, results


def ready(
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


def declared(tensor: Tensor, buffer: Buffer, dims: tuple[str, ...]) -> Tensor:
    """An output with its dims in declared order."""
    if buffer.dims == dims:
        return tensor
    count = len(buffer.axes)
    inner = [count + buffer.dims.index(d) for d in dims]
    return tensor.permute([*range(count), *inner])
