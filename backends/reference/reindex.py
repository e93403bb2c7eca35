"""Re-indexing of tensors by named dims: gather, roll, windows of a convolution."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from seqdsl.backends.reference.named import align
from seqdsl.diagnostics import CallError


def gather(
    x: Tensor,
    dims: Sequence[str],
    dim: str,
    index: Tensor,
    index_dims: Sequence[str],
    result: Sequence[str],
) -> Tensor:
    """`x: [dims]` at `index: [index_dims]` along `dim`, as `[result]`.

    Raises `CallError` for an index outside the dim.
    """
    check_range(index, x.shape[dims.index(dim)], dim)
    where: list[Tensor] = []
    for d, extent in zip(dims, x.shape, strict=True):
        if d == dim:
            where.append(align(index, index_dims, result))
        else:
            where.append(align(torch.arange(extent), [d], result))
    return x[tuple(where)]


def check_range(index: Tensor, extent: int, dim: str) -> None:
    """Raise `CallError` unless every index lies in [0, extent)."""
    if index.numel() and (int(index.min()) < 0 or int(index.max()) >= extent):
        worst = int(index.min()) if int(index.min()) < 0 else int(index.max())
        raise CallError(f"index {worst} is outside `{dim}`, which has {extent} entries")


def take(x: Tensor, axis: int, index: Tensor) -> Tensor:
    """`x` at the entries `index` of `axis`; zero (false) where the index is outside."""
    extent = x.shape[axis]
    inside = (index >= 0) & (index < extent)
    shape = [-1 if i == axis else 1 for i in range(x.dim())]
    taken = x.index_select(axis, torch.where(inside, index, 0))
    return torch.where(inside.reshape(shape), taken, torch.zeros_like(taken))


def roll(x: Tensor, axis: int, offset: int, wrap: bool) -> Tensor:
    """`x` moved by `offset` towards higher indices of `axis`."""
    source = torch.arange(x.shape[axis]) - offset
    return take(x, axis, source % x.shape[axis] if wrap else source)


def window(x: Tensor, axis: int, offset: int, pad: str) -> Tensor:
    """`x` read `offset` entries further along `axis`, beyond its ends as `pad` says."""
    extent = x.shape[axis]
    source = torch.arange(extent) + offset
    match pad:
        case "circular":
            source = source % extent
        case "replicate":
            source = source.clamp(0, extent - 1)
        case "reflect":
            period = max(2 * (extent - 1), 1)
            source = source % period
            source = torch.where(source < extent, source, period - source)
        case _:
            pass
    return take(x, axis, source)
