"""Extents of a call with matrix states, and how its sequences are cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from seqdsl.backends.triton.launch.tiles import Tiles, blocks, cut, tiles_of


@dataclass(frozen=True)
class Sizes:
    """Extents of a call, and how its sequences are cut."""

    batch: int
    time: int
    heads: int
    K: int
    V: int
    kind: str
    length: int
    segments: int

    @property
    def states(self) -> int:
        """How many states there are."""
        return self.batch * self.heads

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
    tiles = tiles_of(family, kind, "forward", K, V)
    programs = max(1, batch * heads * blocks(V, tiles.columns))
    length, segments = cut(tiles.chunk, programs, time, k.device)
    return Sizes(batch, time, heads, K, V, kind, length, segments)
