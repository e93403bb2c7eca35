"""The step of a layer as prepared calls, into which a call puts its addresses."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from seqdsl.backends.mlir.compiled import compiled
from seqdsl.backends.mlir.engine import Code
from seqdsl.backends.mlir.kernel import Kernel
from seqdsl.backends.mlir.machine import machine
from seqdsl.backends.mlir.run import STORAGE
from seqdsl.native.stepping.plan import BlockCall, StepPlan
from seqdsl.native.stepping.slots import Base, Path, Slot
from seqdsl.native.stepping.tree import collect, filled, leaves, tree_of
from seqdsl.schedule.region import identity

_known: dict[object, tuple[Kernel, Code]] = {}


def _kernel(call: BlockCall, floats: torch.dtype, rows: int) -> tuple[Kernel, Code]:
    """The kernel of a block; equal blocks share one."""
    key = (identity(call.block.region), floats, rows)
    if key not in _known:
        host = machine(*STORAGE[floats])
        _known[key] = compiled(call.block.region, host, rows, False)
    return _known[key]


class StepProgram:
    """The step of a layer for one batch size and dtype of floats, in one thread."""

    def __init__(self, plan: StepPlan) -> None:
        store = plan.store
        self.plan, self.bases, self.batch = plan, store.bases, store.batch
        self.kept: list[object] = []
        self.calls: list[tuple[Any, int]] = []
        self.places: dict[int, list[tuple[Any, int, int]]] = {}
        rows = 4 if self.batch >= 4 else 2 if self.batch >= 2 else 1
        for call in plan.calls:
            kernel, code = _kernel(call, store.floats, rows)
            self._prepare(call, kernel, code)
        self.tree = tree_of(plan)
        numbered = list(enumerate(self.bases))
        paths = {b.path: n for n, b in numbered if b.kind == "state"}
        self.states = [paths.get(path) for path in leaves(self.tree, ())]
        self.inputs = [n for n, b in numbered if b.kind == "input"]
        fresh = [(n, b) for n, b in numbered if b.kind in ("output", "after")]
        self.fresh = [(n, *_room(b)) for n, b in fresh]
        self.joined = [n for n, b in fresh if b.dtype.is_complex]
        self.outputs = [n for n, b in numbered if b.kind == "output"]
        self.params = [n for n, b in numbered if b.kind == "param"]
        self.weights: list[tuple[Mapping[str, Any], str, Tensor, int]] = []

    def _prepare(self, call: BlockCall, kernel: Kernel, code: Code) -> None:
        """The arguments of a call, where addresses that are known later are 0."""
        tasks = -(-self.batch // kernel.rows)
        words = [0, tasks, self.batch, 1, 1]
        late: list[tuple[int, Slot]] = []
        slots = (*call.inputs, *call.outputs)
        for buffer, slot in zip(kernel.arguments, slots, strict=True):
            late.append((len(words), slot))
            sizes = [self.batch, 1][: len(buffer.axes)]
            strides = [slot.stride] * len(buffer.axes)
            dense = [1]
            for size in reversed(slot.shape[1:]):
                dense.insert(0, dense[0] * size)
            words += [0, 0, 0, *sizes, *slot.shape, *strides, *dense[: len(slot.shape)]]
        values = (ctypes.c_int64 * len(words))(*words)
        base = ctypes.addressof(values)
        pointers = (ctypes.c_void_p * len(words))(
            *range(base, base + 8 * len(words), 8)
        )
        for at, slot in late:
            offset = slot.offset * slot.dtype.itemsize
            if isinstance(slot.at, Tensor):
                values[at] = values[at + 1] = slot.at.data_ptr() + offset
                self.kept.append(slot.at)
            else:
                self.places.setdefault(slot.at, []).append((values, at + 1, offset))
        self.kept += [values, pointers, code]
        self.calls.append((code.call, ctypes.addressof(pointers)))

    def run(
        self, module: nn.Module, args: Sequence[Any], state: Any
    ) -> tuple[list[Tensor], Any] | None:
        """Outputs and the next state; None where a call is not one of these."""
        kept: list[Any] = []
        if not collect(self.tree, state, kept):
            return None
        taken = [(n, _dense(args[int(self.bases[n].path[0])])) for n in self.inputs]
        taken += [
            (n, _dense(t))
            for n, t in zip(self.states, kept, strict=True)
            if n is not None
        ]
        if not self._fits(taken) or not self._weights(module):
            return None
        made = {n: torch.empty(shape, dtype=d) for n, shape, d in self.fresh}
        known = {n: _apart(t) if t.is_complex() else t for n, t in taken} | made
        for number, tensor in known.items():
            address = tensor.data_ptr()
            for values, place, offset in self.places.get(number, ()):
                values[place] = address + offset
        for call, pointers in self.calls:
            call(pointers)
        for number in self.joined:
            made[number] = torch.complex(made[number][0], made[number][1])
        return [made[n] for n in self.outputs], filled(self.tree, made, state)

    def _fits(self, taken: Sequence[tuple[int, Any]]) -> bool:
        """Whether all tensors are as the calls have them."""
        grad, bases = torch.is_grad_enabled(), self.bases
        for number, tensor in taken:
            base = bases[number]
            if (
                type(tensor) is not Tensor
                or tensor.dtype is not base.dtype
                or tensor.shape != base.shape
                or not tensor.is_contiguous()
                or not tensor.is_cpu
                or (grad and tensor.requires_grad)
            ):
                return False
        for number, extent in self.plan.checked:
            (tensor,) = (t for n, t in taken if n == number)
            values: list[int] = tensor.reshape(-1).tolist()
            if not all(0 <= v < extent for v in values):
                return False
        return True

    def _weights(self, module: nn.Module) -> bool:
        """Parameters lie where the calls have them, or are put there."""
        grad = torch.is_grad_enabled()
        for holder, name, tensor, address in self.weights:
            if (
                holder.get(name) is not tensor
                or tensor.data_ptr() != address
                or not tensor.is_contiguous()
                or (grad and tensor.requires_grad)
            ):
                break
        else:
            if len(self.weights) == len(self.params):
                return True
        return self._find_weights(module, grad)

    def _find_weights(self, module: nn.Module, grad: bool) -> bool:
        found: list[tuple[Mapping[str, Any], str, Tensor, int]] = []
        for number in self.params:
            base = self.bases[number]
            holder, name = _holder(module, base.path)
            tensor = holder.get(name)
            if tensor is None or tensor.dtype != base.dtype or not tensor.is_cpu:
                return False
            if tensor.is_complex():  # a copy of its parts would not follow it
                return False
            if tensor.shape != base.shape or not tensor.is_contiguous():
                return False
            if grad and tensor.requires_grad:
                return False
            address = tensor.data_ptr()
            found.append((holder, name, tensor, address))
            for values, at, offset in self.places.get(number, ()):
                values[at] = address + offset
        self.weights = found
        return True


def _room(base: Base) -> tuple[tuple[int, ...], torch.dtype]:
    """Shape and dtype of the memory in which kernels leave a base."""
    if base.dtype.is_complex:
        return (2, *base.shape), base.dtype.to_real()
    return base.shape, base.dtype


def _apart(value: Tensor) -> Tensor:
    """Real parts, behind them imaginary parts."""
    return torch.view_as_real(value.resolve_conj()).movedim(-1, 0).contiguous()


def _dense(value: Any) -> Any:
    """An input as kernels read it; `x[:, t]` of several sequences is not."""
    dense = not isinstance(value, Tensor) or value.is_contiguous()
    return value if dense else value.contiguous()


def _holder(module: nn.Module, path: Path) -> tuple[Mapping[str, Any], str]:
    """What holds a parameter, and its name there."""
    *parts, name = map(str, path)
    inner: Any = module
    for part in parts:
        inner = inner._modules[part]
    own = inner._parameters if name in inner._parameters else inner._buffers
    return own, name
