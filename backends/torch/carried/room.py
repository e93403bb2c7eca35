"""Memory that is used again and again."""

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["_Room"]


class _Room:
    """Memory that groups of chunks use one after another: fresh memory is slow."""

    def __init__(self, like: Tensor, near: bool) -> None:
        self.like = like
        self.near = near  # whether all decays are large enough to divide by them
        self.parts: dict[str, Tensor] = {}

    def take(self, name: str, *shape: int) -> Tensor:
        """A tensor with anything in it."""
        x = self.parts.get(name)
        if x is None or x.shape != shape:
            x = self.parts[name] = self.like.new_empty(shape)
        return x

    def once(self, name: str, make: Callable[[], Tensor]) -> Tensor:
        """What is the same for all groups."""
        if name not in self.parts:
            self.parts[name] = make()
        return self.parts[name]

    def product(self, name: str, x: Tensor, y: Tensor) -> Tensor:
        """Of matrices."""
        return torch.bmm(x, y, out=self.take(name, len(x), x.shape[1], y.shape[2]))
