"""Shapes of what a loop reads and returns, known without running it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from seqdsl.backends.mlir.run import dtype_of
from seqdsl.ir import nodes as ir
from seqdsl.ir.sizes import evaluate
from seqdsl.ir.types import BATCH, TIME, DType, Type

if TYPE_CHECKING:
    from seqdsl.native.loop import SizedLoop


@dataclass(frozen=True)
class Shape:
    """Extents of a value: along batch and time where it has them, then of its dims."""

    batched: bool
    timed: bool
    dims: tuple[int, ...]
    kind: DType

    def sizes(self, batch: int, time: int) -> list[int]:
        lead = [batch] if self.batched else []
        return [*lead, *([time] if self.timed else []), *self.dims]


def shape_of(type_: Type, extents: Mapping[str, int]) -> Shape:
    dims = tuple(extents[d] for d in type_.dims)
    return Shape(BATCH in type_.axes, TIME in type_.axes, dims, type_.dtype)


def results_of(loop: SizedLoop) -> list[Shape]:
    """Values of every step, then states after the last."""
    model, extents = loop.region.model, loop.extents
    shapes = [
        Shape(
            True, True, tuple(extents[d] for d in o.expr.type.dims), o.expr.type.dtype
        )
        for o in model.outputs
    ]
    for name in loop.region.states:
        type_ = model.state[name].type
        dims = tuple(extents[d] for d in type_.dims)
        shapes.append(Shape(True, False, dims, type_.dtype))
    return shapes


def kept_of(loop: SizedLoop) -> list[Shape]:
    """What the gradient reads beside the inputs."""
    found = loop.derivative.adjoint
    assert found is not None
    model = found.forward
    wanted = set(found.saved.values())
    sizes = {d: evaluate(s, {}) for d, s in model.dims.items()}
    extents = {d: int(n) for d, n in sizes.items()}
    return [
        shape_of(o.expr.type, extents | _digits(o))
        for o in model.outputs
        if o.name in wanted
    ]


def _digits(output: ir.Output) -> dict[str, int]:
    return {d: int(d) for d in output.expr.type.dims if d.isdigit()}


def floats_of(inputs: Sequence[Tensor]) -> torch.dtype:
    """The dtype in which a kernel computes."""
    kinds = (t.dtype for t in reversed(inputs) if t.is_floating_point())
    return next(kinds, torch.get_default_dtype())


def empty(
    shapes: Sequence[Shape], inputs: Sequence[Tensor], batch: int, time: int
) -> list[Tensor]:
    floats = floats_of(inputs)
    return [
        inputs[0].new_empty(s.sizes(batch, time), dtype=dtype_of(s.kind, floats))
        for s in shapes
    ]
