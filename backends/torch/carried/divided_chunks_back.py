"""Gradients of chunks whose decays are near 1, written where they are wanted."""

from collections.abc import Sequence

import torch
from torch import Tensor

from seqdsl.backends.torch.carried.chunk_gates_back import _summed
from seqdsl.backends.torch.carried.chunks import _Steps
from seqdsl.backends.torch.carried.divided_chunks import (
    _applied,
    _counts,
    _Divided,
    _laid,
)
from seqdsl.backends.torch.carried.room import _Room
from seqdsl.backends.torch.carried.stretches import _by_chunk

__all__ = ["_divided_back"]


def _divided_back(
    at: _Steps,
    made: _Divided,
    borders: Tensor,
    d_state: Tensor,
    d_reads: Sequence[Tensor],
    found: _Steps,
    room: _Room,
) -> Tensor:
    """Gradient of the states before a group of chunks; `found` is filled with the others.

    `at`, `d_reads` and `found` are in the order of `made`, `borders: [count + 1, many,
    rows, columns]` are the states before each chunk and after the last, of which `d_state:
    [many, …]` is the gradient.
    """
    e, states = made.erases, borders[:-1].flatten(0, 1)
    grads = room.take("grads", *made.readers.shape[:2], states.shape[2])
    counts = [x.shape[4] for x in d_reads]
    places = _laid(grads[:, e:], made.lead, made.size, counts)
    for out, x in zip(places, d_reads, strict=True):
        out.copy_(x)
    erased, written, d_before = _values_back(made, grads, room)
    after, d_state = _borders_back(made, d_before, erased, d_state, room)
    if written is not None:
        written.baddbmm_(made.far_writers()[:, e:], after)
    if made.inverse is not None and erased is not None:
        known = room.product("d_known", made.inverse.mT, erased)
        grads[:, :e] = known
        if written is not None:
            written.baddbmm_(made.kernel[:, :e, e:].mT, known)
        if found.known is not None:
            out = _laid(known, made.lead, made.size, [found.known.shape[4]])
            found.known.copy_(out[0])
    if found.value is not None and written is not None:
        out = _laid(written, made.lead, made.size, [found.value.shape[4]])
        found.value.copy_(out[0])
    readers, writers = _sides_back(made, grads, states, after, room)
    end = _end_back(made, borders[1:].flatten(0, 1), after, room)
    _put(at, made, readers, writers, end, found, room)
    return d_state


def _values_back(
    made: _Divided, grads: Tensor, room: _Room
) -> tuple[Tensor | None, Tensor | None, Tensor]:
    """By queries: gradients of what erases and others write, and of states before."""
    e, given = made.erases, grads[:, made.erases :]
    kernel = made.kernel[:, e:].mT
    erased = room.product("erased", kernel[:, :e], given) if e else None
    written = None
    if kernel.shape[1] > e:
        written = room.product("written", kernel[:, e:], given)
    return (
        erased,
        written,
        room.product("d_before", made.far_readers()[:, e:].mT, given),
    )


def _borders_back(
    made: _Divided,
    d_before: Tensor,
    erased: Tensor | None,
    d_state: Tensor,
    room: _Room,
) -> tuple[Tensor, Tensor]:
    """Gradients of the states after each chunk, before its decays, and before the first.

    Adds to `erased` what comes from later chunks.
    """
    count = len(d_before) // len(d_state)
    after = room.take("after", *d_before.shape)
    into = None if erased is None else made.far_writers()[:, : made.erases]
    pulled = None if made.pulled is None else made.pulled.mT
    parts = (after, d_before, made.sees.total, made.end(), erased, into, pulled)
    steps = list(zip(*[_by_chunk(x, count) for x in parts], strict=True))
    for now, back, total, end, wrote, to, pull in reversed(steps):
        assert now is not None and back is not None
        if end is None:
            now.copy_(d_state)
        else:
            torch.mul(d_state, end, out=now)
        d_state = back.add_(now) if total is None else back.addcmul_(now, total)
        if wrote is not None and to is not None and pull is not None:
            back.baddbmm_(pull, wrote.baddbmm_(to, now))
    return after, d_state.clone()


def _sides_back(
    made: _Divided, grads: Tensor, states: Tensor, after: Tensor, room: _Room
) -> tuple[Tensor, Tensor]:
    """Gradients of readers and of writers."""
    sees = made.sees
    kernel = room.product("d_kernel", grads, made.values.mT).mul_(sees.mask)
    d_readers = room.product("d_readers", grads, states.mT)
    d_writers = room.product("d_writers", made.values, after.mT)
    if sees.sight is not None and sees.reach is not None:
        d_readers.mul_(sees.sight)
        d_writers.mul_(sees.reach)
    d_readers.baddbmm_(kernel, made.writers)
    d_writers.baddbmm_(kernel.mT, made.readers)
    return d_readers, d_writers


def _end_back(
    made: _Divided, ends: Tensor, after: Tensor, room: _Room
) -> Tensor | None:
    """Gradient of the logarithm of what decays leave of all at the end, `[chunks, rows]`.

    `ends` are the states then, `after` their gradients before these decays.
    """
    end = made.end()
    if end is None:
        return None
    both = torch.mul(ends, after, out=room.take("both", *ends.shape))
    return both.sum(-1, keepdim=True).div(end).squeeze(-1)


def _put(
    at: _Steps,
    made: _Divided,
    d_readers: Tensor,
    d_writers: Tensor,
    end: Tensor | None,
    found: _Steps,
    room: _Room,
) -> None:
    """Gradients of what was multiplied by decays since the chunk began, and of these.

    `less` are gradients of the logarithms of products of decays, with the other sign.
    """
    place = (made.lead, made.size)
    before, after = made.before(), made.after()
    readers, writers = _counts(at.readers()), _counts(at.writers())
    reading = _laid(d_readers, *place, readers)
    writing = _laid(d_writers, *place, writers)
    if end is not None and at.decay is not None and found.decay is not None:
        less = room.take("less", *at.decay.shape).zero_()
        for d, x in zip(writing, _laid(made.writers, *place, writers), strict=True):
            _add_log(less, d, x, 1)
        less[..., -1, :].sub_(_summed(end, less).view(*less.shape[:3], -1))
        seen = _laid(made.readers, *place, readers)
        for d, x, y in zip(reading, seen, at.readers(), strict=True):
            if y is at.new:
                _add_log(less, d, x, -1)
            else:
                _add_log(less[..., :-1, :], d[..., 1:, :, :], x[..., 1:, :, :], -1)
        later = room.once("later", lambda: _sum_later(less, made.size))
        torch.div(later @ less, at.decay, out=found.decay)
    for out, d in zip(found.readers(), reading, strict=True):
        gate = before if out is found.old else after
        _applied(torch.mul, d, made.erasing if out is found.right else gate, out)
    for out, d in zip(found.writers(), writing, strict=True):
        _applied(torch.div, d, after, out)


def _sum_later(like: Tensor, size: int) -> Tensor:
    """What sums up all later steps, with the other sign."""
    return like.new_full((size, size), -1).triu()


def _add_log(less: Tensor, d: Tensor, x: Tensor, sign: int) -> None:
    """Add `d * x: [*lead, steps, count, rows]` by steps, and by rows if these differ."""
    if less.shape[-1] < x.shape[-1]:
        less.add_((d * x).sum((4, 5)).unsqueeze(-1), alpha=sign)
        return
    for i in range(x.shape[4]):
        less.addcmul_(d[..., i, :], x[..., i, :], value=sign)
