"""Gradients of chunks of matrix states, in place where that saves memory."""

from collections.abc import Sequence

import torch
from torch import Tensor

from seqdsl.backends.torch.carried.chunk_gates import _cut
from seqdsl.backends.torch.carried.chunk_gates_back import (
    _met_back,
    _MetBack,
    _summed,
)
from seqdsl.backends.torch.carried.chunks import _apart, _Level, _Steps
from seqdsl.backends.torch.carried.stretches import _decayed, _Made, _made

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
    total = _total_back(after, flat, met.total, states)
    found = _met_back(made.met, _MetBack(kernels, readers, writers, total), states)
    return _cut(_named(at, found, known, d_values)), d_state


def _values(made: _Made, before: Tensor) -> list[Tensor]:
    """What erases write, and what else is written."""
    values: list[Tensor] = []
    if made.pulled is not None:
        seen = made.pulled @ before
        values.append(seen if made.known is None else seen.add_(made.known))
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
    """Gradients of the states after each chunk and before the first.

    Adds to `values` what comes to erases from later chunks, and to `before`.
    """
    many = len(d_state)
    count = len(before) // many
    total = made.met.seen.total.expand(len(before), *made.met.seen.total.shape[1:])
    if states > 1:
        total = total.transpose(1, 2)
    total, before = _apart(total, 0, count, many), _apart(before, 0, count, many)
    after = torch.empty_like(before)
    erased, into, pulled = (
        None if x is None else _apart(x, 0, count, many)
        for x in (values[0], made.met.seen.writers[0], made.pulled)
    )
    for i in reversed(range(count)):
        after[i] = d_state
        d_state = _decayed(d_state, total[i], states, before[i])
        if pulled is not None and erased is not None and into is not None:
            erased[i].baddbmm_(into[i], after[i])
            d_state.baddbmm_(pulled[i].mT, erased[i])
    return after.flatten(0, 1), d_state


def _total_back(after: Tensor, before: Tensor, total: Tensor, states: int) -> Tensor:
    """Of the decay of each chunk."""
    if states > 1:
        size = before.shape[1] // states
        before = _apart(before, 1, states, size).unsqueeze(1)
        after = _apart(after, 1, states, size).unsqueeze(2)
    return _summed((after * before).sum(-1), total)


def _named(
    at: _Steps, found: _Level, known: Tensor | None, values: Sequence[Tensor]
) -> _Steps:
    """Gradients under the names of what they are of."""
    readers, writers = list(found.readers), list(found.writers)

    def shaped(x: Tensor | None, like: Tensor | None) -> Tensor | None:
        return None if x is None or like is None else x.reshape(like.shape)

    return _Steps(
        None if at.decay is None else found.total,
        None if at.right is None else readers.pop(0),
        None if at.into is None else writers.pop(0),
        shaped(known, at.known),
        None if at.left is None else writers.pop(0),
        shaped(values[-1], at.value),
        None if at.old is None else readers.pop(0),
        None if at.new is None else readers.pop(0),
        at.start,
    )
