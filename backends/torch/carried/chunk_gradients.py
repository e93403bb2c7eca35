"""Gradients of chunks of matrix states, in place where that saves memory."""

from collections.abc import Sequence

import torch
from torch import Tensor

from seqdsl.backends.torch.carried.chunk_gates import _cut
from seqdsl.backends.torch.carried.chunk_gates_back import (
    _met_back,
    _MetBack,
    _Sides,
    _summed,
)
from seqdsl.backends.torch.carried.chunks import _apart, _Seen, _Steps
from seqdsl.backends.torch.carried.stretches import (
    _by_chunk,
    _decayed,
    _Made,
    _made,
    _plus_product,
)

__all__ = ["_stretch_back"]


def _stretch_back(
    at: _Steps,
    before: Tensor,
    d_reads: Sequence[Tensor],
    d_state: Tensor,
    states: int,
) -> tuple[_Steps, Tensor]:
    """Gradients of some chunks and of the states before them.

    `before` are the states before each chunk `[count, many, rows, columns]`, `d_reads`
    the gradients of reads `[count * many, steps * queries, columns]`.
    """
    made = _made(at, states, None, False)
    flat = before.flatten(0, 1)
    values = _values(made, flat)
    met = made.met.seen
    first = 0 if at.right is None else 1
    kernels = [[d @ v.mT for v in values] for d in d_reads]
    readers = [d @ flat.mT for d in d_reads]
    d_before = _by_reads(met.readers[first:], d_reads, flat)
    d_values = [
        _by_reads([line[j] for line in met.kernels[first:]], d_reads, v)
        for j, v in enumerate(values)
    ]
    after, d_state = _states_back(made, d_before, d_values, d_state, states)
    writers = [v @ after.mT for v in values]
    if made.value is not None:
        d_values[-1].baddbmm_(met.writers[-1], after)
    known = _erases_back(made, d_values)
    if known is not None:
        kernels.insert(0, [known @ v.mT for v in values])
        readers.insert(0, known @ flat.mT)
    total = _total_back(after, flat, met, states)
    back = _MetBack(kernels, readers, writers, total)
    found = _met_back(made.met, back, states)
    return _cut(_named(at, found, known, d_values)), d_state


def _values(made: _Made, before: Tensor) -> list[Tensor]:
    """What erases write, and what else is written."""
    values: list[Tensor] = []
    if made.pulled is not None:
        values.append(_plus_product(made.known, made.pulled, before, False))
    if made.value is not None:
        values.append(made.value)
    return values


def _erases_back(made: _Made, values: list[Tensor]) -> Tensor | None:
    """Gradient of what erases write of themselves; adds to that of other values."""
    if made.inverse is None:
        return None
    known = made.inverse.mT @ values[0]
    if made.value is not None:
        values[1].baddbmm_(made.met.seen.kernels[0][1].mT, known)
    return known


def _by_reads(seers: Sequence[Tensor], grads: Sequence[Tensor], like: Tensor) -> Tensor:
    """What readers have of something, as gradients of it."""
    made = None
    for seer, grad in zip(seers, grads, strict=True):
        made = seer.mT @ grad if made is None else made.baddbmm_(seer.mT, grad)
    return torch.zeros_like(like) if made is None else made


def _states_back(
    made: _Made, before: Tensor, values: list[Tensor], d_state: Tensor, states: int
) -> tuple[Tensor, Tensor]:
    """Gradients of the states after each chunk, and before the first.

    Adds to `values` what comes to erases from later chunks, and to `before`.
    """
    seen, count = made.met.seen, len(before) // len(d_state)
    total = seen.total
    if total is not None and states > 1:
        total = total.transpose(1, 2)
    erased = into = pulled = None
    if made.pulled is not None:
        erased, into, pulled = values[0], seen.writers[0], made.pulled.mT
    after = torch.empty_like(before)
    parts = (after, before, total, erased, into, pulled)
    steps = list(zip(*[_by_chunk(x, count) for x in parts], strict=True))
    for now, more, kept, wrote, to, back in reversed(steps):
        assert now is not None
        now.copy_(d_state)
        d_state = _decayed(now, kept, states, more)
        if wrote is not None and to is not None and back is not None:
            wrote.baddbmm_(to, now)
            d_state.baddbmm_(back, wrote)
    return after, d_state


def _total_back(
    after: Tensor, before: Tensor, seen: _Seen, states: int
) -> Tensor | None:
    """Of what is left after each chunk of the states before it; None where that is all."""
    like = seen.total
    if like is None:
        return None
    if states > 1:
        size = before.shape[1] // states
        before = _apart(before, 1, states, size).unsqueeze(1)
        after = _apart(after, 1, states, size).unsqueeze(2)
    return _summed((after * before).sum(-1), like)


def _named(
    at: _Steps, found: _Sides, known: Tensor | None, values: Sequence[Tensor]
) -> _Steps:
    """Gradients under the names of what they are of."""
    readers, writers, decay = list(found[0]), list(found[1]), found[2]

    def shaped(x: Tensor | None, like: Tensor | None) -> Tensor | None:
        return None if x is None or like is None else x.reshape(like.shape)

    return _Steps(
        decay,
        None if at.right is None else readers.pop(0),
        None if at.into is None else writers.pop(0),
        shaped(known, at.known),
        None if at.left is None else writers.pop(0),
        shaped(values[-1], at.value),
        None if at.old is None else readers.pop(0),
        None if at.new is None else readers.pop(0),
        at.start,
    )
