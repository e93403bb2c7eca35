"""A loop along time as the generated module calls it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from seqdsl.backends.mlir.layout import extents_of
from seqdsl.backends.mlir.pieces import InPieces
from seqdsl.backends.mlir.run import Native, dtype_of
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import Scalar
from seqdsl.native import ops
from seqdsl.native.derivative import Derivative
from seqdsl.schedule.region import Region
from seqdsl.schedule.segments import segmented
from seqdsl.schedule.sized import bound


class NativeLoop:
    """The kernels of a region for any sizes, made when they are first called."""

    def __init__(self, region: Region, name: str) -> None:
        self.region, self.name = region, name
        self._known: dict[object, SizedLoop] = {}
        ops.loops[name] = self

    def __call__(
        self,
        sizes: Mapping[str, Scalar],
        reads: Sequence[Tensor],
        first: Sequence[Tensor],
        starts: Tensor | None,
        again: Sequence[Tensor | float] | bool,
        batch: int,
        time: int,
    ) -> tuple[Tensor, ...]:
        """Values of every step, then the states after the last.

        `first` are the states before the first step; where `starts` says, they begin
        again from `again`, which nothing reads where there are no segments.
        """
        floats = _floats((*first, *reads))
        inputs = [*self._entries(reads), *first]
        if starts is not None:
            assert not isinstance(again, bool)
            states = self.region.model.states
            inputs.append(starts)
            inputs += [
                _tensor(a, dtype_of(s.type.dtype, floats))
                for a, s in zip(again, states, strict=True)
            ]
        if torch.compiler.is_compiling():
            segments = starts is not None
            return ops.call_traced(self.name, sizes, segments, inputs, batch, time)
        loop = self.sized(sizes, starts is not None)
        return loop(inputs, batch, time, floats)

    def _entries(self, reads: Sequence[Tensor]) -> Iterator[Tensor]:
        """What is read, with an entry for each step of a repeat that reads one."""
        stacked = {n for turns in self.region.turns for n in turns.stacked}
        for read, tensor in zip(self.region.model.inputs, reads, strict=False):
            if read.name in stacked:
                yield from tensor.unbind(len(read.type.axes))
            else:
                yield tensor

    def sized(self, sizes: Mapping[str, Scalar], segments: bool) -> SizedLoop:
        """The loop of these sizes; with `segments`, of rows that begin anew."""
        key = (segments, *sizes.items())
        if key not in self._known:
            region = bound(self.region, sizes)
            self._known[key] = SizedLoop(segmented(region) if segments else region)
        return self._known[key]


def _floats(tensors: Sequence[Tensor]) -> torch.dtype:
    """The dtype in which a kernel computes: that of the states."""
    kinds = (t.dtype for t in tensors if t.is_floating_point())
    return next(kinds, torch.get_default_dtype())


def _tensor(value: Tensor | float, dtype: torch.dtype) -> Tensor:
    return value if isinstance(value, Tensor) else torch.full((), value, dtype=dtype)


class SizedLoop:
    """A region whose extents are numbers."""

    def __init__(self, region: Region) -> None:
        self.region = region
        self.native = Native(region)
        self.pieces = InPieces(self.native)
        self.extents = extents_of(region)
        self._known: dict[tuple[int, int], list[tuple[int, ...]]] = {}
        self._derivatives: dict[frozenset[str], Derivative] = {}

    def __call__(
        self, inputs: Sequence[Tensor], batch: int, time: int, floats: torch.dtype
    ) -> tuple[Tensor, ...]:
        """Values of every step, then the states after the last."""
        ready = [
            t if t.shape == shape else t.expand(shape)
            for t, shape in zip(inputs, self._shapes(batch, time), strict=True)
        ]
        if torch.is_grad_enabled() and any(t.requires_grad for t in ready):
            if time == 0:
                return self._no_step(ready, batch, floats)
            derivative = self._derivative_of(ready)
            if not derivative.known:
                return derivative.run_plain(ready, batch, time)
            apply: Any = getattr(_Differentiable, "apply")  # noqa: B009 (untyped)
            return tuple(apply(derivative, batch, time, *ready))
        run = self.pieces if self.pieces.pays(batch, time, floats) else self.native
        return tuple(run(ready, batch, time, floats))

    def _no_step(
        self, inputs: Sequence[Tensor], batch: int, floats: torch.dtype
    ) -> tuple[Tensor, ...]:
        """Outputs without steps; the states stay what they are."""
        model, states = self.region.model, self.region.states
        names = [i.name for i in model.inputs]
        outputs = self.native(inputs, batch, 0, floats)[: len(model.outputs)]
        return (*outputs, *(inputs[names.index(f"{s}_0")] for s in states))

    def _shapes(self, batch: int, time: int) -> list[tuple[int, ...]]:
        """What the inputs are expanded to."""
        known = self._known.get((batch, time))
        if known is None:
            inputs = self.region.model.inputs
            known = [self._shape(i, batch, time) for i in inputs]
            self._known = {(batch, time): known}
        return known

    def _shape(self, read: ir.Input, batch: int, time: int) -> tuple[int, ...]:
        lead = {"batch": batch, "t": time}
        dims = [self.extents[d] for d in read.type.dims]
        return (*(n for a, n in lead.items() if a in read.type.axes), *dims)

    @cached_property
    def derivative(self) -> Derivative:
        """The adjoint with all gradients, made when it is first wanted."""
        return Derivative(self.region)

    def _derivative_of(self, inputs: Sequence[Tensor]) -> Derivative:
        """The adjoint with the gradients that are wanted; constants have none."""
        pairs = zip(self.region.model.inputs, inputs, strict=True)
        wanted = frozenset(i.name for i, t in pairs if t.requires_grad)
        if wanted not in self._derivatives:
            self._derivatives[wanted] = Derivative(self.region, wanted)
        return self._derivatives[wanted]


class _Differentiable(torch.autograd.Function):
    """A region with its adjoint."""

    @staticmethod
    def forward(
        ctx: Any, derivative: Derivative, batch: int, time: int, *inputs: Tensor
    ) -> tuple[Tensor, ...]:
        with torch.no_grad():
            outputs, kept = derivative.run_forward(inputs, batch, time)
        ctx.derivative, ctx.extents = derivative, (batch, time)
        ctx.names, ctx.count = tuple(kept), len(inputs)
        ctx.save_for_backward(*inputs, *kept.values(), *outputs)
        return outputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        saved, count, names = ctx.saved_tensors, ctx.count, ctx.names
        inputs, rest = saved[:count], saved[count:]
        derivative: Derivative = ctx.derivative
        if torch.is_grad_enabled():
            found = derivative.differentiable(inputs, grads, *ctx.extents)
            return None, None, None, *found
        kept = dict(zip(names, rest[: len(names)], strict=True))
        wanted = [
            torch.zeros_like(o) if g is None and o.is_floating_point() else g
            for g, o in zip(grads, rest[len(names) :], strict=True)
        ]
        found = derivative.run_backward(inputs, kept, wanted, *ctx.extents)
        return None, None, None, *found
