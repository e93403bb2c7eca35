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

from seqdsl.backends.torch.carried.chunks import _inverse, _Steps
from seqdsl.backends.torch.carried.room import _Room
from seqdsl.backends.torch.carried.stretches import _by_chunk

__all__ = ["_Divided", "_Kept", "_all_large", "_applied", "_laid"]

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


def _applied(
    apply: Callable[..., Tensor], x: Tensor, gate: Tensor | None, out: Tensor
) -> None:
    """Something of their steps applied to `x: [*lead, size, count, …]`, into `out`."""
    if gate is None:
        out.copy_(x)
    else:
        apply(x, gate, out=out)


def _all_large(decay: Tensor | None) -> bool:
    """Whether one may divide by every single decay."""
    return decay is not None and bool(decay.amin() >= _LEAST)


def _each(gates: Sequence[Tensor], counts: Sequence[int], dim: int) -> Tensor:
    """What holds for steps along `dim`, for all readers or writers of each kind."""
    pairs = zip(gates, counts, strict=True)
    return torch.cat([x.repeat_interleave(n, dim) for x, n in pairs], dim)


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


class _Products:
    """Products of the decays of a group since each chunk began, `[*lead, size, 1, rows]`."""

    def __init__(self, decay: Tensor, room: _Room) -> None:
        *lead, size, rows = decay.shape
        self.since = room.take(*lead, size + 1, rows)
        self.since[..., 0, :] = 1
        self.later = self.since[..., 1:, :]
        self.before, self.after = (
            x.unsqueeze(4) for x in (self.since[..., :-1, :], self.later)
        )
        end = self.since[..., -1, :].flatten(0, 2).unsqueeze(-1)
        self.end = end  # what they leave of all, [chunks, rows, 1]

    def multiply(self, decay: Tensor) -> bool:
        """Multiply them up; False where one may not divide by them."""
        torch.cumprod(decay, -2, dtype=self.since.dtype, out=self.later)
        low, high = torch.aminmax(self.since)
        return float(low) >= _BOUNDS[0] and float(high) <= _BOUNDS[1]


