"""Extents of a call with matrix states, and how its sequences are cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from seqdsl.backends.triton.launch.tiles import (
    Key,
    Tiles,
    blocks,
    cut,
    key_of,
    tiles_of,
)


@dataclass(frozen=True)
class Sizes:
    """Extents of a call, bytes of an entry, and how its sequences are cut."""

    family: str
    batch: int
    time: int
    heads: int
    K: int
    V: int
    kind: str
    width: int
    length: int
    segments: int

    @property
    def states(self) -> int:
        """How many states there are."""
        return self.batch * self.heads

    def key(self, direction: str) -> Key:
        """What its tiles depend on."""
        return key_of(
            self.family, self.kind, direction, self.K, self.V, self.width,
            self.time, self.states,
        )  # fmt: skip

    def tiles(self, direction: str) -> Tiles:
        """The tiles that its kernels run with."""
        return tiles_of(self.key(direction))

    def constants(self, tiles: Tiles) -> dict[str, Any]:
        """What kernels are compiled for."""
        return {
            "H": self.heads,
            "K": self.K,
            "V": self.V,
            "C": tiles.chunk,
            "BK": tiles.rows,
            "BV": tiles.columns,
            "DECAY": self.kind,
            "num_warps": tiles.warps,
            "num_stages": tiles.stages,
        }


def sizes_of(family: str, k: Tensor, v: Tensor, g: Tensor | None) -> Sizes:
    """The sizes of a call; a sequence is cut alike forwards and backwards."""
    (batch, time, heads, K), V = k.shape, v.shape[-1]
    kind = "none" if g is None else "scalar" if g.dim() == 3 else "channel"
    width = k.element_size()
    tiles = tiles_of(key_of(family, kind, "forward", K, V, width, time, batch * heads))
    programs = max(1, batch * heads * blocks(V, tiles.columns))
    length, segments = cut(tiles.chunk, programs, time, k.device)
    return Sizes(family, batch, time, heads, K, V, kind, width, length, segments)
