"""Tensors with named dims: their order, extents and dtype made to fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from seqdsl.ir.types import DType

DTYPES: Mapping[DType, torch.dtype] = {
    "bool": torch.bool,
    "int": torch.int64,
    "float": torch.float64,
    "complex": torch.complex128,
}


def cast(x: Tensor, dtype: DType) -> Tensor:
    """`x` in the interpreter's own precision for `dtype`."""
    return x.to(DTYPES[dtype])


def align(x: Tensor, dims: Sequence[str], target: Sequence[str]) -> Tensor:
    """`x: [dims]` with its dims in the order of `target`; extent 1 for the others."""
    order = [dims.index(d) for d in target if d in dims]
    shape = [x.shape[dims.index(d)] if d in dims else 1 for d in target]
    return x.permute(order).reshape(shape)


def spread(
    x: Tensor, dims: Sequence[str], target: Sequence[str], sizes: Mapping[str, int]
) -> Tensor:
    """`x: [dims]` as `[target]`, repeated along the dims that it lacks."""
    return align(x, dims, target).expand([sizes[d] for d in target])


def flatten(x: Tensor, dims: Sequence[str], last: Sequence[str]) -> Tensor:
    """`x: [dims]` with the dims `last` merged into one, which comes last."""
    kept = [d for d in dims if d not in last]
    extents = [x.shape[dims.index(d)] for d in kept]
    count = 1
    for d in last:
        count *= x.shape[dims.index(d)]
    return align(x, dims, [*kept, *last]).reshape([*extents, count])
