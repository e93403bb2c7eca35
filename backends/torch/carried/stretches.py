"""Chunks of matrix states, one after another."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from seqdsl.backends.torch.carried.chunks import _apart, _Seen, _Steps, _within

__all__ = ["_stretch"]


class _Maps(NamedTuple):
    """Chunks as functions of the states before them.

    `step` and `begin` are decays `[chunks, rows]` or matrices `[chunks, rows, rows]`.
    """

    reads: Tensor  # what reads have without those states
    query: Tensor  # what they see of them
    again: Tensor | None  # and of the states that a segment starts with
    added: Tensor  # what is written
    step: Tensor  # what becomes of the states
    begin: Tensor | None  # and of those that a segment starts with


def _chunk_maps(at: _Steps, states: int, now: int) -> _Maps:
    """All chunks `[chunks, steps, …]` at once."""
    seen = _within(at, states, now)
    erases, queries, writes = at.right.shape[2], at.query.shape[2], at.left.shape[2]
    chunks, size = at.left.shape[:2]
    kernel = seen.kernel.view(chunks, size, erases + queries, size, writes)
    if erases:
        return _erasing_maps(at, seen, kernel, states)
    value, left = at.value.flatten(1, 2), seen.left.flatten(1, 2)
    step, begin = seen.total.expand(chunks, *seen.total.shape[1:]), seen.begun
    if states > 1:
        step = _decay_matrix(step, left, states)
    if begin is not None and states > 1:
        begin = _decay_matrix(begin, left, states)
    return _Maps(
        _as_matrix(kernel) @ value,
        seen.query.flatten(1, 2),
        None if seen.fresh is None else seen.fresh.flatten(1, 2),
        left.mT @ value,
        step,
        begin,
    )


def _erasing_maps(at: _Steps, seen: _Seen, kernel: Tensor, states: int) -> _Maps:
    """With erases: what each writes depends on those before it, a triangular system."""
    erases, size = at.right.shape[2], at.left.shape[1]
    known = at.value[:, :, :erases].flatten(1, 2)
    if at.left.shape[2] > erases:
        others = at.value[:, :, erases:].flatten(1, 2)
        known = known + _as_matrix(kernel[:, :, :erases, :, erases:]) @ others
    parts = [known, seen.query[:, :, :erases].flatten(1, 2)]
    if seen.fresh is not None:
        parts.append(seen.fresh[:, :, :erases].flatten(1, 2))
    among = -_as_matrix(kernel[:, :, :erases, :, :erases])
    solved = _solved(among, torch.cat(parts, -1))
    columns, rows = at.value.shape[-1], at.left.shape[-1]
    written, pulled = solved[..., :columns], solved[..., columns : columns + rows]
    more = solved[..., columns + rows :]
    written = _apart(written, 1, size, erases)
    value = torch.cat([written, at.value[:, :, erases:]], 2).flatten(1, 2)
    left = seen.left[:, :, :erases].flatten(1, 2).mT
    reading = _as_matrix(kernel[:, :, erases:, :, :erases])
    again = begin = None
    if seen.fresh is not None and seen.begun is not None:
        again = seen.fresh[:, :, erases:].flatten(1, 2) + reading @ more
        begin = _decay_matrix(seen.begun, pulled, states) + left @ more
    return _Maps(
        _as_matrix(kernel[:, :, erases:]) @ value,
        seen.query[:, :, erases:].flatten(1, 2) + reading @ pulled,
        again,
        seen.left.flatten(1, 2).mT @ value,
        _decay_matrix(seen.total, pulled, states) + left @ pulled,
        begin,
    )


def _solved(among: Tensor, right: Tensor) -> Tensor:
    """`x` for which `x + among x = right`; `among` is strictly lower triangular."""
    linalg: Any = torch.linalg
    return linalg.solve_triangular(among, right, upper=False, unitriangular=True)


def _as_matrix(kernel: Tensor) -> Tensor:
    """`[chunks, steps, queries, steps, writes]` as matrices."""
    return kernel.flatten(3, 4).flatten(1, 2)


def _decay_matrix(decay: Tensor, like: Tensor, states: int) -> Tensor:
    """A decay as a matrix over all rows."""
    rows = like.shape[-1]
    wide = decay.expand(*decay.shape[:-1], rows // states)
    if states == 1:
        return torch.diag_embed(wide)
    return torch.diag_embed(wide).transpose(-3, -2).flatten(-2).flatten(-3, -2)


def _after_chunk(step: Tensor, state: Tensor, added: Tensor) -> Tensor:
    """States after a chunk; `step` is a decay or a matrix."""
    if step.dim() == state.dim():
        return torch.baddbmm(added, step, state)
    return added + step.unsqueeze(-1) * state


def _stretch(
    at: _Steps, state: Tensor, fresh: Tensor | None, size: int, states: int, now: int
) -> tuple[Tensor, Tensor]:
    """The reads of some chunks of `size` steps, one after another, and the states then.

    `at` are `[many, steps, …]`, the states `[many, rows, columns]`.
    """
    many, length, queries = at.query.shape[:3]
    count = length // size
    local = _chunk_maps(at.each(lambda x: _in_chunks(x, count)), states, now)
    reads, added = local.reads, local.added
    if fresh is not None and local.again is not None and local.begin is not None:
        each = fresh.repeat_interleave(count, 0)
        reads = reads + local.again @ each
        added = _after_chunk(local.begin, each, added)
    steps = _apart(local.step, 0, many, count).unbind(1)
    before: list[Tensor] = []
    for step, more in zip(steps, _apart(added, 0, many, count).unbind(1), strict=True):
        before.append(state)
        state = _after_chunk(step, state, more)
    reads = reads + local.query @ torch.stack(before, 1).flatten(0, 1)
    return reads.view(many, length, queries, state.shape[-1]), state


def _in_chunks(x: Tensor, count: int) -> Tensor:
    """`[many, steps, …]` as `[many * count, fewer steps, …]`."""
    return _apart(x, 1, count, x.shape[1] // count).flatten(0, 1)
