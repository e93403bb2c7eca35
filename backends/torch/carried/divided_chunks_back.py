"""Gradients of chunks whose decays are near 1, written where they are wanted."""

from collections.abc import Sequence

import torch
from torch import Tensor

from seqdsl.backends.torch.carried.chunk_gates_back import _summed
from seqdsl.backends.torch.carried.chunks import _Steps
from seqdsl.backends.torch.carried.divided_chunks import _applied, _Divided, _laid
from seqdsl.backends.torch.carried.stretches import _by_chunk

__all__ = ["_DividedBack"]


class _DividedBack:
    """Gradients of a group of chunks, as many as there are in `made`.

    All such groups use the same memory, and the same views of it.
    """

    def __init__(self, made: _Divided) -> None:
        room, e = made.room, made.erases
        many, high, rows = made.readers.shape
        wide, columns = made.writers.shape[1], made.values.shape[2]
        self.made = made
        self.grads = room.take(many, high, columns)  # of what readers see
        counts = made.reads[1 if e else 0 :]
        self.given = self.grads[:, e:]  # by queries
        self.places = _laid(self.given, made.lead, made.size, counts)
        # of what erases and others write, and of what erases know
        self.erased = room.take(many, e, columns) if e else None
        self.written = room.take(many, wide - e, columns) if wide > e else None
        self.known = room.take(many, e, columns)
        # of the states before each chunk, and after it before these decay
        self.before, self.after = (room.take(many, rows, columns) for _ in range(2))
        self.kernel = room.take(many, high, wide)
        self.readers, self.writers = (
            room.take(many, high, rows),
            room.take(many, wide, rows),
        )
        self.reading = _laid(self.readers, made.lead, made.size, made.reads)
        self.writing = _laid(self.writers, made.lead, made.size, made.writes)
        self.both = room.take(many, rows, columns)
        self.less = self.sums = None
        if made.gates is not None:
            self.less = room.take(*made.gates.later.shape)
            # what sums up all later steps, with the other sign
            self.sums = self.less.new_full((made.size, made.size), -1).triu()
        self.chunks = self._by_chunk()

    def _by_chunk(self) -> list[tuple[Tensor | None, ...]]:
        """What is used chunk by chunk."""
        made, e = self.made, self.made.erases
        into = made.far_writers[:, :e] if e else None
        pulled = None if made.pulled is None else made.pulled.mT
        end = None if made.gates is None else made.gates.end
        parts = (self.after, self.before, end, self.erased, into, pulled)
        count = len(made.chunks)
        return list(zip(*[_by_chunk(x, count) for x in parts], strict=True))

    def run(
        self,
        at: _Steps,
        borders: Tensor,
        d_state: Tensor,
        d_reads: Sequence[Tensor],
        found: _Steps,
    ) -> Tensor:
        """Gradient of the states before the group; `found` is filled with the others.

        `made` has met these steps `at`. `at`, `d_reads` and `found` are in its order,
        `borders: [count + 1, many, rows, columns]` are the states before each chunk and
        after the last, of which `d_state: [many, …]` is the gradient.
        """
        for out, x in zip(self.places, d_reads, strict=True):
            out.copy_(x)
        self._values_back()
        d_state = self._borders_back(d_state)
        self._written_back(found)
        self._sides_back(borders[:-1].flatten(0, 1))
        self._put(at, borders[1:].flatten(0, 1), found)
        return d_state

    def _values_back(self) -> None:
        """By queries: of what erases and others write, and of states before."""
        made, e = self.made, self.made.erases
        kernel = made.kernel[:, e:].mT
        if self.erased is not None:
            torch.bmm(kernel[:, :e], self.given, out=self.erased)
        if self.written is not None:
            torch.bmm(kernel[:, e:], self.given, out=self.written)
        torch.bmm(made.far_readers[:, e:].mT, self.given, out=self.before)

    def _borders_back(self, d_state: Tensor) -> Tensor:
        """Of the states after each chunk, before its decays, and before the first.

        Adds to what erases write what comes from later chunks.
        """
        totals = _by_chunk(self.made.sees.total, len(self.chunks))
        for total, chunk in zip(reversed(totals), reversed(self.chunks), strict=True):
            now, back, end, wrote, into, pulled = chunk
            assert now is not None and back is not None
            if end is None:
                now.copy_(d_state)
            else:
                torch.mul(d_state, end, out=now)
            d_state = back.add_(now) if total is None else back.addcmul_(now, total)
            if wrote is not None and into is not None and pulled is not None:
                back.baddbmm_(pulled, wrote.baddbmm_(into, now))
        return d_state.clone()

    def _written_back(self, found: _Steps) -> None:
        """Of what is written, and of what erases know."""
        made, e = self.made, self.made.erases
        if self.written is not None:
            self.written.baddbmm_(made.far_writers[:, e:], self.after)
        if self.erased is not None:
            torch.bmm(made.inverse.mT, self.erased, out=self.known)
            self.grads[:, :e] = self.known
            if self.written is not None:
                self.written.baddbmm_(made.kernel[:, :e, e:].mT, self.known)
            if found.known is not None:
                (known,) = _laid(self.known, made.lead, made.size, made.writes[:1])
                found.known.copy_(known)
        if found.value is not None and self.written is not None:
            (value,) = _laid(self.written, made.lead, made.size, made.writes[-1:])
            found.value.copy_(value)

    def _sides_back(self, states: Tensor) -> None:
        """Of readers and of writers."""
        made, sees, grads = self.made, self.made.sees, self.grads
        kernel = torch.bmm(grads, made.values.mT, out=self.kernel).mul_(sees.mask)
        torch.bmm(grads, states.mT, out=self.readers)
        torch.bmm(made.values, self.after.mT, out=self.writers)
        if sees.sight is not None and sees.reach is not None:
            self.readers.mul_(sees.sight)
            self.writers.mul_(sees.reach)
        self.readers.baddbmm_(kernel, made.writers)
        self.writers.baddbmm_(kernel.mT, made.readers)

    def _put(self, at: _Steps, ends: Tensor, found: _Steps) -> None:
        """Of what was multiplied by decays since the chunk began, and of these."""
        made = self.made
        if at.decay is not None and found.decay is not None:
            self._decays_back(at, at.decay, ends, found.decay)
        for out, d, gate in zip(
            found.readers(), self.reading, made.read_by, strict=True
        ):
            _applied(torch.mul, d, gate, out)
        for out, d, gate in zip(
            found.writers(), self.writing, made.divided_by, strict=True
        ):
            _applied(torch.div, d, gate, out)

    def _decays_back(
        self, at: _Steps, decay: Tensor, ends: Tensor, found: Tensor
    ) -> None:
        """Of decays; `ends` are the states at the end of each chunk.

        `less` are gradients of the logarithms of products of decays, with the other sign.
        """
        made, less = self.made, self.less
        assert less is not None and self.sums is not None and made.gates is not None
        less.zero_()
        for d, x in zip(self.writing, made.writing, strict=True):
            _add_log(less, d, x, 1)
        # what they leave of all, of which `after` is the gradient before it is multiplied
        both = torch.mul(ends, self.after, out=self.both)
        end = both.sum(-1, keepdim=True).div(made.gates.end).squeeze(-1)
        less[..., -1, :].sub_(_summed(end, less).view(*less.shape[:3], -1))
        for d, x, y in zip(self.reading, made.reading, at.readers(), strict=True):
            if y is at.new:
                _add_log(less, d, x, -1)
            else:
                _add_log(less[..., :-1, :], d[..., 1:, :, :], x[..., 1:, :, :], -1)
        torch.div(self.sums @ less, decay, out=found)


def _add_log(less: Tensor, d: Tensor, x: Tensor, sign: int) -> None:
    """Add `d * x: [*lead, steps, count, rows]` by steps, and by rows if these differ."""
    if less.shape[-1] < x.shape[-1]:
        less.add_((d * x).sum((4, 5)).unsqueeze(-1), alpha=sign)
        return
    for i in range(x.shape[4]):
        less.addcmul_(d[..., i, :], x[..., i, :], value=sign)
