"""Memory that is used again and again."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from seqdsl.runtime.pages import _unwritten  # pyright: ignore[reportPrivateUsage]

__all__ = ["_Room"]

_BLOCK = 1 << 20
"""Numbers that are asked for at once: memory so large is kept for the next call."""


class _Room:
    """Memory that groups of chunks use one after another: fresh memory is slow."""

    def __init__(self, like: Tensor, near: bool) -> None:
        self.like = like
        self.near = near  # whether all decays are large enough to divide by them
        self.parts: dict[str, Tensor] = {}
        self.block = like.new_empty(0)  # what is left of the last block

    def take(self, name: str, *shape: int) -> Tensor:
        """A tensor with anything in it."""
        x = self.parts.get(name)
        if x is None or x.shape != shape:
            x = self.parts[name] = self._more(math.prod(shape)).view(shape)
        return x

    def _more(self, count: int) -> Tensor:
        """So many numbers that nothing else has; a block's parts begin at whole lines."""
        if count > len(self.block):
            shape = (max(count, _BLOCK),)
            self.block = _unwritten(shape, self.like.dtype, self.like.device)
        made, self.block = self.block[:count], self.block[-(-count // 32) * 32 :]
        return made

    def once(self, name: str, make: Callable[[], Tensor]) -> Tensor:
        """What is the same for all groups."""
        if name not in self.parts:
            self.parts[name] = make()
        return self.parts[name]

    def product(self, name: str, x: Tensor, y: Tensor) -> Tensor:
        """Of matrices."""
        return torch.bmm(x, y, out=self.take(name, len(x), x.shape[1], y.shape[2]))
