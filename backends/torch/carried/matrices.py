"""Several states, or the mixing entries of one, as the rows of one joint matrix."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from seqdsl.backends.torch.carried.dims import _broadcast
from seqdsl.backends.torch.carried.monoids import _SEMIRINGS, _UNITS

__all__ = ["_block", "_joint", "_rows", "_unrows"]


def _rows(
    x: Tensor, lead: int, order: Sequence[int], copies: int, mixed: int
) -> Tensor:
    """`x` as `[…, copies, rows, columns]`, its `lead` first dimensions left alone.

    `order` are its other dimensions: copies, those that make rows, those that make columns.
    """
    x = x.permute(*range(lead), *(lead + i for i in order))
    front, rest = x.shape[: lead + copies], x.shape[lead + copies :]
    return x.reshape(*front, math.prod(rest[:mixed]), math.prod(rest[mixed:]))


def _unrows(x: Tensor, lead: int, order: Sequence[int], sizes: Sequence[int]) -> Tensor:
    """The dimensions `sizes` that `_rows` has put in `order`."""
    x = x.reshape(*x.shape[:lead], *(sizes[i] for i in order))
    places = [order.index(i) for i in range(len(order))]
    return x.permute(*range(lead), *(lead + i for i in places))


def _block(x: Tensor, rows: int, columns: int) -> Tensor:
    """`x` with its last dimensions, so many of rows and of columns, as a matrix."""
    front = x.shape[: x.dim() - rows - columns]
    height = math.prod(x.shape[len(front) : len(front) + rows])
    return x.reshape(*front, height, math.prod(x.shape[len(front) + rows :]))


def _joint(
    semiring: str,
    sizes: Sequence[int],
    blocks: Mapping[tuple[int, int], Tensor],
    units: Sequence[tuple[int, int]],
) -> Tensor:
    """A matrix of blocks of `sizes` rows and columns; `units` are identities, the rest 0."""
    some = next(iter(blocks.values()))
    lead = _broadcast([b.shape[:-2] for b in blocks.values()])
    zero, one = _SEMIRINGS[semiring][2], _UNITS[semiring]
    lines: list[Tensor] = []
    for i, height in enumerate(sizes):
        line: list[Tensor] = []
        for j, width in enumerate(sizes):
            block = blocks.get((i, j))
            if block is None:
                block = some.new_full((height, width), zero)
                if (i, j) in units:
                    block = block.diagonal_scatter(some.new_full((height,), one))
            line.append(block.expand(*lead, height, width))
        lines.append(torch.cat(line, -1))
    return torch.cat(lines, -2)
