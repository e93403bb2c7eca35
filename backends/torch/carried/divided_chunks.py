"""Chunks whose decays are so near 1 that what is behind may be divided by them.

Writers are divided and readers multiplied by the decays since their chunk began; what
remains is the same without decays, one matrix product for all of them together. Readers
are erases, then queries; writers are erases, then writes.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from seqdsl.backends.torch.carried.chunks import _apart, _inverse, _Steps
from seqdsl.backends.torch.carried.room import _Room
from seqdsl.backends.torch.carried.stretches import _by_chunk

__all__ = [
    "_Divided",
    "_Kept",
    "_all_large",
    "_applied",
    "_counts",
    "_divided",
    "_divided_reads",
    "_in_order",
    "_laid",
]

_LEAST = 1 / 16
_BOUNDS = (1e-9, 1e3)
"""A decay, and products of decays, by which numbers may be divided."""


class _Sight(NamedTuple):
    """Who sees whom, in numbers 0 and 1; None is all."""

    mask: Tensor  # readers see writers, [chunks or 1, readers, writers]
    sight: Tensor | None = None  # the states before, [chunks, readers, 1]
    reach: Tensor | None = None  # are seen by the states after, [chunks, writers, 1]
    total: Tensor | None = None  # the states before by those, [chunks, 1, 1]


class _Kept(NamedTuple):
    """What chunks keep for their gradients, beside the states between them."""

    inverse: Tensor  # of 1 less what erases see of erases, [chunks, erases, erases]
    written: Tensor  # by erases, [chunks, erases, columns]


class _Divided(NamedTuple):
    """A group of chunks, readers and writers of all steps one after another."""

    lead: list[int]  # chunks: along time, batch and copies
    size: int  # steps of a chunk
    since: Tensor | None  # products of decays, from 1 on, [*lead, size + 1, rows]
    erasing: Tensor | None  # what readers of erases were multiplied by; None is 1
    readers: Tensor  # [chunks, readers, rows]
    writers: Tensor  # [chunks, writers, rows]
    sees: _Sight
    kernel: Tensor  # what readers see of writers
    erases: int  # how many of the readers and of the writers are erases
    inverse: Tensor | None  # of 1 less what erases see of erases
    pulled: Tensor | None  # what erases read of the states before the chunk
    values: Tensor  # what is written, [chunks, writers, columns]; not yet by erases
    own: Tensor | None  # that by erases if these states are 0

    def far_readers(self) -> Tensor:
        """Readers of the states before the chunk."""
        sight = self.sees.sight
        return self.readers if sight is None else self.readers * sight

    def far_writers(self) -> Tensor:
        """Writers to the states after the chunk."""
        reach = self.sees.reach
        return self.writers if reach is None else self.writers * reach

    def before(self) -> Tensor | None:
        """Decays up to each step, `[*lead, size, rows]`."""
        return None if self.since is None else self.since[..., :-1, :]

    def after(self) -> Tensor | None:
        """Decays up to each step and that of it."""
        return None if self.since is None else self.since[..., 1:, :]

    def end(self) -> Tensor | None:
        """What decays leave of all until then, `[chunks, rows, 1]`; None is all."""
        if self.since is None:
            return None
        return self.since[..., -1, :].flatten(0, 2).unsqueeze(-1)


def _in_order(x: Tensor, size: int) -> Tensor:
    """A view of `[batch, count * size, copies, …]` as `[count, batch, copies, size, …]`."""
    return _apart(x, 1, x.shape[1] // size, size).transpose(0, 1).transpose(2, 3)


def _counts(xs: Sequence[Tensor]) -> list[int]:
    """How many readers or writers of each kind a step has."""
    return [x.shape[4] for x in xs]


def _laid(
    x: Tensor, lead: Sequence[int], size: int, counts: Sequence[int]
) -> list[Tensor]:
    """Views of `[chunks, size * counts, …]` by steps, `[*lead, size, count, …]`."""
    found: list[Tensor] = []
    begin = 0
    for n in counts:
        part = x[:, begin : begin + size * n]
        found.append(part.view(*lead, size, n, x.shape[2]))
        begin += size * n
    return found


def _stacked(
    name: str,
    xs: Sequence[Tensor],
    by: Sequence[Tensor | None],
    apply: Callable[..., Tensor],
    room: _Room,
) -> Tensor:
    """All of `xs: [*lead, size, count, …]`, with something of their steps applied."""
    *lead, size, _, entries = xs[0].shape
    counts = _counts(xs)
    made = room.take(name, math.prod(lead), size * sum(counts), entries)
    places = _laid(made, lead, size, counts)
    for out, x, gate in zip(places, xs, by, strict=True):
        _applied(apply, x, gate, out)
    return made


def _applied(
    apply: Callable[..., Tensor], x: Tensor, gate: Tensor | None, out: Tensor
) -> None:
    """Something of their steps applied to `x: [*lead, size, count, …]`, into `out`."""
    if gate is None:
        out.copy_(x)
    else:
        apply(x, gate.unsqueeze(4), out=out)


def _all_large(decay: Tensor | None) -> bool:
    """Whether one may divide by every single decay."""
    return decay is not None and bool(decay.amin() >= _LEAST)


def _since(decay: Tensor, room: _Room) -> Tensor | None:
    """Products of decays since the chunk began; None where one may not divide by them."""
    if not room.near and not _all_large(decay):
        return None
    *lead, size, rows = decay.shape
    since = room.take("since", *lead, size + 1, rows)
    since[..., 0, :] = 1
    torch.cumprod(decay, -2, dtype=since.dtype, out=since[..., 1:, :])
    low, high = torch.aminmax(since)
    return since if low >= _BOUNDS[0] and high <= _BOUNDS[1] else None


def _each(gates: Sequence[Tensor], counts: Sequence[int], dim: int) -> Tensor:
    """What holds for steps along `dim`, for all readers or writers of each kind."""
    pairs = zip(gates, counts, strict=True)
    return torch.cat([x.repeat_interleave(n, dim) for x, n in pairs], dim)


def _sights(at: _Steps, starts: Tensor | None, size: int, room: _Room) -> _Sight:
    """What is before, and in the same segment where these begin: `starts: [chunks, size]`."""
    like = room.like
    seen = room.once("before", lambda: like.new_ones(1, size + 1, size).tril(-1))
    readers, writers = _counts(at.readers()), _counts(at.writers())
    new = [x is at.new for x in at.readers()]
    if starts is None:

        def mask() -> Tensor:
            lines = [seen[:, 1:] if x else seen[:, :-1] for x in new]
            return _each([_each(lines, readers, 1)] * len(writers), writers, 2)

        return _Sight(room.once(f"mask {size}", mask))
    place = starts.cumsum(1).unsqueeze(2)
    line = torch.nn.functional.pad(place, (0, 0, 1, 0))
    seen, sight = seen * (line == place.mT), (line == 0).to(like.dtype)
    same = (~starts).unsqueeze(2)
    lines = [seen[:, 1:] if x else seen[:, :-1] * same for x in new]
    sights = [sight[:, 1:] if x else sight[:, :-1] * same for x in new]
    masks = [_each(lines, readers, 1)] * len(writers)
    reach = [seen[:, -1:].mT] * len(writers)
    return _Sight(
        _each(masks, writers, 2),
        _each(sights, readers, 1),
        _each(reach, writers, 1),
        sight[:, -1:],
    )


def _divided(
    at: _Steps,
    starts: Tensor | None,
    columns: int,
    minus: bool,
    kept: _Kept | None,
    room: _Room,
) -> _Divided | None:
    """A group of chunks of steps `[count, batch, copies, size, …]`; segments have `starts`.

    None where decays are not near 1, or nothing is read. Erases are the negative of
    `right` if `minus`; for gradients there is what was `kept` of the group.
    """
    since = None if at.decay is None else _since(at.decay, room)
    if not at.readers() or (since is None and at.decay is not None):
        return None
    before, after = (
        (None, None) if since is None else (since[..., :-1, :], since[..., 1:, :])
    )
    reading, writing = at.readers(), at.writers()
    erasing = _negative(before, room) if minus else before
    by = [before if x is at.old else after for x in reading]
    by = [erasing if x is at.right else gate for x, gate in zip(reading, by, strict=True)]
    readers = _stacked("readers", reading, by, torch.mul, room)
    writers = _stacked("writers", writing, [after] * len(writing), torch.div, room)
    lead, size = list(writing[0].shape[:3]), writing[0].shape[3]
    sees = _sights(at, starts, size, room)
    kernel = room.product("kernel", readers, writers.mT).mul_(sees.mask)
    values = room.take("values", len(writers), writers.shape[1], columns)
    if at.value is not None:
        _laid(values, lead, size, _counts(writing))[-1].copy_(at.value)
    made = _Divided(
        *(lead, size, since, erasing, readers, writers, sees, kernel, 0),
        *(None, None, values, None),
    )
    return made if at.right is None else _erased(at, at.right.shape[4], made, kept, room)


def _negative(gate: Tensor | None, room: _Room) -> Tensor:
    """What multiplies by a gate and changes the sign."""
    if gate is None:
        return room.once("minus", lambda: room.like.new_full((1, 1, 1, 1, 1), -1))
    return torch.neg(gate, out=room.take("erasing", *gate.shape))


def _erased(
    at: _Steps, count: int, made: _Divided, kept: _Kept | None, room: _Room
) -> _Divided:
    """The same with what erases do."""
    n, kernel, values = count * made.size, made.kernel, made.values
    if kept is None:
        negative = room.take("negative", len(kernel), n, n)
        inverse = _inverse(torch.neg(kernel[:, :n, :n], out=negative))
    else:
        inverse, values[:, :n] = kept
    pulled = room.product("pulled", inverse, made.far_readers()[:, :n])
    made = made._replace(erases=n, inverse=inverse, pulled=pulled)
    if kept is not None:
        return made
    known = room.take("known", len(kernel), n, values.shape[2])
    writes = kernel[:, :n, n:], values[:, n:]
    if at.known is not None:
        _laid(known, made.lead, made.size, [count])[0].copy_(at.known)
        if at.value is not None:
            known.baddbmm_(*writes)
    elif at.value is not None:
        torch.bmm(*writes, out=known)
    else:
        return made
    return made._replace(own=room.product("own", inverse, known))


def _left(
    state: Tensor, total: Tensor | None, more: Tensor | None, out: Tensor
) -> None:
    """What is left of states, and more."""
    if total is None:
        torch.add(state, 0 if more is None else more, out=out)
    elif more is None:
        torch.mul(state, total, out=out)
    else:
        torch.addcmul(more, state, total, out=out)


def _states(made: _Divided, borders: Tensor, room: _Room) -> None:
    """Fill in the states after each chunk, and what erases write.

    `borders: [count + 1, many, rows, columns]`, of which the first are given.
    """
    count, erases = len(borders) - 1, made.erases
    writers, added, own = made.far_writers(), None, made.own
    if writers.shape[1] > erases:
        added = room.product("added", writers[:, erases:].mT, made.values[:, erases:])
    if erases and own is None:
        own = made.values.new_zeros(len(writers), erases, borders.shape[-1])
    into = writers[:, :erases].mT if erases else None
    parts = (made.sees.total, made.end(), added, own, made.pulled, into)
    steps = zip(*[_by_chunk(x, count) for x in parts], strict=True)
    for i, (total, end, more, mine, pulled, to) in enumerate(steps):
        state, now = borders[i], borders[i + 1]
        _left(state, total, more, now)
        if mine is not None and pulled is not None and to is not None:
            now.baddbmm_(to, mine.baddbmm_(pulled, state))
        if end is not None:
            now.mul_(end)
    if own is not None:
        made.values[:, :erases] = own


def _divided_reads(made: _Divided, borders: Tensor, room: _Room) -> Tensor:
    """What queries see, `[chunks, queries, columns]`; fills in `borders` as `_states`."""
    _states(made, borders, room)
    before, e = borders[:-1].flatten(0, 1), made.erases
    seen = room.product("reads", made.far_readers()[:, e:], before)
    return seen.baddbmm_(made.kernel[:, e:], made.values)
