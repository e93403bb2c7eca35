"""Groups of chunks of one matrix state that are divided by decays where these are near 1."""

import torch
from torch import Tensor

from seqdsl.backends.torch.carried.chunks import _Steps
from seqdsl.backends.torch.carried.divided_chunks import _all_large, _Divided, _Kept
from seqdsl.backends.torch.carried.divided_chunks_back import _DividedBack
from seqdsl.backends.torch.carried.group_order import (
    _chunk_starts,
    _How,
    _in_groups,
)
from seqdsl.backends.torch.carried.room import _Room

__all__ = ["_NearGroups"]


class _NearGroups:
    """All groups, and the memory that those of so many chunks share."""

    def __init__(
        self, at: _Steps, starts: Tensor | None, how: _How, borders: Tensor
    ) -> None:
        self.how, self.like = how, borders
        self.large = _all_large(at.decay)
        named: list[list[Tensor] | list[None]] = []
        count = -(-at.writers()[0].shape[1] // how.group)
        for x in at:
            fill = 1 if x is at.decay else 0
            named.append([None] * count if x is None else _in_groups(x, how, fill))
        self.steps = [_Steps(*xs) for xs in zip(*named, strict=True)]
        self.starts: list[Tensor | None] = [None] * count
        if starts is not None:
            copies = at.writers()[0].shape[2]
            parts = torch.split(starts, how.group, 1)
            self.starts = [_chunk_starts(x, copies, how.size) for x in parts]
        self.made: dict[int, _Divided] = {}
        self.backs: dict[int, _DividedBack] = {}

    def meet(self, group: int, kept: _Kept | None) -> _Divided | None:
        """What steps of a group do; None where decays are not near 1, or nothing is read."""
        at, starts = self.steps[group], self.starts[group]
        near = at.decay is None or self.large or _all_large(at.decay)
        if not near or not at.readers():
            return None
        count = len(at.writers()[0])
        if count not in self.made:
            columns, room = self.like.shape[-1], _Room(self.like)
            segments = starts is not None
            made = _Divided(at, columns, segments, self.how.minus, room)
            self.made[count] = made
        made = self.made[count]
        return made if made.meet(at, starts, kept) else None

    def back(self, made: _Divided) -> _DividedBack:
        """For the gradients of a group that was met."""
        count = len(made.chunks)
        if count not in self.backs:
            self.backs[count] = _DividedBack(made)
        return self.backs[count]
