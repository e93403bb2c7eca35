"""What the steps of a chunk of matrix states do to each other."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["_Passed", "_Seen", "_Steps", "_apart", "_within"]


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
    """What some queries see of what is written before them."""

    kernel: Tensor  # within the chunk, `[chunks, steps * queries, steps * writes]`
    query: Tensor  # of the states before the chunk, `[chunks, steps, queries, rows]`
    fresh: Tensor | None  # and of the states that a segment starts with


class _Passed(NamedTuple):
    """What goes through the end of a chunk."""

    left: Tensor  # writes, `[chunks, steps, writes, rows]`
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
    sets: Sequence[tuple[Tensor, Tensor]],
    left: Tensor,
    decay: Tensor,
    start: Tensor | None,
    states: int,
) -> tuple[list[_Seen], _Passed]:
    """What queries see of the writes before them, all decays multiplied up as they come.

    The later half of a stretch of steps sees the earlier half from its middle: queries
    carried back to it times writes carried on to it are one matrix product; and so on in
    each half. No decay is ever divided by, so that any number may be one. `sets` are
    queries, each with what it sees of its own step.
    """
    steps = left.shape[1]
    seen = [_from_own_step(query, own, start) for query, own in sets]
    left, total = left.flatten(0, 1).unsqueeze(1), decay.flatten(0, 1)
    begun = None
    if start is not None:
        wide = start.flatten().view(-1, *[1] * (total.dim() - 1))
        begun, total = torch.where(wide, total, 0), torch.where(wide, 0, total)
    for _ in range(steps.bit_length() - 1):
        x0, x1 = _odd_even(left)
        first, second = _odd_even(total)
        one = None
        if begun is not None:
            one, two = _odd_even(begun)
            begun = two + _decayed_twice(one, second, states)
        seen = [_doubled(s, x0, first, one, states) for s in seen]
        left = torch.cat([_carried_on(x0, second.unsqueeze(1), states), x1], 1)
        total = _decayed_twice(first, second, states)
    return seen, _Passed(left, total, begun)


def _from_own_step(query: Tensor, own: Tensor, start: Tensor | None) -> _Seen:
    """What queries see from their own step."""
    own, query = own.flatten(0, 1), query.flatten(0, 1).unsqueeze(1)
    if start is None:
        return _Seen(own, query, None)
    here = start.flatten()[:, None, None, None]
    return _Seen(own, torch.where(here, 0, query), torch.where(here, query, 0))


def _doubled(
    seen: _Seen, left: Tensor, decay: Tensor, begun: Tensor | None, states: int
) -> _Seen:
    """The same of stretches twice as long; `left` and `decay` are those of the first half."""
    q0, q1 = _odd_even(seen.query)
    across = _pairs(q1, left)
    above, below = _odd_even(seen.kernel)
    upper = torch.cat([above, torch.zeros_like(across)], 2)
    kernel = torch.cat([upper, torch.cat([across, below], 2)], 1)
    fresh = seen.fresh
    if fresh is not None and begun is not None:
        f0, f1 = _odd_even(fresh)
        again = f1 + _carried_back(q1, begun.unsqueeze(1), states)
        fresh = torch.cat([f0, again], 1)
    query = torch.cat([q0, _carried_back(q1, decay.unsqueeze(1), states)], 1)
    return _Seen(kernel, query, fresh)


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
    sets: Sequence[tuple[Tensor, bool]],
    left: Tensor,
    decay: Tensor,
    start: Tensor | None,
) -> tuple[list[_Seen], _Passed]:
    """The same where all rows decay alike: one number for every pair of steps.

    Each of `sets` says whether its queries are of the new states.
    """
    ones = torch.ones_like(decay.unsqueeze(-1))
    (before,), passed = _halves([(ones, ones - ones)], ones, decay, start, 1)
    after = _evenly_after(before, decay)
    found: list[_Seen] = []
    for query, new in sets:
        gate = after if new else before
        fresh = None if gate.fresh is None else query * gate.fresh
        kernel = _pairs(query, left) * _repeated(gate.kernel, query, left)
        found.append(_Seen(kernel, query * gate.query, fresh))
    return found, passed._replace(left=left * passed.left)


def _evenly_after(before: _Seen, decay: Tensor) -> _Seen:
    """What a step sees after its own write, given what it sees before."""
    kernel, gate = before.kernel, decay.unsqueeze(-1)
    own = torch.eye(kernel.shape[1], dtype=kernel.dtype, device=kernel.device)
    fresh = None if before.fresh is None else before.fresh * gate
    return _Seen(kernel * decay + own, before.query * gate, fresh)


def _repeated(gate: Tensor, query: Tensor, left: Tensor) -> Tensor:
    """One entry for every pair of steps as one for every query and write."""
    for dim, count in ((1, query.shape[2]), (2, left.shape[2])):
        gate = gate if count == 1 else gate.repeat_interleave(count, dim)
    return gate


def _unevenly(
    sets: Sequence[tuple[Tensor, bool]],
    left: Tensor,
    decay: Tensor,
    start: Tensor | None,
    states: int,
) -> tuple[list[_Seen], _Passed]:
    """The same with a decay for each row; of new states a query also sees its own step."""
    made: list[tuple[Tensor, Tensor]] = []
    for query, new in sets:
        own = query.new_zeros(*query.shape[:3], left.shape[2])
        if new:
            own = (query.unsqueeze(3) * left.unsqueeze(2)).sum(-1)
            query = _carried_back(query, decay, states)
        made.append((query, own))
    return _halves(made, left, decay, start, states)


def _within(at: _Steps, states: int, now: int) -> tuple[list[_Seen], _Passed]:
    """What `right` (where there is one) and `query` see, and what is passed on."""
    earlier = at.query.shape[2] - now
    decay = at.decay
    if decay is None:
        many = 1 if at.start is None else len(at.left)
        decay = at.left.new_ones(many, at.left.shape[1], 1)
    sets = [(at.right, False), (at.query[:, :, :earlier], False)]
    sets = [s for s in sets if s[0].shape[2]]
    sets += [(at.query[:, :, earlier:], True)] if now or not earlier else []
    if states == 1 and decay.shape[-1] == 1:
        seen, passed = _evenly(sets, at.left, decay, at.start)
    else:
        seen, passed = _unevenly(sets, at.left, decay, at.start, states)
    if now and earlier:
        seen[-2:] = [_beside(seen[-2], seen[-1], at.left.shape[1])]
    return seen, passed


def _beside(old: _Seen, new: _Seen, steps: int) -> _Seen:
    """Two sets of queries as one."""
    pairs = [(_apart(s.kernel, 1, steps, s.query.shape[2])) for s in (old, new)]
    query = torch.cat([old.query, new.query], 2)
    fresh = None
    if old.fresh is not None and new.fresh is not None:
        fresh = torch.cat([old.fresh, new.fresh], 2)
    return _Seen(torch.cat(pairs, 2).flatten(1, 2), query, fresh)
