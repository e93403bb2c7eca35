"""Groups of chunks of matrix states, each of them worked on at once."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from seqdsl.backends.torch.carried.chunk_gradients import _stretch_back
from seqdsl.backends.torch.carried.chunks import _apart, _Steps
from seqdsl.backends.torch.carried.divided_chunks import (
    _all_large,
    _Divided,
    _divided,
    _divided_reads,
    _in_order,
    _Kept,
    _laid,
)
from seqdsl.backends.torch.carried.divided_chunks_back import _divided_back
from seqdsl.backends.torch.carried.room import _Room
from seqdsl.backends.torch.carried.stretches import _fresh, _stretch
from seqdsl.runtime.pages import _unwritten  # pyright: ignore[reportPrivateUsage]

__all__ = ["_KEPT", "_How", "_by_chunks", "_group_size", "_groups_back"]

_KEPT = 3
"""Results of `_by_chunks` for the gradient alone: states between chunks, and a `_Kept`."""


class _How(NamedTuple):
    """Steps in a chunk and in a group of chunks that are worked on at once; states.

    Erases are the negative of `right` if `minus`. What is `plain` looks at no numbers.
    """

    size: int
    group: int
    states: int
    minus: bool = False
    plain: bool = True


def _group_size(size: int, width: int) -> int:
    """Steps that are worked on at once: as many chunks as keep their tensors small."""
    return size * max(1, (1 << 17) // max(1, size * width))


def _single(x: Tensor) -> Tensor:
    """Half precision as single: products are added up."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _like(x: Tensor, *shape: int) -> Tensor:
    """Room for a result."""
    return _unwritten(shape, x.dtype, x.device)


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


def _chunk_starts(starts: Tensor, copies: int, size: int) -> Tensor:
    """Where segments start, `[batch, time]`, as `[chunks, size]`."""
    return _in_chunks(starts.unsqueeze(2).expand(-1, -1, copies), size)


def _near(
    at: _Steps,
    starts: Tensor | None,
    how: _How,
    columns: int,
    kept: _Kept | None,
    room: _Room,
) -> tuple[_Steps, _Divided] | None:
    """A group whose decays are near 1, its steps in order; None where they are not."""
    decay = at.decay
    wide = at._replace(decay=None).each(lambda x: _padded(x, how.size))
    if decay is not None:
        wide = wide._replace(decay=_padded(decay, how.size, decay.new_ones(())))
    wide = wide.each(lambda x: _in_order(x, how.size))
    if starts is not None:
        starts = _chunk_starts(starts, wide.writers()[0].shape[2], how.size)
    made = _divided(wide, starts, columns, how.minus, kept, room)
    return None if made is None else (wide, made)


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
    chunks, width = -(-time // how.size), how.group // how.size
    borders = _like(_single(first), chunks + 1, *first.shape)
    borders[0] = first
    room, columns = _Room(borders, _all_large(at.decay)), first.shape[-1]
    n = 0 if at.right is None else how.size * at.right.shape[3]
    kept = _Kept(*(_like(borders, chunks, *first.shape[:2], n, x) for x in (n, columns)))
    whole = [
        _like(first, len(first), chunks, how.size, *x.shape[2:4], columns)
        for x in at.queries()
    ]
    for begin in range(0, chunks, width):
        *some, start = _some([*at[:8], starts], begin * how.size, how)
        states = borders[begin : begin + width + 1]
        some_kept = _some_kept(kept, begin, width)
        out = _group_reads(_Steps(*some), start, states, how, some_kept, room)
        for place, x in zip(whole, out, strict=True):
            place[:, begin : begin + width] = x
    reads = [x.flatten(1, 2)[:, :time] for x in whole]
    return *reads, borders[-1].to(first.dtype, copy=True), borders, *kept


def _some_kept(kept: _Kept, begin: int, count: int) -> _Kept:
    """That of one group of chunks."""
    return _Kept(*(x[begin : begin + count].flatten(0, 2) for x in kept))


def _group_reads(
    at: _Steps,
    starts: Tensor | None,
    states: Tensor,
    how: _How,
    kept: _Kept,
    room: _Room,
) -> list[Tensor]:
    """Reads of a group; fills in what is `kept` and `states`, of which the first are there."""
    near = _near(at, starts, how, states.shape[-1], None, room)
    if near is None:
        out, before, last = _some_chunks(at, starts, states[0], None, how)
        states[1:-1], states[-1] = before[1:], last
        return out
    made = near[1]
    reads = _divided_reads(made, states.flatten(1, 2), room)
    if made.inverse is not None:
        kept.inverse.copy_(made.inverse)
        kept.written.copy_(made.values[:, : made.erases])
    counts = [x.shape[3] for x in at.queries()]
    found = _laid(reads, made.lead, made.size, counts)
    return [x.transpose(2, 3).transpose(0, 1) for x in found]


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
    room, d_initial = _Room(borders, _all_large(tensors[0])), None
    whole = [_like(x, len(x), chunks, how.size, *x.shape[2:]) for x in there]
    for begin in reversed(range(0, chunks, count)):
        at = _Steps(*_some(tensors, begin * how.size, how))
        start, *given = _some([starts, *d_reads], begin * how.size, how)
        states = borders[begin : begin + count + 1]
        places = [x[:, begin : begin + count] for x in whole]
        if how.states == 1 and initial is None:
            some_kept = _some_kept(kept, begin, count)
            near = _near_back(
                at, start, states, some_kept, given, d_state, places, how, room
            )
            if near is not None:
                d_state = near
                continue
        back = _group_back if initial is None else _fresh_back
        given = [_in_chunks(x, how.size) for x in given]
        found, d_state, more = back(at, start, states, initial, given, d_state, how)
        if more is not None:
            d_initial = more if d_initial is None else d_initial + more
        for out, x in zip(places, [x for x in found if x is not None], strict=True):
            out.copy_(x)
    steps = [x.flatten(1, 2)[:, :time] for x in whole]
    last = [d_state] if d_initial is None else [d_state, d_initial]
    return *steps, *(x.to(first.dtype) for x in last)


def _near_back(
    at: _Steps,
    starts: Tensor | None,
    states: Tensor,
    kept: _Kept,
    d_reads: Sequence[Tensor],
    d_state: Tensor,
    places: Sequence[Tensor],
    how: _How,
    room: _Room,
) -> Tensor | None:
    """Of one group whose decays are near 1: fills `places`, the result is that of states."""
    near = _near(at, starts, how, states.shape[-1], kept, room)
    if near is None:
        return None
    wide, made = near
    rest = iter(places)
    found = wide.each(lambda _: next(rest).transpose(0, 1).transpose(2, 3))
    grads = [_in_order(_padded(x, how.size), how.size) for x in d_reads]
    ends = states.flatten(1, 2), _single(d_state.flatten(0, 1))
    d_state = _divided_back(wide, made, *ends, grads, found, room)
    return _apart(d_state, 0, *states.shape[1:3])


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
