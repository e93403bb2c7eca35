"""What the steps of a chunk of matrix states do to each other."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["_Seen", "_Steps", "_apart", "_within"]


class _Steps(NamedTuple):
    """What matrix states do at the steps of some chunks, `[chunks, steps, …]`.

    A step makes `decay * S + left^T (value + right S)` of the states before it, all of
    them below one another as `rows`, and reads `query S`, of the new ones for the first
    `now` queries. `right` belongs to the first of `left`, the others only write.
    """

    decay: Tensor | None  # [rows] or [1]; with several states [states, states, rows]
    right: Tensor  # [erases, rows]
    left: Tensor  # [writes, rows]
    value: Tensor  # [writes, columns]
    query: Tensor  # [queries, rows]
    start: Tensor | None  # whether the states begin anew before a step

    def each(self, make: Callable[[Tensor], Tensor]) -> "_Steps":
        """The same of every tensor."""
        return _Steps(
            None if self.decay is None else make(self.decay),
            make(self.right),
            make(self.left),
            make(self.value),
            make(self.query),
            None if self.start is None else make(self.start),
        )


def _apart(x: Tensor, dim: int, first: int, second: int) -> Tensor:
    """One dimension as two."""
    at = dim % x.dim()
    return x.reshape(*x.shape[:at], first, second, *x.shape[at + 1 :])


class _Seen(NamedTuple):
    """What steps do to each other within a chunk, and what goes through its borders."""

    kernel: Tensor  # what is written at one step, read at another
    query: Tensor  # queries, of the states before the chunk
    fresh: Tensor | None  # and of the states that a segment starts with
    left: Tensor  # writes, as they are after the chunk
    total: Tensor  # decay of the whole chunk
    begun: Tensor | None  # and since the last segment began in it


def _carried_back(x: Tensor, decay: Tensor, states: int) -> Tensor:
    """Queries `x: […, count, rows]` of states before a decay, given those after it."""
    if states == 1:
        return x * decay.unsqueeze(-2)
    x = _apart(x, -1, states, x.shape[-1] // states)
    return (x.unsqueeze(-2) * decay.unsqueeze(-4)).sum(-3).flatten(-2)


def _carried_on(x: Tensor, decay: Tensor, states: int) -> Tensor:
    """What a decay leaves of writes `x: […, count, rows]`."""
    if states == 1:
        return x * decay.unsqueeze(-2)
    x = _apart(x, -1, states, x.shape[-1] // states)
    return (decay.unsqueeze(-4) * x.unsqueeze(-3)).sum(-2).flatten(-2)


def _decayed_twice(before: Tensor, after: Tensor, states: int) -> Tensor:
    """One decay and then another."""
    if states == 1:
        return before * after
    return (after.unsqueeze(-2) * before.unsqueeze(-4)).sum(-3)


def _halves(
    query: Tensor,
    left: Tensor,
    own: Tensor,
    decay: Tensor,
    start: Tensor | None,
    states: int,
) -> _Seen:
    """What queries see of the writes before them, all decays multiplied up as they come.

    The later half of a stretch of steps sees the earlier half from its middle: queries
    carried back to it times writes carried on to it are one matrix product; and so on in
    each half. No decay is ever divided by, so that any number may be one.
    """
    steps = query.shape[1]
    block = own.flatten(0, 1)
    query, left = query.flatten(0, 1).unsqueeze(1), left.flatten(0, 1).unsqueeze(1)
    total = decay.flatten(0, 1)
    fresh = begun = None
    if start is not None:
        here = start.flatten()
        wide = here.view(-1, *[1] * (total.dim() - 1))
        fresh = torch.where(here[:, None, None, None], query, 0)
        query = torch.where(here[:, None, None, None], 0, query)
        begun, total = torch.where(wide, total, 0), torch.where(wide, 0, total)
    levels = steps.bit_length() - 1
    for _ in range(levels):
        (q0, q1), (x0, x1) = _odd_even(query), _odd_even(left)
        first, second = _odd_even(total)
        seen = _pairs(q1, x0)
        above, below = _odd_even(block)
        upper = torch.cat([above, torch.zeros_like(seen)], 2)
        block = torch.cat([upper, torch.cat([seen, below], 2)], 1)
        if fresh is not None and begun is not None:
            (f0, f1), (one, two) = _odd_even(fresh), _odd_even(begun)
            fresh = torch.cat([f0, f1 + _carried_back(q1, one.unsqueeze(1), states)], 1)
            begun = two + _decayed_twice(one, second, states)
        query = torch.cat([q0, _carried_back(q1, first.unsqueeze(1), states)], 1)
        left = torch.cat([_carried_on(x0, second.unsqueeze(1), states), x1], 1)
        total = _decayed_twice(first, second, states)
    return _Seen(block, query, fresh, left, total, begun)


def _odd_even(x: Tensor) -> tuple[Tensor, Tensor]:
    """The even and the odd entries along the first dimension."""
    first, second = _apart(x, 0, len(x) // 2, 2).unbind(1)
    return first, second


def _pairs(query: Tensor, left: Tensor) -> Tensor:
    """`[…, steps, queries, rows]` times `[…, steps, writes, rows]`, as a matrix."""
    query, left = query.flatten(1, 2), left.flatten(1, 2)
    if query.shape[1] * left.shape[1] > 2:
        return query @ left.mT
    return (query.unsqueeze(2) * left.unsqueeze(1)).sum(-1)


def _evenly(
    query: Tensor, left: Tensor, decay: Tensor | None, start: Tensor | None, now: int
) -> _Seen:
    """The same where all rows decay alike: one number for every pair of steps."""
    chunks, steps, count = query.shape[:3]
    if decay is None:
        decay = query.new_ones(1 if start is None else chunks, steps, 1)
    ones = torch.ones_like(decay.unsqueeze(-1))
    seen = _halves(ones, ones, torch.zeros_like(ones), decay, start, 1)
    strict = seen.kernel
    current = strict * decay + torch.eye(
        steps, dtype=strict.dtype, device=strict.device
    )
    earlier = count - now
    weight = [
        strict.unsqueeze(2).expand(-1, -1, earlier, -1),
        current.unsqueeze(2).expand(-1, -1, now, -1),
    ]
    kernel = (query.flatten(1, 2) @ left.flatten(1, 2).mT).view(
        chunks, steps, count, steps, left.shape[2]
    )
    kernel = (kernel * torch.cat(weight, 2).unsqueeze(-1)).flatten(3, 4).flatten(1, 2)
    carried = query
    if now:
        carried = torch.cat(
            [query[:, :, :earlier], query[:, :, earlier:] * decay.unsqueeze(-1)], 2
        )
    fresh = None if seen.fresh is None else carried * seen.fresh
    return _Seen(
        kernel, carried * seen.query, fresh, left * seen.left, seen.total, seen.begun
    )


def _within(at: _Steps, states: int, now: int) -> _Seen:
    """What `right` and then `query` see of the writes, `[chunks, …]`."""
    queries = torch.cat([at.right, at.query], 2)
    if at.decay is None or (states == 1 and at.decay.shape[-1] == 1):
        return _evenly(queries, at.left, at.decay, at.start, now)
    earlier = queries.shape[2] - now
    last = queries[:, :, earlier:]
    own = torch.cat(
        [torch.zeros_like(queries[:, :, :earlier] @ at.left.mT), last @ at.left.mT], 2
    )
    back = torch.cat(
        [queries[:, :, :earlier], _carried_back(last, at.decay, states)], 2
    )
    return _halves(back, at.left, own, at.decay, at.start, states)
