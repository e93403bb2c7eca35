"""Chunks of matrix states, one after another."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from seqdsl.backends.torch.carried.chunk_gates import _Met, _met
from seqdsl.backends.torch.carried.chunks import (
    _apart,
    _carried,
    _inverse,
    _Steps,
    _twice,
)

__all__ = [
    "_Fresh",
    "_Made",
    "_by_chunk",
    "_decayed",
    "_fresh",
    "_made",
    "_plus_product",
    "_stretch",
]


class _Fresh(NamedTuple):
    """What comes of the states that segments begin with, in the chunk where they begin."""

    seen: list[Tensor]  # by readers, [chunks, steps * count, columns]
    added: Tensor  # to the states after the chunk


class _Made(NamedTuple):
    """What chunks write, where `pulled` is what erases add of the states before."""

    met: _Met
    inverse: Tensor | None
    pulled: Tensor | None  # [chunks, steps * erases, rows]
    known: (
        Tensor | None
    )  # erases without these states, [chunks, steps * erases, columns]
    value: Tensor | None  # [chunks, steps * writes, columns]


def _decayed(
    state: Tensor, decay: Tensor | None, states: int, more: Tensor | None = None
) -> Tensor:
    """What a decay leaves of states `[many, rows, columns]`, and `more`."""
    if decay is None:
        return state if more is None else state + more
    if states == 1:
        wide = decay.unsqueeze(-1)
        return wide * state if more is None else torch.addcmul(more, wide, state)
    apart = _apart(state, 1, states, state.shape[1] // states)
    found = (decay.unsqueeze(-1) * apart.unsqueeze(1)).sum(2).flatten(1, 2)
    return found if more is None else found + more


def _fresh(state: Tensor, at: _Steps, states: int) -> _Fresh:
    """What is left of the states `[chunks, rows, columns]` that segments begin with."""
    assert at.start is not None
    some, starts = at.writers()[0], at.start
    decay = some.new_ones(*some.shape[:2], 1) if at.decay is None else at.decay
    one = torch.ones_like(decay[:, 0])
    if states > 1:
        unit = torch.eye(states, dtype=decay.dtype, device=decay.device)
        one = one * unit.unsqueeze(-1)
    found: list[Tensor] = []
    left = torch.zeros_like(one)
    starts = starts.reshape(*starts.shape, *[1] * (one.dim() - 1))
    for t in range(decay.shape[1]):
        left = torch.where(starts[:, t], one, left)
        found.append(left)
        left = _twice(left, decay[:, t], states)
    readers = at.readers()
    if at.new is not None:
        readers[-1] = _carried(at.new, decay, states)
    before = torch.stack(found, 1)
    seen = [_carried(x, before, states).flatten(1, 2) @ state for x in readers]
    return _Fresh(seen, _decayed(state, left, states))


def _made(at: _Steps, states: int, more: Tensor | None, plain: bool) -> _Made:
    """What chunks write of themselves; erases also `more`."""
    met = _met(at, states)
    value = None if at.value is None else at.value.flatten(1, 2)
    if at.right is None:
        return _Made(met, None, None, None, value)
    inverse = _inverse(-met.seen.kernels[0][0])
    known = None if at.known is None else at.known.flatten(1, 2)
    if more is not None:
        known = more if known is None else known + more
    if value is not None:
        seen = met.seen.kernels[0][1]
        known = seen @ value if known is None else torch.baddbmm(known, seen, value)
    known = None if known is None else inverse @ known
    return _Made(met, inverse, inverse @ met.seen.readers[0], known, value)


def _stretch(
    at: _Steps, state: Tensor, fresh: _Fresh | None, states: int, plain: bool
) -> tuple[list[Tensor], Tensor, Tensor]:
    """The reads of some chunks, the states before each, and those after the last.

    `at` are `[count * many, steps, …]`, the states `[many, rows, columns]`.
    """
    seen = [] if fresh is None else list(fresh.seen)
    more = seen.pop(0) if seen and at.right is not None else None
    made = _made(at, states, more, plain)
    before, after, written = _chunk_by_chunk(made, state, fresh, states, plain)
    values = [x for x in (written, made.value) if x is not None]
    first = 0 if at.right is None else 1
    reads: list[Tensor] = []
    met = made.met.seen
    for i in range(first, len(met.readers)):
        out = met.readers[i] @ before.flatten(0, 1)
        for kernel, value in zip(met.kernels[i], values, strict=True):
            if plain:
                out = torch.baddbmm(out, kernel, value)
            else:
                out.baddbmm_(kernel, value)
        reads.append(out + seen.pop(0) if seen else out)
    return reads, before, after


def _chunk_by_chunk(
    made: _Made, state: Tensor, fresh: _Fresh | None, states: int, plain: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The states before every chunk and at the end, and what erases write."""
    many, seen = len(state), made.met.seen
    count = len(seen.writers[0]) // many
    into = None if made.pulled is None else seen.writers[0].mT
    added = None if made.value is None else seen.writers[-1].mT @ made.value
    begun = None if fresh is None else fresh.added
    parts = (seen.total, added, made.known, made.pulled, into, begun)
    steps = [_by_chunk(x, count) for x in parts]
    before: list[Tensor] = []
    written: list[Tensor] = []
    for total, more, known, pulled, to, begin in zip(*steps, strict=True):
        before.append(state)
        now = _decayed(state, total, states, more)
        if pulled is not None and to is not None:
            written.append(_plus_product(known, pulled, state, plain))
            now = torch.baddbmm(now, to, written[-1])
        state = now if begin is None else now + begin
    if not written or (made.known is not None and not plain):
        return torch.stack(before), state, made.known
    return torch.stack(before), state, torch.stack(written).flatten(0, 1)


def _by_chunk(x: Tensor | None, count: int) -> Sequence[Tensor | None]:
    """`[count * many, …]` as `count` tensors."""
    if x is None:
        return [None] * count
    return _apart(x, 0, count, len(x) // count).unbind(0)


def _plus_product(more: Tensor | None, x: Tensor, y: Tensor, plain: bool) -> Tensor:
    """`more + x @ y`, where None is 0; in the place of `more` if not `plain`."""
    if more is None:
        return x @ y
    return torch.baddbmm(more, x, y) if plain else more.baddbmm_(x, y)
