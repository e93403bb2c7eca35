"""Chunks of matrix states, one after another."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from seqdsl.backends.torch.carried.chunks import _apart, _Seen, _Steps, _within

__all__ = ["_stretch"]


class _Erasing(NamedTuple):
    """What erases write: `written + pulled @` the states before the chunk."""

    written: Tensor
    pulled: Tensor


def _stretch(
    at: _Steps, state: Tensor, fresh: Tensor | None, size: int, states: int, now: int
) -> tuple[Tensor, Tensor]:
    """The reads of some chunks of `size` steps, one after another, and the states then.

    `at` are `[many, steps, …]`, the states `[many, rows, columns]`.
    """
    many, length, queries = at.query.shape[:3]
    count = length // size
    at = at.each(lambda x: _in_chunks(x, count))
    (*found, query), passed = _within(at, states, now)
    right = found[0] if found else None
    each = None if fresh is None else fresh.repeat_interleave(count, 0)
    erases = at.right.shape[2]
    others = at.value[:, :, erases:].flatten(1, 2)
    added = passed.left[:, :, erases:].flatten(1, 2).mT @ others
    if each is not None and passed.begun is not None:
        added = added + _decayed(each, passed.begun, states)
    steps = passed.total.expand(len(added), *passed.total.shape[1:])
    along = [_apart(x, 0, many, count).unbind(1) for x in (added, steps)]
    if right is not None:
        erasing = _erasing(at, right, each)
        left = passed.left[:, :, :erases].flatten(1, 2).mT
        more = (left, erasing.written, erasing.pulled)
        along += [_apart(x, 0, many, count).unbind(1) for x in more]
    before, written, state = _chunk_by_chunk(along, state, states)
    value = at.value.flatten(1, 2)
    if right is not None:
        made = _apart(written.flatten(0, 1), 1, size, erases)
        value = torch.cat([made, at.value[:, :, erases:]], 2).flatten(1, 2)
    reads = query.kernel @ value + query.query.flatten(1, 2) @ before.flatten(0, 1)
    if each is not None and query.fresh is not None:
        reads = reads + query.fresh.flatten(1, 2) @ each
    return reads.view(many, length, queries, state.shape[-1]), state


def _erasing(at: _Steps, right: _Seen, fresh: Tensor | None) -> _Erasing:
    """What an erase writes depends on those before it: a triangular system."""
    erases, writes = at.right.shape[2], at.left.shape[2]
    size = at.left.shape[1]
    known, among = at.value[:, :, :erases].flatten(1, 2), right.kernel
    if writes > erases:
        apart = _apart(among, 2, size, writes)
        among = apart[..., :erases].flatten(2)
        others = at.value[:, :, erases:].flatten(1, 2)
        known = known + apart[..., erases:].flatten(2) @ others
    if right.fresh is not None and fresh is not None:
        known = known + right.fresh.flatten(1, 2) @ fresh
    both = torch.cat([known, right.query.flatten(1, 2)], -1)
    solved = _solved(-among, both)
    columns = known.shape[-1]
    return _Erasing(solved[..., :columns], solved[..., columns:])


def _solved(among: Tensor, right: Tensor) -> Tensor:
    """`x` for which `x + among x = right`; `among` is strictly lower triangular."""
    linalg: Any = torch.linalg
    return linalg.solve_triangular(among, right, upper=False, unitriangular=True)


def _chunk_by_chunk(
    along: Sequence[Sequence[Tensor]], state: Tensor, states: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The states before every chunk, what their erases write, and the states at the end.

    For every chunk `along` has what is added to the states and their decay; with erases
    also what they write to, what they write without the states, and what they see of them.
    """
    before: list[Tensor] = []
    written: list[Tensor] = []
    for added, step, *erasing in zip(*along, strict=True):
        before.append(state)
        if erasing:
            left, known, pulled = erasing
            written.append(torch.baddbmm(known, pulled, state))
            added = torch.baddbmm(added, left, written[-1])
        state = added + _decayed(state, step, states)
    made = torch.stack(written, 1) if written else state
    return torch.stack(before, 1), made, state


def _decayed(state: Tensor, decay: Tensor, states: int) -> Tensor:
    """What a decay leaves of states `[many, rows, columns]`."""
    if states == 1:
        return decay.unsqueeze(-1) * state
    apart = _apart(state, 1, states, state.shape[1] // states)
    return (decay.unsqueeze(-1) * apart.unsqueeze(1)).sum(2).flatten(1, 2)


def _in_chunks(x: Tensor, count: int) -> Tensor:
    """`[many, steps, …]` as `[many * count, fewer steps, …]`."""
    return _apart(x, 1, count, x.shape[1] // count).flatten(0, 1)