class _Divided:
    """A group of chunks, readers and writers of all steps one after another.

    All groups of so many chunks use the same memory, and the same views of it: `meet`
    fills it. Erases are the negative of `right` if `minus`.
    """

    def __init__(
        self, at: _Steps, columns: int, segments: bool, minus: bool, room: _Room
    ) -> None:
        reading, writing = at.readers(), at.writers()
        *lead, size, _, rows = writing[0].shape
        self.lead, self.size, self.room = lead, size, room
        self.reads, self.writes = (
            [x.shape[4] for x in xs] for xs in (reading, writing)
        )
        many, high, wide = (
            math.prod(lead), size * sum(self.reads), size * sum(self.writes)
        )  # fmt: skip
        e = self.erases = 0 if at.right is None else size * at.right.shape[4]
        self.gates = None if at.decay is None else _Products(at.decay, room)
        self._gated(at, minus)
        self.readers, self.writers = (room.take(many, n, rows) for n in (high, wide))
        self.reading = _laid(self.readers, lead, size, self.reads)
        self.writing = _laid(self.writers, lead, size, self.writes)
        # of the states before the chunk, and to those after it
        self.far_readers, self.far_writers = self.readers, self.writers
        if segments:
            self.far_readers = room.take(*self.readers.shape)
            self.far_writers = room.take(*self.writers.shape)
        self.sees = self._all_before(at)
        self.kernel = room.take(many, high, wide)  # what readers see of writers
        self.values = room.take(many, wide, columns)  # what is written
        self.more = self.values[:, e:] if wide > e else None  # not by erases
        self.value = None if at.value is None else self._places(self.values)[-1]
        self.seen = room.take(many, high - e, columns)  # by queries
        self.seeing = _laid(self.seen, lead, size, self.reads[1 if e else 0 :])
        self.added = room.take(many, rows, columns) if wide > e else None
        # what erases read of the states before the chunk, and write if these are 0
        self.pulled = self.own = into = None
        if e:
            self.pulled, self.own = (
                room.take(many, e, rows),
                room.take(many, e, columns),
            )
            self.negative, self.known = (
                room.take(many, e, e),
                room.take(*self.own.shape),
            )
            self.inverse, into = self.negative, self.far_writers[:, :e].mT
        end = None if self.gates is None else self.gates.end
        parts = (end, self.added, self.own, self.pulled, into)
        self.chunks = list(zip(*[_by_chunk(x, lead[0]) for x in parts], strict=True))

    def _gated(self, at: _Steps, minus: bool) -> None:
        """By what readers are multiplied and writers divided; None is 1."""
        before = after = erasing = None
        if self.gates is not None:
            before, after = self.gates.before, self.gates.after
            erasing = before
        self.erasing = None
        if minus and before is None:
            erasing = self.room.like.new_full((), -1)
        elif minus and before is not None:
            erasing = self.erasing = self.room.take(*before.shape)
        named = ((at.right, erasing), (at.old, before), (at.new, after))
        self.read_by = [gate for x, gate in named if x is not None]
        self.divided_by = [after] * len(self.writes)

    def _places(self, values: Tensor) -> list[Tensor]:
        """Views of something of writers by steps."""
        return _laid(values, self.lead, self.size, self.writes)

    def meet(self, at: _Steps, starts: Tensor | None, kept: _Kept | None) -> bool:
        """Take steps `[count, batch, copies, size, …]`; False where decays are not near 1.

        Segments have `starts: [chunks, size]`. For gradients there is what was `kept`.
        """
        if at.decay is not None and self.gates is not None:
            if not self.gates.multiply(at.decay):
                return False
            if self.erasing is not None:
                torch.neg(self.gates.before, out=self.erasing)
        for x, gate, out in zip(at.readers(), self.read_by, self.reading, strict=True):
            _applied(torch.mul, x, gate, out)
        for x, gate, out in zip(
            at.writers(), self.divided_by, self.writing, strict=True
        ):
            _applied(torch.div, x, gate, out)
        if starts is not None:
            self.sees = sees = self._same_segment(at, starts)
            _applied(torch.mul, self.readers, sees.sight, self.far_readers)
            _applied(torch.mul, self.writers, sees.reach, self.far_writers)
        torch.bmm(self.readers, self.writers.mT, out=self.kernel).mul_(self.sees.mask)
        if at.value is not None and self.value is not None:
            self.value.copy_(at.value)
        if self.erases:
            self._erase(at, kept)
        return True

    def _all_before(self, at: _Steps) -> _Sight:
        """All that is before."""
        seen = self.room.like.new_ones(1, self.size + 1, self.size).tril(-1)
        new = [x is at.new for x in at.readers()]
        lines = [seen[:, 1:] if x else seen[:, :-1] for x in new]
        mask = _each([_each(lines, self.reads, 1)] * len(self.writes), self.writes, 2)
        return _Sight(mask)

    def _same_segment(self, at: _Steps, starts: Tensor) -> _Sight:
        """What is before and in the same segment, where these begin."""
        seen = self.room.like.new_ones(1, self.size + 1, self.size).tril(-1)
        place = starts.cumsum(1).unsqueeze(2)
        line = torch.nn.functional.pad(place, (0, 0, 1, 0))
        seen, sight = seen * (line == place.mT), (line == 0).to(seen.dtype)
        same = (~starts).unsqueeze(2)
        new = [x is at.new for x in at.readers()]
        lines = [seen[:, 1:] if x else seen[:, :-1] * same for x in new]
        sights = [sight[:, 1:] if x else sight[:, :-1] * same for x in new]
        masks = [_each(lines, self.reads, 1)] * len(self.writes)
        reach = [seen[:, -1:].mT] * len(self.writes)
        return _Sight(
            _each(masks, self.writes, 2),
            _each(sights, self.reads, 1),
            _each(reach, self.writes, 1),
            sight[:, -1:],
        )

    def _erase(self, at: _Steps, kept: _Kept | None) -> None:
        """What erases do."""
        e, kernel = self.erases, self.kernel
        if kept is None:
            self.inverse = _inverse(torch.neg(kernel[:, :e, :e], out=self.negative))
        else:
            self.inverse, self.values[:, :e] = kept
        torch.bmm(self.inverse, self.far_readers[:, :e], out=self.pulled)
        if kept is not None:
            return
        if at.known is not None:
            (known,) = _laid(self.known, self.lead, self.size, self.writes[:1])
            known.copy_(at.known)
            if self.more is not None:
                self.known.baddbmm_(kernel[:, :e, e:], self.more)
        elif self.more is not None:
            torch.bmm(kernel[:, :e, e:], self.more, out=self.known)
        else:
            self.known.zero_()
        torch.bmm(self.inverse, self.known, out=self.own)

    def pass_on(self, borders: Tensor) -> None:
        """Fill in the states after each chunk, and what erases write.

        `borders: [count + 1, many, rows, columns]`, of which the first are given.
        """
        e = self.erases
        if self.added is not None and self.more is not None:
            torch.bmm(self.far_writers[:, e:].mT, self.more, out=self.added)
        totals = _by_chunk(self.sees.total, len(self.chunks))
        state, *after = borders.unbind(0)
        for now, total, chunk in zip(after, totals, self.chunks, strict=True):
            end, more, own, pulled, into = chunk
            _left(state, total, more, now)
            if own is not None and pulled is not None and into is not None:
                now.baddbmm_(into, own.baddbmm_(pulled, state))
            if end is not None:
                now.mul_(end)
            state = now
        if self.own is not None:
            self.values[:, :e] = self.own

    def write(self, before: Tensor) -> None:
        """Fill in what erases write, as `pass_on`, given the states before each chunk."""
        if self.own is not None and self.pulled is not None:
            self.own.baddbmm_(self.pulled, before)
            self.values[:, : self.erases] = self.own

    def read(self, borders: Tensor) -> list[Tensor]:
        """What queries see, by steps; fills in `borders` as `pass_on`."""
        self.pass_on(borders)
        before, e = borders[:-1].flatten(0, 1), self.erases
        torch.bmm(self.far_readers[:, e:], before, out=self.seen)
        self.seen.baddbmm_(self.kernel[:, e:], self.values)
        return self.seeing
