"""Pointwise operators and movements along dims that torch has no safe form of."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from seqdsl.backends.torch.carried.calling import CallError

__all__ = [
    "_broadcast",
    "_concat",
    "_elements",
    "_entries",
    "_entry",
    "_extern",
    "_gather",
    "_imag",
    "_logaddexp",
    "_move",
    "_neighbors",
    "_scatter",
]


def _logaddexp(a: Tensor, b: Tensor) -> Tensor:
    """log(eᵃ + eᵇ) whose gradient is finite where both are -inf."""
    gap = torch.where(a == b, 0, a - b)
    return torch.maximum(a, b) + torch.log1p(torch.exp(-torch.abs(gap)))


def _imag(x: Tensor) -> Tensor:
    """The imaginary part, 0 of real numbers."""
    return torch.imag(x) if x.is_complex() else torch.zeros_like(x)


def _entries(start: int, step: int, count: int, device: torch.device) -> Tensor:
    """start, start + step, … (count of them)."""
    return start + step * torch.arange(count, device=device)


def _move(x: Tensor, offset: int, dim: int) -> Tensor:
    """`x` moved towards higher indices of `dim`, filled with 0."""
    source = torch.arange(x.shape[dim], device=x.device) - offset
    inside = (source >= 0) & (source < x.shape[dim])
    moved = x.index_select(dim, torch.where(inside, source, 0))
    return torch.where(inside.view(-1, *[1] * (-1 - dim)), moved, 0)


def _broadcast(shapes: Sequence[Sequence[int]]) -> list[int]:
    """The shape of what broadcasts values of `shapes`, aligned at their last dims."""
    rank = max(map(len, shapes))
    full = [[*[1] * (rank - len(s)), *s] for s in shapes]
    return [0 if 0 in sizes else max(sizes) for sizes in zip(*full, strict=True)]


def _concat(parts: Sequence[Tensor], dim: int) -> Tensor:
    """`parts` one after another along `dim`, broadcast along the others."""
    shape = _broadcast([p.movedim(dim, 0).shape[1:] for p in parts])
    after = len(shape) + dim + 1
    wide = [p.expand(*shape[:after], p.shape[dim], *shape[after:]) for p in parts]
    return torch.cat(wide, dim)


def _gather(
    table: Tensor, index: Tensor, places: Sequence[int | None], rank: int
) -> Tensor:
    """`table` at `index` (along the dimension with place None), by dimensions' places."""
    where = [
        index
        if place is None
        else torch.arange(n, device=index.device).view(-1, *[1] * (rank - 1 - place))
        for n, place in zip(table.shape, places, strict=True)
    ]
    return table[tuple(where)]


def _entry(x: Tensor, dim: int, index: int, name: str) -> Tensor:
    """One entry of `x` along `dim`."""
    if not 0 <= index < x.shape[dim]:
        raise CallError(f"`{name}` is {index}, which is outside [0, {x.shape[dim]})")
    return x.select(dim, index)


def _neighbors(x: Tensor, dim: int, width: int, dilation: int, pad: str) -> Tensor:
    """Along `dim` the `width` entries around each, as the dimension behind it."""
    extent = x.shape[dim]
    offsets = (torch.arange(width, device=x.device) - (width - 1) // 2) * dilation
    source = torch.arange(extent, device=x.device)[:, None] + offsets
    inside = (source >= 0) & (source < extent)
    if pad == "circular":
        source = source % extent
    elif pad == "replicate":
        source = source.clamp(0, extent - 1)
    elif pad == "reflect":
        period = max(2 * (extent - 1), 1)
        source = source % period
        source = torch.where(source < extent, source, period - source)
    else:
        source = torch.where(inside, source, 0)
    near = x.index_select(dim, source.flatten())
    near = near.reshape(*x.shape[:dim], extent, width, *x.shape[x.dim() + dim + 1 :])
    if pad == "zero":
        near = torch.where(inside.view(extent, width, *[1] * (-1 - dim)), near, 0)
    return near


def _elements(extents: Sequence[int], device: torch.device) -> Tensor:
    """The row-major number of every element."""
    return torch.arange(math.prod(extents), device=device).view(*extents)


def _extern(
    function: Callable[..., Tensor],
    lead: int,
    shape: Sequence[int],
    *args: Tensor,
    dtype: torch.dtype,
) -> Tensor:
    """`function` at every index of the first `lead` dimensions: a `shape` each time."""
    around = _broadcast([a.shape[:lead] for a in args]) if lead else []
    flat = [a.expand(*around, *a.shape[lead:]).flatten(0, lead - 1) for a in args]
    results = [function(*one) for one in zip(*(flat if lead else [args]), strict=True)]
    for result in results:
        if list(result.shape) != list(shape):
            raise CallError(
                f"an extern op must return {list(shape)}; got {result.shape}"
            )
    if not results:
        return args[0].new_zeros(*around, *shape, dtype=dtype)
    return torch.stack(results).to(dtype).reshape(*around, *shape)


def _scatter(
    shape: Sequence[int], rows: Sequence[tuple[Tensor, ...]], parts: Sequence[Tensor]
) -> Tensor:
    """`parts` added up at their places `rows` in zeros of `shape`."""
    values = torch.cat(list(parts))
    places = tuple(torch.cat(list(place)) for place in zip(*rows, strict=True))
    zeros = values.new_zeros(*shape, *values.shape[1:])
    return zeros.index_put(places, values, accumulate=True)
