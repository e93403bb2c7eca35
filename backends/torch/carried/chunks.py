"""What the steps of a chunk of matrix states do to each other."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = [
    "_Level",
    "_Seen",
    "_Steps",
    "_apart",
    "_carried",
    "_inverse",
    "_odd_even",
    "_pairs",
    "_spots",
    "_tree",
    "_twice",
]


class _Steps(NamedTuple):
    """What matrix states do at the steps of some chunks, `[chunks, steps, …]`.

    A step makes `decay * S + into^T (known + right S) + left^T value` of the states before
    it, all of them below one another as `rows`. `old` reads these, `new` those it makes.
    """

    decay: Tensor | None  # [rows] or [1]; with several states [states, states, rows]
    right: Tensor | None  # [erases, rows]
    into: Tensor | None  # [erases, rows]
    known: Tensor | None  # [erases, columns]; None is 0
    left: Tensor | None  # [writes, rows]
    value: Tensor | None  # [writes, columns]
    old: Tensor | None  # [queries, rows]
    new: Tensor | None  # [queries, rows]
    start: Tensor | None = None  # whether a segment begins before the step

    def each(self, make: Callable[[Tensor], Tensor]) -> "_Steps":
        """The same of every tensor."""
        return _Steps._make(None if x is None else make(x) for x in self)

    def readers(self) -> list[Tensor]:
        """What sees the states before its step, then what sees them after it."""
        return [x for x in (self.right, self.old, self.new) if x is not None]

    def queries(self) -> list[Tensor]:
        """What is read by others."""
        return [x for x in (self.old, self.new) if x is not None]

    def writers(self) -> list[Tensor]:
        """What is written to, by erases first."""
        return [x for x in (self.into, self.left) if x is not None]


class _Level(NamedTuple):
    """Stretches of steps before each two of them become one.

    Readers are carried back to the start of their stretch, writers on to its end.
    """

    readers: list[Tensor]  # [stretches, steps, count, rows]
    writers: list[Tensor]
    total: Tensor  # decay of the whole stretch


class _Seen(NamedTuple):
    """What readers see in their chunk and before it, and what is left of it at its end."""

    kernels: list[list[Tensor]]  # by reader and writer, [chunks, steps * c, steps * w]
    readers: list[Tensor]  # as of the start of the chunk, [chunks, steps * c, rows]
    writers: list[Tensor]  # as of its end, [chunks, steps * w, rows]
    total: Tensor | None  # what is left of the states before the chunk; None is all
    levels: list[_Level]


def _apart(x: Tensor, dim: int, first: int, second: int) -> Tensor:
    """One dimension as two."""
    at = dim % x.dim()
    return x.reshape(*x.shape[:at], first, second, *x.shape[at + 1 :])


def _carried(x: Tensor, decay: Tensor, states: int, on: bool = False) -> Tensor:
    """Readers `x: […, count, rows]` before a decay, given those after it; writers `on`."""
    if states == 1:
        return x * decay.unsqueeze(-2)
    x = _apart(x, -1, states, x.shape[-1] // states)
    if on:
        return (decay.unsqueeze(-4) * x.unsqueeze(-3)).sum(-2).flatten(-2)
    return (x.unsqueeze(-2) * decay.unsqueeze(-4)).sum(-3).flatten(-2)


def _twice(before: Tensor, after: Tensor, states: int) -> Tensor:
    """One decay and then another."""
    if states == 1:
        return before * after
    return (after.unsqueeze(-2) * before.unsqueeze(-4)).sum(-3)


def _odd_even(x: Tensor) -> tuple[Tensor, Tensor]:
    """The even and the odd entries along the first dimension."""
    first, second = _apart(x, 0, len(x) // 2, 2).unbind(1)
    return first, second


def _pairs(reader: Tensor, writer: Tensor) -> Tensor:
    """`[…, steps, count, rows]` with the same of another, as a matrix."""
    reader, writer = reader.flatten(1, 2), writer.flatten(1, 2)
    if reader.shape[2] == 1:
        return reader * writer.mT
    if reader.shape[1] * writer.shape[1] > 2:
        return reader @ writer.mT
    return (reader.unsqueeze(2) * writer.unsqueeze(1)).sum(-1)


def _spots(kernel: Tensor, steps: int, stretch: int) -> Tensor:
    """Where the later halves of stretches of `stretch` steps see the earlier ones.

    `[chunks, stretches, c * half, w * half]` of a kernel; 1 is where a step sees itself.
    """
    many, high, wide = kernel.shape
    if stretch == 1:
        own = kernel.reshape(many, steps, high // steps, steps, wide // steps)
        return own.diagonal(0, 1, 3).movedim(-1, 1)
    count = steps // stretch
    sizes = (count, 2, high // count // 2, count, 2, wide // count // 2)
    below = kernel.reshape(many, *sizes)[:, :, 1, :, :, 0]
    return below.diagonal(0, 1, 3).movedim(-1, 1)


def _kernel(own: Tensor, across: Sequence[Tensor]) -> Tensor:
    """A kernel of what steps see of themselves, then of stretches of 2, 4, … steps."""
    many, steps, high, wide = own.shape
    some = across[-1] if across else own
    made = some.new_zeros(many, steps * high, steps * wide)
    _spots(made, steps, 1).copy_(own)
    for i, x in enumerate(across):
        spots = _spots(made, steps, 2 << i)
        spots.copy_(x.reshape(spots.shape))
    return made


def _tree(
    readers: Sequence[Tensor],
    writers: Sequence[Tensor],
    own: Sequence[Sequence[Tensor]],
    decay: Tensor,
    states: int,
) -> _Seen:
    """What readers see of the writers before them, all decays multiplied up as they come.

    The later half of a stretch of steps sees the earlier half from its middle: readers
    carried back to it times writers carried on to it are one matrix product; and so on in
    each half. No decay is ever divided by, so that any number may be one. `own` is what
    readers see of their own step.
    """
    many = len(decay)
    level = _Level(
        [x.flatten(0, 1).unsqueeze(1) for x in readers],
        [x.flatten(0, 1).unsqueeze(1) for x in writers],
        decay.flatten(0, 1),
    )
    levels: list[_Level] = []
    while len(level.total) > many:
        levels.append(level)
        level = _doubled(level, states)
    kernels = [
        [_kernel(x, _across(levels, i, j)) for j, x in enumerate(line)]
        for i, line in enumerate(own)
    ]
    early, late = (
        [x.flatten(1, 2) for x in xs] for xs in (level.readers, level.writers)
    )
    return _Seen(kernels, early, late, level.total, levels)


def _across(levels: Sequence[_Level], reader: int, writer: int) -> list[Tensor]:
    """What later halves of stretches see of earlier ones."""
    sides = [(x.readers[reader], x.writers[writer]) for x in levels]
    return [_pairs(_odd_even(x)[1], _odd_even(y)[0]) for x, y in sides]


def _doubled(level: _Level, states: int) -> _Level:
    """Stretches that are twice as long."""
    first, second = _odd_even(level.total)
    one = torch.ones_like(first)
    if states > 1:
        unit = torch.eye(states, dtype=first.dtype, device=first.device)
        one = one * unit.unsqueeze(-1)
    back, on = torch.stack([one, first], 1), torch.stack([second, one], 1)
    readers = [_all_carried(x, back, states) for x in level.readers]
    writers = [_all_carried(x, on, states, on=True) for x in level.writers]
    return _Level(readers, writers, _twice(first, second, states))


def _all_carried(x: Tensor, decay: Tensor, states: int, on: bool = False) -> Tensor:
    """Stretches over their own decay, each two of them as one stretch."""
    x = _apart(x, 0, len(decay), 2)
    return _carried(x, decay.unsqueeze(2), states, on).flatten(1, 2)


def _inverse(negative: Tensor) -> Tensor:
    """Of 1 and a strictly lower triangular matrix."""
    linalg: Any = torch.linalg
    one = torch.eye(negative.shape[1], dtype=negative.dtype, device=negative.device)
    one = one.expand_as(negative)
    left = len(one[0]) > 32  # from the other side it is faster for small ones
    return linalg.solve_triangular(
        negative, one, upper=False, unitriangular=True, left=left
    )
