"""What a caller hands over, checked and cut into runs."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from seqdsl.backends.reference.named import cast
from seqdsl.backends.reference.session import Index, Run
from seqdsl.diagnostics import CallError
from seqdsl.ir import nodes as ir
from seqdsl.ir.bind import Bound
from seqdsl.ir.types import BATCH, TIME, DType, Type, promote


def lead(type_: Type) -> tuple[str, ...]:
    """The axes that lead the dims of a tensor at the interface."""
    return tuple(a for a in (BATCH, TIME) if a in type_.axes)


def check_inputs(
    model: ir.Model,
    bound: Bound,
    inputs: Mapping[str, Tensor],
    batch: int | None,
    time: int | None,
) -> tuple[dict[str, Tensor], dict[str, int]]:
    """The inputs in double precision, and the extents of batch and time.

    Raises `CallError` for a missing or unknown input, a dtype or a shape.
    """
    for name in inputs:
        if name not in model.input:
            raise CallError(f"{model.name} has no input `{name}`")
    given = {BATCH: batch, TIME: time}
    extents = {axis: n for axis, n in given.items() if n is not None}
    checked: dict[str, Tensor] = {}
    for declared in model.inputs:
        if declared.name not in inputs:
            raise CallError(f"{model.name} needs the input `{declared.name}`")
        x = inputs[declared.name]
        _check_shape(declared, bound, x, extents)
        _check_dtype(declared, x)
        checked[declared.name] = cast(x, declared.type.dtype)
    return checked, extents


def _check_shape(
    declared: ir.Input, bound: Bound, x: Tensor, extents: dict[str, int]
) -> None:
    axes, dims = lead(declared.type), declared.type.dims
    names = ["batch" if a == BATCH else "time" for a in axes]
    shown = f"[{', '.join((*names, *dims))}]"
    came = list(x.shape)
    if len(came) != len(axes) + len(dims):
        raise CallError(f"input `{declared.name}` is {shown}, but has shape {came}")
    wanted = [extents.setdefault(a, n) for a, n in zip(axes, came, strict=False)]
    wanted += [bound.dims[d] for d in dims]
    if came != wanted:
        raise CallError(
            f"input `{declared.name}` is {shown} = {wanted}, but has shape {came}"
        )


def _dtype_of(x: Tensor) -> DType:
    if x.dtype == torch.bool:
        return "bool"
    if x.is_complex():
        return "complex"
    return "float" if x.is_floating_point() else "int"


def _check_dtype(declared: ir.Input, x: Tensor) -> None:
    wanted = declared.type.dtype
    if promote(wanted, _dtype_of(x)) != wanted:
        raise CallError(f"input `{declared.name}` is {wanted}, but holds {x.dtype}")


def cut(segments: Tensor | None, batch: int, time: int) -> tuple[Run, ...]:
    """The runs of a call: one for each row, or for each stretch of equal ids in a row.

    `segments`: `[batch, time]` integers; `CallError` for another shape or dtype.
    """
    if segments is None:
        return tuple(Run(row, 0, time) for row in range(batch))
    if list(segments.shape) != [batch, time]:
        came = list(segments.shape)
        raise CallError(f"segments are [batch, time] = {[batch, time]}, not {came}")
    if _dtype_of(segments) != "int":
        raise CallError(f"segments are whole numbers, not {segments.dtype}")
    runs: list[Run] = []
    for row in range(batch):
        ids = [int(i) for i in segments[row]]
        starts = [t for t in range(time) if t == 0 or ids[t] != ids[t - 1]]
        ends = [*starts[1:], time]
        pairs = zip(starts, ends, strict=True) if starts else ()
        runs.extend(Run(row, start, end - start) for start, end in pairs)
    return tuple(runs)


def read(x: Tensor, type_: Type, runs: tuple[Run, ...], index: Index) -> Tensor:
    """An input at an index: its `[dims]` there."""
    run = runs[index[BATCH]] if BATCH in type_.axes else None
    if run is not None:
        x = x[run.row]
    if TIME in type_.axes:
        x = x[(run.start if run is not None else 0) + index[TIME]]
    return x
