"""Groups of chunks of matrix states, each of them worked on at once."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from seqdsl.backends.torch.carried.chunk_gradients import _stretch_back
from seqdsl.backends.torch.carried.chunks import _apart, _Steps
from seqdsl.backends.torch.carried.divided_chunks import _Kept
from seqdsl.backends.torch.carried.group_order import (
    _chunk_starts,
    _How,
    _in_chunks,
    _in_groups,
    _single,
)
from seqdsl.backends.torch.carried.near_groups import _NearGroups
from seqdsl.backends.torch.carried.room import _room_like
from seqdsl.backends.torch.carried.stretches import _fresh, _stretch

__all__ = ["_FOR_GRADIENTS", "_by_chunks", "_group_size", "_groups_back"]

_FOR_GRADIENTS = 3
"""Results of `_by_chunks` for the gradient alone: states between chunks, and a `_Kept`."""


def _group_size(size: int, width: int) -> int:
    """Steps that are worked on at once: as many chunks as keep their tensors small."""
    return size * max(1, (1 << 17) // max(1, size * width))


def _by_step(x: Tensor, batch: int, copies: int) -> Tensor:
    """`[count * batch * copies, size, …]` as `[batch, count, size, copies, …]`."""
    apart = x.reshape(-1, batch, copies, *x.shape[1:])
    return apart.transpose(0, 1).transpose(2, 3)


def _group(at: _Steps, starts: Tensor | None, how: _How) -> _Steps:
    """Steps `[batch, time, copies, …]` as those of chunks, `[chunks, steps, …]`.

    Chunks come first of all, then rows of the batch, then copies.
    """
    decay, copies = at.decay, next(x for x in at if x is not None).shape[2]
    made = at._replace(decay=None).each(lambda x: _in_chunks(x, how.size))
    if decay is not None:
        unit = decay.new_ones(1)
        if how.states > 1:
            unit = torch.eye(how.states).to(unit).unsqueeze(-1)
        made = made._replace(decay=_in_chunks(decay, how.size, unit))
    if how.minus and made.right is not None:
        made = made._replace(right=-made.right)
    if starts is None:
        return made
    return made._replace(start=_chunk_starts(starts, copies, how.size))


def _some(tensors: Sequence[Any], begin: int, how: _How) -> list[Any]:
    """The steps of one group of those tensors that are there."""
    return [None if x is None else x[:, begin : begin + how.group] for x in tensors]


def _some_chunks(
    at: _Steps,
    starts: Tensor | None,
    state: Tensor,
    initial: Tensor | None,
    how: _How,
) -> tuple[list[Tensor], Tensor, Tensor]:
    """A group: its reads `[batch, count, size, copies, …]`, states before chunks, and after."""
    batch, copies = state.shape[:2]
    group, fresh = _group(at, starts, how), None
    if initial is not None:
        begun = _single(initial.flatten(0, 1))
        count = group.writers()[0].shape[0] // len(begun)
        fresh = _fresh(begun.repeat(count, 1, 1), group, how.states)
    state = _single(state.flatten(0, 1))
    reads, before, state = _stretch(group, state, fresh, how.states, how.plain)
    steps = [_apart(x, 1, how.size, x.shape[1] // how.size) for x in reads]
    made = [_by_step(x, batch, copies) for x in steps]
    before, state = (_apart(x, -3, batch, copies) for x in (before, state))
    return made, before, state


def _by_chunks(*arguments: Any) -> tuple[Tensor, ...]:
    """Group after group: reads, the states at the end, and what there is for gradients."""
    *tensors, first, initial, starts, how = arguments
    state, time = first, next(x for x in tensors if x is not None).shape[1]
    if not how.plain and how.states == 1 and initial is None:
        return _by_near_chunks(_Steps(*tensors), first, starts, time, how)
    reads: list[list[Tensor]] = []
    borders: list[Tensor] = []
    for begin in range(0, time, how.group):
        at = _Steps(*_some(tensors, begin, how))
        start = None if starts is None else starts[:, begin : begin + how.group]
        out, before, state = _some_chunks(at, start, state, initial, how)
        reads.append([x.to(first.dtype) for x in out])
        borders.append(before)
    whole = [torch.cat(x, 1).flatten(1, 2)[:, :time] for x in zip(*reads, strict=True)]
    borders.append(_single(state)[None])
    none = first.new_empty(1, *first.shape[:2], 0, 0)
    return *whole, state.to(first.dtype), torch.cat(borders), none, none


def _by_near_chunks(
    at: _Steps, first: Tensor, starts: Tensor | None, time: int, how: _How
) -> tuple[Tensor, ...]:
    """The same for one state, group by group divided by decays where these are near 1."""
    chunks, count = -(-time // how.size), how.group // how.size
    borders = _room_like(_single(first), chunks + 1, *first.shape)
    borders[0] = first
    groups, columns = _NearGroups(at, starts, how, borders), first.shape[-1]
    n = 0 if at.right is None else how.size * at.right.shape[3]
    if n * (n + columns) > first.shape[-2] * columns:
        n = 0  # that would be more than the states between chunks
    kept = _Kept(
        *(_room_like(borders, chunks, *first.shape[:2], n, x) for x in (n, columns))
    )
    whole = [
        _room_like(first, len(first), chunks, how.size, *x.shape[2:4], columns)
        for x in at.queries()
    ]
    places = [_by_group(x, count) for x in whole]
    for i in range(len(groups.steps)):
        begin = i * count
        states = borders[begin : begin + count + 1]
        made = groups.meet(i, None)
        if made is None:
            *some, start = _some([*at[:8], starts], begin * how.size, how)
            out, before, last = _some_chunks(_Steps(*some), start, states[0], None, how)
            states[1:-1], states[-1] = before[1:], last
            out = [x.transpose(0, 1).transpose(2, 3) for x in out]
        else:
            out = made.read(states.flatten(1, 2))
            some_kept = _some_kept(kept, begin, count)
            if some_kept is not None:
                some_kept.inverse.copy_(made.inverse)
                some_kept.written.copy_(made.values[:, : made.erases])
        for place, x in zip(places, out, strict=True):
            place[i].copy_(x)
    reads = [x.flatten(1, 2)[:, :time] for x in whole]
    return *reads, borders[-1].to(first.dtype, copy=True), borders, *kept


def _by_group(x: Tensor, count: int) -> Sequence[Tensor]:
    """`[batch, chunks, size, copies, …]` as `[count, batch, copies, size, …]` of groups."""
    return torch.split(x.transpose(0, 1).transpose(2, 3), count)


def _some_kept(kept: _Kept, begin: int, count: int) -> _Kept | None:
    """That of one group of chunks, if anything was kept."""
    if not kept.inverse.shape[-1]:
        return None
    return _Kept(*(x[begin : begin + count].flatten(0, 2) for x in kept))


# ---- Gradients


def _groups_back(
    tensors: Sequence[Any],
    ends: Sequence[Any],
    d_reads: Sequence[Tensor],
    d_state: Tensor,
    how: _How,
) -> tuple[Tensor, ...]:
    """Gradients of those tensors that are there, the last group first.

    `ends` are the first states, those of segments, where these start, and the states
    between chunks and what else was kept.
    """
    first, initial, starts, borders, *more = ends
    kept = _Kept(*more)
    there = [x for x in tensors if x is not None]
    time, count, chunks = there[0].shape[1], how.group // how.size, len(borders) - 1
    whole = [_room_like(x, len(x), chunks, how.size, *x.shape[2:]) for x in there]
    groups = d_initial = None
    given = [_in_groups(x, how) for x in d_reads]
    if how.states == 1 and initial is None:
        groups = _NearGroups(_Steps(*tensors), starts, how, borders)
    places = [_by_group(x, count) for x in whole]
    for i in reversed(range(-(-chunks // count))):
        begin, grads = i * count, [x[i] for x in given]
        states, out = borders[begin : begin + count + 1], [x[i] for x in places]
        made, some_kept = None, _some_kept(kept, begin, count)
        if groups is not None:
            made = groups.meet(i, some_kept)
        if groups is not None and made is not None:
            at, rest = groups.steps[i], iter(out)
            found = at.each(lambda _, rest=rest: next(rest))
            near = states.flatten(1, 2), _single(d_state.flatten(0, 1))
            if some_kept is None:
                made.write(near[0][:-1].flatten(0, 1))
            d_state = groups.back(made).run(at, *near, grads, found)
            d_state = _apart(d_state, 0, *states.shape[1:3])
            continue
        back = _group_back if initial is None else _fresh_back
        at = _Steps(*_some(tensors, begin * how.size, how))
        (start,) = _some([starts], begin * how.size, how)
        grads = [_single(x.flatten(0, 2)) for x in grads]
        found, d_state, fresh = back(at, start, states, initial, grads, d_state, how)
        if fresh is not None:
            d_initial = fresh if d_initial is None else d_initial + fresh
        for place, x in zip(out, [x for x in found if x is not None], strict=True):
            place.copy_(x.transpose(0, 1).transpose(2, 3))
    steps = [x.flatten(1, 2)[:, :time] for x in whole]
    last = [d_state] if d_initial is None else [d_state, d_initial]
    return *steps, *(x.to(first.dtype) for x in last)


def _group_back(
    at: _Steps,
    starts: Tensor | None,
    states: Tensor,
    initial: Tensor | None,
    d_reads: Sequence[Tensor],
    d_state: Tensor,
    how: _How,
) -> tuple[_Steps, Tensor, Tensor | None]:
    """Of one group where segments begin with 0: gradients `[batch, count, size, …]`."""
    batch, copies = d_state.shape[:2]
    assert initial is None
    found, d_state = _stretch_back(
        _group(at, starts, how),
        states[:-1].flatten(1, 2),
        [x.flatten(1, 2) for x in d_reads],
        _single(d_state.flatten(0, 1)),
        how.states,
    )
    if how.minus and found.right is not None:
        found = found._replace(right=-found.right)
    found = found._replace(start=None).each(lambda x: _by_step(x, batch, copies))
    return found, _apart(d_state, 0, batch, copies), None


def _fresh_back(
    at: _Steps,
    starts: Tensor | None,
    states: Tensor,
    initial: Tensor | None,
    d_reads: Sequence[Tensor],
    d_state: Tensor,
    how: _How,
) -> tuple[_Steps, Tensor, Tensor | None]:
    """Of one group where they begin with something: by torch."""
    batch, copies = d_state.shape[:2]
    there = [x for x in at if x is not None]
    how = how._replace(plain=True)

    def run(state: Tensor, fresh: Tensor, *given: Tensor) -> tuple[Tensor, ...]:
        rest = iter(given)
        steps = at.each(lambda _: next(rest))
        reads, _, last = _some_chunks(steps, starts, state, fresh, how)
        return *reads, last

    grads = [_by_step(x, batch, copies) for x in d_reads]
    pull: Any = torch.func.vjp(run, states[0], initial, *there)[1]
    d_first, d_initial, *found = pull((*grads, _single(d_state)))
    rest = iter(found)
    made = at.each(lambda _: _by_step(_in_chunks(next(rest), how.size), batch, copies))
    return made, d_first, d_initial
