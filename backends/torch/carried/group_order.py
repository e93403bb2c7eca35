"""Steps of matrix states in the order of chunks and of groups of chunks."""

from typing import NamedTuple

import torch
from torch import Tensor

from seqdsl.backends.torch.carried.chunks import _apart

__all__ = [
    "_How",
    "_chunk_starts",
    "_in_chunks",
    "_in_groups",
    "_in_order",
    "_single",
]


class _How(NamedTuple):
    """Steps in a chunk and in a group of chunks that are worked on at once; states.

    Erases are the negative of `right` if `minus`. What is `plain` looks at no numbers.
    """

    size: int
    group: int
    states: int
    minus: bool = False
    plain: bool = True


def _single(x: Tensor) -> Tensor:
    """Half precision as single: products are added up."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _in_order(x: Tensor, size: int) -> Tensor:
    """A view of `[batch, count * size, copies, …]` as `[count, batch, copies, size, …]`."""
    return _apart(x, 1, x.shape[1] // size, size).transpose(0, 1).transpose(2, 3)


def _padded(x: Tensor, size: int, fill: Tensor | None = None) -> Tensor:
    """`[batch, time, …]` with steps added up to whole chunks."""
    pad = -x.shape[1] % size
    if not pad:
        return x
    fill = x.new_zeros(()) if fill is None else fill.to(x.dtype)
    return torch.cat([x, fill.expand(len(x), pad, *x.shape[2:])], 1)


def _in_chunks(x: Tensor, size: int, fill: Tensor | None = None) -> Tensor:
    """`[batch, time, copies, …]` as `[count * batch * copies, size, …]`, steps added."""
    return _single(_in_order(_padded(x, size, fill), size).flatten(0, 2))


def _chunk_starts(starts: Tensor, copies: int, size: int) -> Tensor:
    """Where segments start, `[batch, time]`, as `[chunks, size]`."""
    return _in_chunks(starts.unsqueeze(2).expand(-1, -1, copies), size)


def _in_groups(x: Tensor, how: _How, fill: float = 0) -> list[Tensor]:
    """Views of `[batch, time, copies, …]`, `[count, batch, copies, size, …]` of each group.

    In the last one there may be fewer chunks, and steps added.
    """
    whole = x.shape[1] - x.shape[1] % how.group
    chunks = _in_order(x[:, :whole], how.size)
    found = list(torch.split(chunks, how.group // how.size)) if whole else []
    if whole < x.shape[1]:
        last = _padded(x[:, whole:], how.size, x.new_full((), fill))
        found.append(_in_order(last, how.size))
    return found
