"""Memory that is used again and again."""

import math

from torch import Tensor

from seqdsl.runtime.pages import _unwritten  # pyright: ignore[reportPrivateUsage]

__all__ = ["_Room", "_room_like"]

_AT_ONCE = 1 << 20
"""Numbers that are asked for at once: memory so large is kept for the next call."""


def _room_like(x: Tensor, *shape: int) -> Tensor:
    """A tensor with anything in it."""
    return _unwritten(shape, x.dtype, x.device)


class _Room:
    """Memory for what groups of chunks use one after another: fresh memory is slow."""

    def __init__(self, like: Tensor) -> None:
        self.like = like
        self.block = like.new_empty(0)  # what is left of the last block

    def take(self, *shape: int) -> Tensor:
        """A tensor with anything in it, whose numbers begin at a whole line."""
        count = math.prod(shape)
        if count > len(self.block):
            self.block = _room_like(self.like, max(count, _AT_ONCE))
        made, self.block = self.block[:count], self.block[-(-count // 32) * 32 :]
        return made.view(shape)
